package keys

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/vfs"
)

// Shred destroys all keys of a store that nobody has open: its data keys
// first, then the keysets, the newest last. So one that was interrupted can be
// repeated; when it was done already, and for good, it is ErrKey. op has to
// open the newest keyset, which says that the store is the caller's to
// destroy; whether the data keys can be read does not matter.
func Shred(ctx context.Context, fsys vfs.FS, op Operator) error {
	l, err := list(fsys)
	if err != nil {
		return err
	}
	newest, err := newestKeyset(fsys, l)
	if err != nil {
		if len(l.keys)+len(l.keysets) == 0 { // the process may have died before that was durable
			return errors.Join(err, removeAll(fsys, Dir, nil))
		}
		return err
	}
	if _, err := openKeyset(ctx, newest, op); err != nil {
		return err
	}
	// A file that was not finished may hold a wrapped key too.
	unfinished, err := fsys.List(disk.TmpDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var doomed []string
	for _, i := range unfinished {
		if i.Regular {
			doomed = append(doomed, disk.TmpDir+"/"+i.Name)
		}
	}
	if err := removeAll(fsys, disk.TmpDir, doomed); err != nil {
		return err
	}
	doomed = nil
	for id, generations := range l.keys {
		for _, g := range generations {
			doomed = append(doomed, keyName(id, g))
		}
	}
	if err := removeAll(fsys, Dir, doomed); err != nil {
		return err
	}
	// One by one, so that what is left begins with the newest at every moment.
	for _, n := range l.keysets {
		if err := removeAll(fsys, Dir, []string{disk.Name(Dir, n, keysetSuffix)}); err != nil {
			return err
		}
	}
	return nil
}

// removeAll takes files of a directory away: these, and what was removed
// before, are gone for good when it returns.
func removeAll(fsys vfs.FS, dir string, names []string) error {
	for _, name := range names {
		if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove: %w", err)
		}
	}
	if err := fsys.SyncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
