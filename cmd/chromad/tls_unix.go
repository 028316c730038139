//go:build unix

package main

import (
	"fmt"
	"os"
)

// ownersAlone refuses a secret that other users can read. what is how errors
// call it.
func ownersAlone(what, path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if mode := st.Mode().Perm(); mode&0o007 != 0 {
		return fmt.Errorf("%s %s: everybody on this machine can read it (mode %04o); chmod 600 %s", what, path, mode, path)
	}
	return nil
}
