package main

import (
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

// memoryPlan is how the memory of the process is divided.
type memoryPlan struct {
	memtables int64 // Options.MemoryLimit; 0: the engine's default
	segments  int64 // Options.SegmentMemory; 0: the engine's default
	answers   int64 // Admission.Memory; 0: the server's default
}

// gcPercent is GOGC where the heap has a limit.
const gcPercent = 200

// planMemory divides what the process may use: asked for, or GOMEMLIMIT, or
// what the container allows. Memtables get a quarter, bodies and answers an eighth. The hot parts of segments,
// and what is decrypted, get half and lie outside of Go's heap, so that Go's own
// limit is what they leave. A GOMEMLIMIT beside --memory is left alone.
//
// With a limit to hold it the heap may grow to three times what is in use
// before it is collected, not to twice: writes cost a twentieth less. GOGC wins.
func planMemory(asked int64) memoryPlan {
	inherited := os.Getenv("GOMEMLIMIT") != ""
	total := asked
	if total == 0 && inherited {
		if set := debug.SetMemoryLimit(-1); set != math.MaxInt64 {
			total = set
		}
	}
	if total == 0 {
		// What the kernel counts and Go does not (page tables, the binary,
		// stacks of the system) needs room too.
		total = containerLimit() / 10 * 9
	}
	if total == 0 {
		return memoryPlan{}
	}
	p := memoryPlan{memtables: total / 4, segments: total / 2, answers: total / 8}
	if asked == 0 || !inherited {
		debug.SetMemoryLimit(total - p.segments)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	return p
}

// containerLimit is what the control group of this process may use, 0 when
// there is no limit, or none that can be read.
func containerLimit() int64 {
	for _, file := range []string{
		"/sys/fs/cgroup/memory.max",                   // version 2
		"/sys/fs/cgroup/memory/memory.limit_in_bytes", // version 1
	} {
		if b, err := os.ReadFile(file); err == nil {
			return parseLimit(string(b))
		}
	}
	return 0
}

// parseLimit reads what the kernel writes: a number, "max" for no limit, or,
// in version 1, a number that is more than any machine has.
func parseLimit(s string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil || n <= 0 || n >= 1<<60 {
		return 0
	}
	return n
}
