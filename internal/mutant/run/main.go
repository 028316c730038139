package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chromad/chromad/internal/mutant"
)

func main() {
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage, from the root of the repository: go run ./internal/mutant/run [mutant...]")
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only []string) error {
	jobs, err := jobsOf(only)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	begin := time.Now()
	if err := errors.Join(nothingRemains(ctx, work), build(ctx, work, jobs)); err != nil {
		return err
	}
	fmt.Printf("built in %.0f s\n", time.Since(begin).Seconds())
	runAll(ctx, work, jobs)
	if err := ctx.Err(); err != nil {
		return err
	}
	bad := report(jobs)
	fmt.Printf("%.0f s in all\n", time.Since(begin).Seconds())
	if bad > 0 {
		return fmt.Errorf("%d of %d runs did not end as they should", bad, len(jobs))
	}
	return nil
}

// job is one run of a suite: with a mutant, which it has to find, or without,
// when it has to pass.
type job struct {
	suite
	name mutant.Name // "": none

	verdict string // why the run is not as it should be, "" when it is
	output  string
	took    time.Duration
}

// jobsOf lists the runs: each suite as it is, then those of the mutants.
func jobsOf(only []string) (jobs []*job, err error) {
	for _, name := range only {
		if !slices.ContainsFunc(table, func(r row) bool { return string(r.name) == name }) {
			return nil, fmt.Errorf("no mutant is called %q", name)
		}
	}
	var planted []*job
	seen := map[string]bool{}
	for _, r := range table {
		if len(only) > 0 && !slices.Contains(only, string(r.name)) {
			continue
		}
		for _, s := range r.suites {
			planted = append(planted, &job{suite: s, name: r.name})
			if key := s.pkg + " " + s.tests; !seen[key] {
				seen[key] = true
				// The short form: here it only has to show that the tests do not
				// fail by themselves. The long one is a step of its own.
				jobs = append(jobs, &job{suite: suite{s.pkg, s.tests, nil}})
			}
		}
	}
	return append(jobs, planted...), nil
}

func binary(work, pkg string) string {
	return filepath.Join(work, strings.ReplaceAll(pkg, "/", "-")+".test")
}

// nothingRemains builds the command as everybody does and demands that nothing
// of a hook is in it: no call, no name, no variable of the environment.
func nothingRemains(ctx context.Context, work string) error {
	name := filepath.Join(work, "chromad")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", name, "./cmd/chromad")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	program, err := os.ReadFile(name)
	for _, trace := range []string{"internal/mutant", variable} {
		if bytes.Contains(program, []byte(trace)) {
			err = errors.Join(err, fmt.Errorf("%q is in a normal build of the command", trace))
		}
	}
	return err
}

// build makes the test binaries, each once, with the hooks in them.
func build(ctx context.Context, work string, jobs []*job) error {
	built := map[string]bool{}
	for _, j := range jobs {
		if built[j.pkg] {
			continue
		}
		built[j.pkg] = true
		cmd := exec.CommandContext(ctx, "go", "test", "-c", "-tags", "mutants", "-o", binary(work, j.pkg), "./"+j.pkg)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", cmd, err, out)
		}
	}
	return nil
}

// runAll runs as many at a time as there are cores.
func runAll(ctx context.Context, work string, jobs []*job) {
	queue := make(chan *job)
	var wg sync.WaitGroup
	for range runtime.NumCPU() {
		wg.Go(func() {
			for j := range queue {
				j.run(ctx, work)
			}
		})
	}
	for _, j := range jobs {
		if ctx.Err() == nil {
			queue <- j
		}
	}
	close(queue)
	wg.Wait()
}

// variable names the mutant for package mutant.
const variable = "CHROMAD_MUTANT"

// limit is how long a run may take. A suite that hangs has found nothing.
const limit = 3 * time.Minute

func (j *job) run(ctx context.Context, work string) {
	ctx, cancel := context.WithTimeout(ctx, limit+10*time.Second)
	defer cancel()
	args := append([]string{"-test.run=^(" + j.tests + ")$", "-test.failfast", "-test.timeout=" + limit.String()}, j.flags...)
	cmd := exec.CommandContext(ctx, binary(work, j.pkg), args...)
	cmd.Dir = j.pkg
	cmd.Env = append(os.Environ(), variable+"="+string(j.name), "TMPDIR="+work)
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	j.took, j.output = time.Since(begin), string(out)
	_, failed := errors.AsType[*exec.ExitError](err)
	switch {
	case err != nil && !failed:
		j.verdict = err.Error()
	case strings.Contains(j.output, "no tests to run"):
		j.verdict = "there is no such test"
	case ctx.Err() != nil, strings.Contains(j.output, "panic: test timed out"):
		j.verdict = "hung"
	case j.name == "" && failed:
		j.verdict = "fails without a mutant"
	case j.name != "" && !failed:
		j.verdict = "SURVIVED"
	}
}

// report prints what was found by whom, and returns how many runs are wrong.
func report(jobs []*job) (bad int) {
	fmt.Printf("\n%-24s %-14s %-44s %8s\n", "mutant", "package", "found by", "seconds")
	for _, j := range jobs {
		name := string(j.name)
		if name == "" {
			name = "(none: passes)"
		}
		fmt.Printf("%-24s %-14s %-44s %8.1f  %s\n", name, j.pkg, j.tests, j.took.Seconds(), j.verdict)
		if j.verdict != "" {
			bad++
		}
	}
	for _, j := range jobs {
		if j.verdict != "" && j.verdict != "SURVIVED" {
			fmt.Printf("\n%s %s %s: %s\n%s\n", j.name, j.pkg, j.tests, j.verdict, j.output[max(0, len(j.output)-4000):])
		}
	}
	return bad
}
