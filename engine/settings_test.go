package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/chromad/chromad/internal/vfs/faultfs"
)

func set(db *DB, name, value string) error {
	return db.ChangeSetting(context.Background(), name, func([]byte) ([]byte, error) { return []byte(value), nil })
}

// Settings are there after a restart, from the log and from a checkpoint, and
// stay when everything else is deleted.
func TestSettings(t *testing.T) {
	ctx := t.Context()
	for _, op := range []OperatorKey{nil, operator("a")} {
		fs := faultfs.New(1)
		db := openOn(t, fs, Options{Keys: op})
		want := func(when, name, value string) {
			t.Helper()
			if got, err := db.Setting(ctx, name); err != nil || string(got) != value || (value == "") != (got == nil) {
				t.Errorf("%s: %s is %q, %v", when, name, got, err)
			}
		}
		reopen := func() {
			t.Helper()
			check(t, db.Close())
			db = openOn(t, fs, Options{Keys: op})
		}
		want("never set", "access", "")
		check(t, set(db, "access", "one"))
		check(t, set(db, "other", "two"))
		want("set", "access", "one")
		check(t, db.Reset(ctx))
		want("after a reset", "access", "one")
		cut := fs.CrashWith(rand.New(rand.NewPCG(1, 1)), faultfs.Cut{Sector: 512}) // the log alone has them
		_ = db.Close()                                                             // it has no disk any more
		fs = cut
		db = openOn(t, fs, Options{Keys: op})
		want("after a crash", "access", "one")
		check(t, db.writeCheckpoint(ctx))
		check(t, set(db, "other", ""))
		reopen()
		want("after a restart", "access", "one")
		want("removed", "other", "")
		check(t, db.Close())
	}
}

// A value belongs to who asks for it.
func TestSettingCopied(t *testing.T) {
	db, _ := newDB(t, Options{})
	value := []byte("abc")
	check(t, db.ChangeSetting(t.Context(), "s", func([]byte) ([]byte, error) { return value, nil }))
	value[0] = 'X'
	got, err := db.Setting(t.Context(), "s")
	check(t, err)
	got[1] = 'X'
	no := errors.New("no")
	if err := db.ChangeSetting(t.Context(), "s", func(old []byte) ([]byte, error) { old[2] = 'X'; return nil, no }); !errors.Is(err, no) {
		t.Errorf("refused: %v", err)
	}
	if got, _ := db.Setting(t.Context(), "s"); string(got) != "abc" {
		t.Errorf("%q", got)
	}
}

func TestSettingRefused(t *testing.T) {
	db, _ := newDB(t, Options{})
	if err := set(db, "", "v"); !errors.Is(err, ErrInvalid) {
		t.Errorf("no name: %v", err)
	}
	if err := set(db, "s", strings.Repeat("x", maxSetting+1)); !errors.Is(err, ErrInvalid) {
		t.Errorf("too large: %v", err)
	}
	check(t, set(db, "s", strings.Repeat("x", maxSetting)))
	end := db.log.End()
	check(t, set(db, "s", strings.Repeat("x", maxSetting)))
	if db.log.End() != end {
		t.Error("what changes nothing was logged")
	}
}

// Changes that read what was there lose none.
func TestSettingConcurrent(t *testing.T) {
	db, _ := newDB(t, Options{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if err := db.ChangeSetting(context.Background(), "n", func(old []byte) ([]byte, error) {
					var n int
					fmt.Sscan(string(old), &n)
					return fmt.Append(nil, n+1), nil
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got, _ := db.Setting(t.Context(), "n"); string(got) != "160" {
		t.Errorf("%s changes of 160", got)
	}
}
