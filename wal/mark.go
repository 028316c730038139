package wal

import (
	"errors"
	iofs "io/fs"
	"slices"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/mutant"
	"github.com/chromad/chromad/internal/vfs"
)

// The mark is an empty file that bears the number of the newest file of the
// log. It is made before that file is given an entry of its own, so a log
// without its newest files is not taken for one that never had them. The name
// alone says it: nothing is ever written into a file of the log that is
// finished, and nothing that was acknowledged is renamed.

const (
	markSuffix    = ".newest"
	markTmpSuffix = markSuffix + tmpSuffix
)

func markName(number uint64) string    { return disk.Name(dir, number, markSuffix) }
func markTmpName(number uint64) string { return disk.Name(dir, number, markTmpSuffix) }

// draftMark prepares a mark under its temporary name, so that a full disk is met
// before the file that it is for is there. soft is as with create.
func draftMark(fs vfs.FS, number uint64) (soft bool, err error) {
	f, err := fs.Create(markTmpName(number))
	if err != nil {
		return true, err
	}
	return false, errors.Join(f.Sync(), f.Close())
}

// setMark makes a drafted mark count. The file is durable under its name.
func setMark(fs vfs.FS, number uint64) error {
	if err := fs.Rename(markTmpName(number), markName(number)); err != nil {
		return err
	}
	if mutant.On(mutant.LogDirNotSynced) {
		return nil
	}
	return fs.SyncDir(dir)
}

// removeMarks removes marks that a larger one has made meaningless.
func removeMarks(fs vfs.FS, numbers ...uint64) (err error) {
	for _, n := range numbers {
		if e := fs.Remove(markName(n)); !errors.Is(e, iofs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// listing is what the directory of the log holds.
type listing struct {
	files  []file   // ascending by number
	marks  []uint64 // ascending; the last one counts
	number uint64   // the largest of a file
}

// list reads the directory. A missing one holds nothing.
func list(fs vfs.FS) (found listing, err error) {
	infos, err := fs.List(dir)
	if err != nil {
		if errors.Is(err, iofs.ErrNotExist) {
			err = nil
		}
		return found, err
	}
	for _, i := range infos { // sorted by name, so by number
		if n, ours := disk.Number(i.Name, markSuffix); ours {
			found.marks = append(found.marks, n)
		}
		n, ours := disk.Number(i.Name, suffix)
		if !ours {
			continue
		}
		if !i.Regular {
			return listing{}, corrupt(fileName(n), 0, "not a regular file")
		}
		found.files = append(found.files, file{number: n, size: i.Size})
		found.number = n
	}
	return found, nil
}

// missing is the newest file, if it should be there and is not.
func (l listing) missing() error {
	if len(l.marks) == 0 || mutant.On(mutant.MarkIgnored) {
		return nil
	}
	newest := l.marks[len(l.marks)-1]
	if slices.ContainsFunc(l.files, func(f file) bool { return f.number == newest }) {
		return nil
	}
	return corrupt(fileName(newest), 0, "file is missing, and %s says that the log goes on in it", markName(newest))
}

// unmarked is what is wrong with a log without a mark whose newest file is r,
// if anything is: only the very first file may be without, before its first
// entry.
func (r *reader) unmarked() error {
	if r.begin.Seq == 1 && r.off == r.win.size {
		return nil
	}
	return corrupt(dir, 0, "no *%s file, so the files after %s may be missing", markSuffix, r.name)
}
