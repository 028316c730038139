//go:build unix

package engine

import "golang.org/x/sys/unix"

func fifo(name string) error { return unix.Mkfifo(name, 0o600) }
