//go:build !unix

package keys

import (
	"io/fs"
	"os"
)

// Access lists are not looked at: a directory that others cannot enter is what
// protects the file.
func readableByOthers(string, fs.FileInfo) (detail, check string) { return "", "" }

// keepOwner has nothing to do: a new file belongs to who makes it.
func keepOwner(*os.File, fs.FileInfo) error { return nil }

// syncDir has nothing to do: directories cannot be synced here.
func syncDir(string) error { return nil }
