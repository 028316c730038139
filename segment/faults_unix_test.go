//go:build unix

package segment

import "syscall"

// pageFaults is how many pages the kernel has mapped for this process so far.
func pageFaults() int64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return int64(u.Minflt) + int64(u.Majflt)
}
