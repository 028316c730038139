package vfs

import (
	"errors"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// rename asks the kernel not to replace. The parents are opened through the
// root, so that the call itself sees base names only and cannot leave it.
func (r *Root) rename(oldname, newname string) error {
	from, err := r.root.OpenFile(path.Dir(oldname), os.O_RDONLY|nonblock, 0)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := r.root.OpenFile(path.Dir(newname), os.O_RDONLY|nonblock, 0)
	if err != nil {
		return err
	}
	defer to.Close()
	for {
		err = unix.Renameat2(int(from.Fd()), path.Base(oldname), int(to.Fd()), path.Base(newname), unix.RENAME_NOREPLACE)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
			return r.link(oldname, newname) // the file system does not know the flag
		}
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: err}
	}
}
