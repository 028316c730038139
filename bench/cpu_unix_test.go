//go:build unix

package main

import (
	"syscall"
	"testing"
	"time"
)

// cpu is the processor time of this process so far: on a machine that others
// use too, it is what can be compared.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
