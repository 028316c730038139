package engine

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// TestLostLog takes the newest file of the log, or the whole log, away from a
// store. It is told, unless all is gone before there was a second checkpoint:
// the first one is written before there is a log.
func TestLostLog(t *testing.T) {
	for _, closed := range []bool{false, true} {
		for _, all := range []bool{false, true} {
			fs := faultfs.New(1)
			db := openOn(t, fs, Options{})
			err := newCollection(t, db, "c").Add(t.Context(), rec("a", 1))
			disk := fs.Clone()
			if err := errors.Join(err, db.Close()); err != nil {
				t.Fatal(err)
			}
			if closed {
				disk = fs.Clone()
			}
			files := slices.DeleteFunc(disk.Files(), func(n string) bool { return !strings.HasPrefix(n, "log/") })
			for _, name := range files {
				if all || strings.HasSuffix(name, ".wal") {
					if err := disk.Remove(name); err != nil {
						t.Fatal(err)
					}
				}
			}
			again, err := Open("", &Options{fs: disk, reserve: testReserve})
			if told := errors.Is(err, ErrCorrupt); told == (all && !closed) {
				t.Errorf("closed %v, all %v: %v", closed, all, err)
			}
			if err == nil {
				check(t, again.Close())
			} else if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
		}
	}
}
