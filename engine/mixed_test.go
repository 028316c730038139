package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
	"github.com/chromad/chromad/wal"
)

// plainLog is a file of a log that is not encrypted and fits behind everything:
// what somebody makes who has read the headers of a store.
func plainLog(t testing.TB, store seal.ID, number uint64) []byte {
	t.Helper()
	fs := faultfs.New(1)
	for n := range number { // files are numbered one by one
		l, err := wal.Open(fs, wal.Position{}, wal.Options{Store: store, Existing: n > 0})
		check(t, err)
		for _, err := range l.Replay() {
			check(t, err)
		}
		_, err = l.Commit(t.Context(), (&catalogEntry{op: opReset}).append(nil))
		check(t, err)
		check(t, l.Close())
	}
	return content(t, fs, disk.Name("log", number, ".wal"))
}

// TestMixedFiles puts files that are not encrypted into a store that is, and
// the other way round, with all checksums right and every header what it should
// be: ErrKey or damage, nothing is written, and nothing of the stranger's is read.
func TestMixedFiles(t *testing.T) {
	ctx := t.Context()
	sealed, m := aStore(t, operator("a"))
	plain, _ := aStore(t, nil)
	ring := openOn(t, sealed.Clone(), Options{Keys: operator("a")})
	t.Cleanup(func() { ring.Close() })
	for _, tc := range []struct {
		name     string
		fs, from *faultfs.FS
		op       OperatorKey
		keys     seal.Keys
	}{
		{"plain in encrypted", sealed, plain, operator("a"), ring.keys},
		{"encrypted in plain", plain, sealed, nil, seal.Plain()},
	} {
		for _, to := range tc.fs.Files() {
			dir, _, _ := strings.Cut(to, "/")
			if dir != segmentDir && dir != checkpointDir && !strings.HasSuffix(to, ".wal") {
				continue
			}
			h, err := disk.ReadHeader(tc.fs, to)
			check(t, err)
			var b []byte
			if h.Kind == seal.KindLog {
				if tc.op == nil {
					continue // those have a seal at the front, and are refused for their store
				}
				b = plainLog(t, h.Store, h.Number)
			} else {
				for _, from := range tc.from.Files() {
					if strings.HasPrefix(from, dir+"/") {
						b = content(t, tc.from, from)
					}
				}
				was, err := disk.DecodeHeader(b)
				check(t, err)
				forged := h
				forged.KeyID = was.KeyID
				b = reheaded(b, forged)
			}
			left := replaced(t, tc.fs, to, b)
			before := contents(t, left)
			refused, torn, err := judge(ctx, left, tc.op, m, m)
			if !refused || torn || err != nil {
				t.Errorf("%s, %s: refused %v, torn %v, %v", tc.name, to, refused, torn, err)
			}
			if h.Kind != seal.KindLog {
				if _, err := disk.OpenFile(left, to, h, disk.Info{}, tc.keys); !errors.Is(err, ErrKey) {
					t.Errorf("%s, %s: %v for who knows no root", tc.name, to, err)
				}
			}
			if !maps.Equal(before, contents(t, left)) {
				t.Errorf("%s, %s: something was written", tc.name, to)
			}
		}
	}
}

// TestPlainLogBehind puts a file of a log that is not encrypted behind those of
// an encrypted store, with its mark: it would delete everything.
func TestPlainLogBehind(t *testing.T) {
	fs, m := aStore(t, operator("a"))
	store := storeOf(t, fs)
	last := uint64(0)
	for _, name := range fs.Files() {
		if n, ok := disk.Number(strings.TrimPrefix(name, "log/"), ".wal"); ok {
			last = max(last, n)
		}
	}
	for _, mark := range []bool{false, true} {
		left := fs.Clone()
		put(t, left, disk.Name("log", last+1, ".wal"), plainLog(t, store, last+1))
		if mark {
			put(t, left, disk.Name("log", last+1, ".newest"), nil)
		}
		if refused, torn, err := judge(t.Context(), left, operator("a"), m, m); !refused || torn || err != nil {
			t.Errorf("with its mark %v: refused %v, torn %v, %v", mark, refused, torn, err)
		}
	}
}

// TestCutKeys cuts the files of keys at every length: refused with an error that
// names the file, nothing is written.
func TestCutKeys(t *testing.T) {
	heavy(t)
	fs, m := aStore(t, operator("a"))
	for _, name := range fs.Files() {
		if !strings.HasPrefix(name, "keys/") {
			continue
		}
		whole := content(t, fs, name)
		for n := range whole {
			left := replaced(t, fs, name, whole[:n])
			before := contents(t, left)
			db, err := Open("", &Options{Keys: operator("a"), ReadOnly: true, fs: left})
			if err == nil {
				err = errors.Join(findEverything(context.Background(), db, m), db.Close())
			}
			if !refusal(err) || !strings.Contains(fmt.Sprint(err), name) {
				t.Fatalf("%s of %d bytes: %v", name, n, err)
			}
			if !maps.Equal(before, contents(t, left)) {
				t.Fatalf("%s of %d bytes: something was written", name, n)
			}
		}
	}
}
