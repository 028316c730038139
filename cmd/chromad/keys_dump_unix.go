//go:build unix && !linux

package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// noDumps keeps keys in memory out of core dumps.
func noDumps() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("turning core dumps off: %w", err)
	}
	return nil
}
