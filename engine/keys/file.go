package keys

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// CreateFile makes a key file with one new key. The file is the owner's alone
// (0600) and is on disk when CreateFile returns. Something that has the name
// already, a symbolic link too, is left as it is: fs.ErrExist.
func CreateFile(path string) error {
	text, err := Generate()
	if err != nil {
		return fmt.Errorf("key file %s: %w", path, err)
	}
	defer clear(text)
	if err := writeFile(path, text, nil); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("key file %s is there already and is not overwritten: %w", path, fs.ErrExist)
		}
		return fmt.Errorf("key file: %w", err)
	}
	return nil
}

// writeFile makes a file that was not there before, durably or not at all. It
// gets the owner of like, if that is given.
func writeFile(path string, text []byte, like fs.FileInfo) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(path)
		}
	}()
	if like != nil {
		if err := keepOwner(f, like); err != nil {
			return err
		}
	}
	if _, err := f.Write(text); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// OpenFile opens a key file. It must be a regular file that nobody but its
// owner can read or change (on Unix; elsewhere permissions are not looked at).
// A symbolic link is followed, as mounted secrets are made of them: what counts
// is the file that it leads to.
func OpenFile(path string) (Operator, error) {
	uri := fileURI(path)
	text, _, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return newLocal(uri, "check that it is the key file that the store was made with", "chromad keys create --out FILE", text)
}

// readFile reads at most maxKeyset+1 bytes of a key file whose permissions are
// right. Its errors are those of OpenFile.
func readFile(path string) ([]byte, fs.FileInfo, error) {
	fail := func(detail, check string) ([]byte, fs.FileInfo, error) {
		return nil, nil, &Error{URI: fileURI(path), Op: "open", Kind: ErrConfig, Detail: detail, Check: check}
	}
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() { // opening a pipe would wait for its other end
		return fail("it is not a regular file", "name a file that chromad keys create --out FILE has made")
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fail("there is no such file", "make one with: chromad keys create --out "+path)
	} else if err != nil {
		return fail(err.Error(), "check that this process may read it")
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil { // of what is open, whatever has the name by now
		return fail(err.Error(), "check the file system")
	}
	if !info.Mode().IsRegular() {
		return fail("it is not a regular file", "name a file that chromad keys create --out FILE has made")
	}
	if detail, check := readableByOthers(path, info); detail != "" {
		return fail(detail, check)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyset+1))
	if err != nil {
		clear(text)
		return fail(err.Error(), "check the file system")
	}
	return text, info, nil
}

// fileURI is the URI of a path: absolute, so that it means the same wherever
// the process is started.
func fileURI(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") { // a drive letter
		path = "/" + path
	}
	return (&url.URL{Scheme: "file", Path: path}).String()
}

// filePath is the path in a file:// URI.
func filePath(uri string) (string, error) {
	u, err := url.Parse(uri)
	if err != nil || u.Host != "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || len(u.Path) < 2 {
		return "", &Error{URI: uri, Op: "open", Kind: ErrConfig, Detail: "it names no file",
			Check: "write file:///absolute/path, with %20 for a space and so on, or the path alone"}
	}
	path := filepath.FromSlash(u.Path)
	if drive := strings.TrimPrefix(path, string(filepath.Separator)); filepath.VolumeName(drive) != "" {
		return drive, nil
	}
	return path, nil
}
