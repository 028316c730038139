//go:build unix

package keys_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/chromad/chromad/engine/keys"
)

func TestFilePermissions(t *testing.T) {
	path := newFile(t)
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Fatalf("made with %v, %v; want 0600", info.Mode(), err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for mode, good := range map[os.FileMode]bool{
		0o600: true, 0o400: true, 0o700: true,
		0o640: false, 0o620: false, 0o610: false, 0o604: false, 0o602: false, 0o601: false, 0o644: false, 0o666: false,
	} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{path, link} {
			_, err := keys.OpenFile(p)
			if good && err != nil {
				t.Errorf("%04o: %v", mode, err)
			}
			mend := fmt.Sprintf("chmod 600 %q", p)
			if !good && (!errors.Is(err, keys.ErrConfig) || !strings.Contains(err.Error(), mend)) {
				t.Errorf("%04o: %v, want ErrConfig with %s", mode, err, mend)
			}
		}
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := keys.AddKey(path); !errors.Is(err, keys.ErrConfig) {
		t.Errorf("AddKey to a file that others can read: %v", err)
	}
}

func TestFileRotatedKeepsMode(t *testing.T) {
	path := newFile(t)
	if os.Geteuid() == 0 { // as root for somebody else: the file stays theirs
		if err := os.Chown(path, 12345, 12346); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.AddKey(path); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	was, is := before.Sys().(*syscall.Stat_t), after.Sys().(*syscall.Stat_t)
	if was.Uid != is.Uid || was.Gid != is.Gid || after.Mode() != 0o600 || was.Ino == is.Ino {
		t.Errorf("owner %d:%d became %d:%d, mode %v, same inode: %v", was.Uid, was.Gid, is.Uid, is.Gid, after.Mode(), was.Ino == is.Ino)
	}
}

// What is not a file is refused at once: a pipe without a writer would wait.
func TestFileNotRegular(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{pipe, t.TempDir(), "/dev/null"} {
		if _, err := keys.OpenFile(p); !errors.Is(err, keys.ErrConfig) || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%s: %v", p, err)
		}
	}
}
