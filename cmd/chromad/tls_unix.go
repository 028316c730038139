//go:build unix

package main

import (
	"fmt"
	"os"
)

// ownersAlone refuses a private key that other users can read.
func ownersAlone(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("tls: %w", err)
	}
	if mode := st.Mode().Perm(); mode&0o007 != 0 {
		return fmt.Errorf("tls: private key %s: everybody on this machine can read it (mode %04o); chmod 600 %s", path, mode, path)
	}
	return nil
}
