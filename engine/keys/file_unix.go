//go:build unix

package keys

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// readableByOthers says what is wrong with the permissions of a key file, and
// the command that mends it.
func readableByOthers(path string, info fs.FileInfo) (detail, check string) {
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Sprintf("others than its owner can use it (mode %04o)", mode), fmt.Sprintf("mend it with: chmod 600 %q", path)
	}
	return "", ""
}

// keepOwner gives f the owner of another file.
func keepOwner(f *os.File, like fs.FileInfo) error {
	old, ok := like.Sys().(*syscall.Stat_t)
	if !ok || int(old.Uid) == os.Geteuid() {
		return nil
	}
	return f.Chown(int(old.Uid), int(old.Gid))
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
