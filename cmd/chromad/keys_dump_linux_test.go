package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/chromad/chromad/engine/keys"
)

// A process that has keys leaves no core dump, whatever limits it was started
// with, and cannot be looked into by others of its user.
func TestNoDumps(t *testing.T) {
	if !again(t, nil) {
		return
	}
	limit := unix.Rlimit{Cur: 1 << 20, Max: unix.RLIM_INFINITY}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &limit); err != nil { // not root, and a hard limit is there
		t.Logf("core dumps are limited already: %v", err)
	}
	must(t, noDumps())
	must(t, unix.Getrlimit(unix.RLIMIT_CORE, &limit))
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if limit.Cur != 0 || limit.Max != 0 || dumpable != 0 || err != nil {
		t.Errorf("limit %+v, dumpable %d, %v", limit, dumpable, err)
	}
}

// A server with keys takes those measures, one without leaves them to its
// operator; neither tells what the key is, not when it dies by a signal either.
func TestKeysInProcess(t *testing.T) {
	value, err := keys.GenerateEnv()
	must(t, err)
	t.Setenv("CHROMAD_TEST_KEY", value)
	var limit unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_CORE, &limit))
	for _, c := range []struct {
		args []string
		want bool
	}{{nil, limit.Cur == 0 && limit.Max == 0}, {[]string{"--keys", "env://CHROMAD_TEST_KEY"}, true}} {
		p := spawn(t, t.TempDir(), append(c.args, "--log-level", "debug")...)
		fill(t, p)
		limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.cmd.Process.Pid))
		must(t, err)
		if off := regexp.MustCompile(`(?m)^Max core file size\s+0\s+0\s`).Match(limits); off != c.want {
			t.Errorf("%q: core dumps off %t\n%s", c.args, off, limits)
		}
		must(t, p.cmd.Process.Signal(syscall.SIGQUIT)) // stacks of all goroutines, with arguments
		<-p.ended
		log := p.logged()
		if !strings.Contains(log, "goroutine ") || len(c.args) > 0 && !strings.Contains(log, "keys=env://CHROMAD_TEST_KEY") {
			t.Errorf("no stacks, or no name of the key:\n%s", log)
		}
		for i := 0; i+12 <= len(value); i += 4 {
			if strings.Contains(log, value[i:i+12]) {
				t.Fatalf("%q of a key was told:\n%s", value[i:i+12], log)
			}
		}
	}
}
