package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// noDumps keeps keys in memory out of core dumps, and out of reach of other
// processes of the same user (ptrace, /proc/PID/mem).
func noDumps() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("turning core dumps off: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("turning core dumps off: %w", err)
	}
	return nil
}
