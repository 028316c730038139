package wal

import (
	"errors"
	"testing"

	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// TestMark takes files and marks away from a log of three files, nine entries,
// and adds some.
func TestMark(t *testing.T) {
	type change = func(*faultfs.FS) error
	remove := func(numbers ...uint64) change {
		return func(fs *faultfs.FS) (err error) {
			for _, n := range numbers {
				err = errors.Join(err, fs.Remove(fileName(n)))
			}
			return err
		}
	}
	unmark := func(fs *faultfs.FS) error { return fs.Remove(markName(3)) }
	mark := func(n uint64) change {
		return func(fs *faultfs.FS) error {
			f, err := fs.Create(markName(n))
			return errors.Join(err, f.Close())
		}
	}
	rename := func(fs *faultfs.FS) error { return fs.Rename(fileName(3), fileName(4)) }
	o := Options{Store: seal.ID{1}}
	for _, c := range []struct {
		name    string
		from    uint64
		changes []change
		file    string // that is reported, "" for none
		entries int
	}{
		{"last missing", 1, []change{remove(3)}, fileName(3), 0},
		{"last missing, checkpoint at its beginning", 7, []change{remove(3)}, fileName(3), 0},
		{"last two missing", 1, []change{remove(2, 3)}, fileName(3), 0},
		{"all missing", 1, []change{remove(1, 2, 3)}, fileName(3), 0},
		{"mark missing", 1, []change{unmark}, dir, 0},
		{"last and mark missing", 1, []change{remove(3), unmark}, dir, 0},
		{"first alone, without mark", 1, []change{remove(2, 3), unmark}, dir, 0},
		{"renamed", 1, []change{rename}, fileName(3), 0},
		{"renamed with its mark", 1, []change{rename, unmark, mark(4)}, fileName(4), 0},
		{"mark of nothing", 1, []change{mark(4)}, fileName(4), 0},
		{"mark of a file before the last", 1, []change{unmark, mark(2)}, "", 9},
		{"two marks", 1, []change{mark(1)}, "", 9},
		{"last missing, mark set back by hand", 1, []change{remove(3), unmark, mark(2)}, "", 6},
		{"nothing left", 1, []change{remove(1, 2, 3), unmark}, "", 0},
		{"nothing left, checkpoint beyond", 2, []change{remove(1, 2, 3), unmark}, dir, 0},
	} {
		fs := shelf(t, o)
		for _, do := range c.changes {
			if err := do(fs); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
		}
		n, err := read(fs, c.from, o)
		if c.file != "" {
			wantCorrupt(t, c.name, c.file, err)
			continue
		}
		if err != nil || n != c.entries {
			t.Errorf("%s: %d entries, %v, want %d", c.name, n, err, c.entries)
		} else if err := useAndReopen(fs, c.from, o); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestMarkRefused goes on in the old file while there is no room, or no handle,
// for a mark, or no handle for giving the new file its name.
func TestMarkRefused(t *testing.T) {
	for _, refused := range []faultfs.Rule{
		{Op: faultfs.OpCreate, Path: "log/*" + markTmpSuffix, Err: vfs.ErrNoSpace, Forever: true},
		{Op: faultfs.OpCreate, Path: "log/*" + markTmpSuffix, Err: vfs.ErrNoHandle, Forever: true},
		{Op: faultfs.OpRename, Path: "log/*" + tmpSuffix, Err: vfs.ErrNoHandle, Forever: true},
	} {
		cause := refused.Err
		w := newWorld(0)
		if _, err := w.open(); err != nil {
			t.Fatal(err)
		}
		w.log.o.MaxFile = 1
		w.group(1)
		rule := w.disk.Inject(refused)
		w.group(1)
		if err := w.log.Rotate(); !errors.Is(err, cause) {
			t.Errorf("rotate: %v", err)
		}
		if files := walFiles(w.disk); len(files) != 1 || len(w.durable) != 2 || w.log.Err() != nil {
			t.Errorf("%v: files %v, %d entries, %v", cause, files, len(w.durable), w.log.Err())
		}
		rule.Remove()
		w.group(1)
		if files := walFiles(w.disk); len(files) != 2 || len(w.durable) != 3 {
			t.Errorf("%v, and gone: files %v, %d entries", cause, files, len(w.durable))
		}
		if err := errors.Join(w.log.Close(), w.settle(cuts[0])); err != nil {
			t.Error(err)
		}
	}
}
