package main

import (
	"math"
	"runtime/debug"
	"testing"
)

// TestPlanMemory: heap, with the memtables in it, and what is held of segments
// together stay within what was asked for.
func TestPlanMemory(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	const gib = 1 << 30
	for _, c := range []struct {
		name      string
		inherited string
		asked     int64
		want      memoryPlan
		heap      int64
	}{
		{"--memory", "", 8 * gib, memoryPlan{2 * gib, 4 * gib, gib}, 4 * gib},
		{"GOMEMLIMIT alone", "4GiB", 0, memoryPlan{gib, 2 * gib, gib / 2}, 2 * gib},
		{"GOMEMLIMIT beside --memory", "4GiB", 8 * gib, memoryPlan{2 * gib, 4 * gib, gib}, 4 * gib},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("GOMEMLIMIT", c.inherited)
			debug.SetMemoryLimit(math.MaxInt64)
			if c.inherited != "" {
				debug.SetMemoryLimit(4 * gib) // what the runtime does when it starts
			}
			if got := planMemory(c.asked); got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
			if heap := debug.SetMemoryLimit(-1); heap != c.heap {
				t.Errorf("heap of %d, want %d", heap, c.heap)
			}
		})
	}
}

// TestCollectLater: the heap may grow further where a limit holds it, and only
// there, and not against GOGC.
func TestCollectLater(t *testing.T) {
	limit, percent := debug.SetMemoryLimit(-1), debug.SetGCPercent(100)
	defer func() { debug.SetMemoryLimit(limit); debug.SetGCPercent(percent) }()
	t.Setenv("GOMEMLIMIT", "")
	for _, c := range []struct {
		gogc  string
		asked int64
		want  int
	}{{"", 1 << 30, gcPercent}, {"50", 1 << 30, 50}, {"", 0, 100}} {
		if c.asked == 0 && containerLimit() != 0 {
			continue // the container has a limit of its own
		}
		t.Setenv("GOGC", c.gogc)
		set := 100
		if c.gogc != "" {
			set = c.want // what the runtime does when it starts
		}
		debug.SetGCPercent(set)
		planMemory(c.asked)
		if got := debug.SetGCPercent(100); got != c.want {
			t.Errorf("GOGC %q, --memory %d: %d, want %d", c.gogc, c.asked, got, c.want)
		}
	}
}

func TestParseLimit(t *testing.T) {
	for in, want := range map[string]int64{
		"max\n": 0, "1073741824\n": 1 << 30, "9223372036854771712\n": 0, "": 0, "-1": 0, "0": 0, "1 GB": 0,
	} {
		if got := parseLimit(in); got != want {
			t.Errorf("%q: %d, want %d", in, got, want)
		}
	}
}
