//go:build unix

package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"

	"github.com/chromad/chromad/bench/peers/serve"
	"github.com/chromad/chromad/bench/plain"
	"github.com/chromad/chromad/internal/kernel"
)

const (
	wanted = 0.95
	rounds = 15
	passes = 4 // over the queries in a round
	builds = 3
)

func main() {
	write := flag.Bool("write", false, "remember what is measured")
	file := flag.String("file", "bench/ratios.json", "`file` of the ratios")
	child := flag.Bool("child", false, "answer the parent of a run: an ef a line in, seconds a query out")
	flag.Parse()
	run := func() error { return compare(*file, *write) }
	if *child {
		run = answer
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "speed:", err)
		os.Exit(1)
	}
}

func compare(file string, write bool) error {
	m, err := recall(file)
	if err != nil {
		return err
	}
	measured, err := measure()
	if err != nil {
		return err
	}
	if write {
		return m.remember(file, kernel.Name(), measured)
	}
	lines, fallen := judge(m[kernel.Name()], measured)
	for _, line := range lines {
		fmt.Println(line)
	}
	if fallen > 0 {
		return fmt.Errorf("%d of the ratios to bench/plain are more than a fifth below %s", fallen, file)
	}
	return nil
}

func small() *set { return newSet(20_000, 128, kernel.L2) }

// measure returns how many times as fast package hnsw is.
func measure() (map[string]float64, error) {
	out := map[string]float64{}
	for _, s := range []*set{small(), newSet(8_000, 384, kernel.Cosine)} {
		o, t, build, err := s.builds()
		if err != nil {
			return nil, err
		}
		out[fmt.Sprintf("build %d", s.dim)] = build
		name := fmt.Sprintf("search %d", s.dim)
		if out[name], err = s.searches(name, o, t, false); err != nil {
			return nil, err
		}
		if s.dim != 128 {
			continue
		}
		if out["filtered 128"], err = s.searches("filtered 128", o, t, true); err != nil {
			return nil, err
		}
		if kernel.Name() == "avx512" {
			if out["avx2 of avx512"], err = s.forms(o); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// searches is the ratio at the recall that is wanted, the median of rounds.
func (s *set) searches(name string, o, t index, filtered bool) (float64, error) {
	var ef [2]int
	for i, x := range []index{o, t} {
		var err error
		if ef[i], err = s.smallest(x, filtered, wanted); err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
	}
	var ratios []float64
	var times [2]float64
	for range rounds {
		for i, x := range []index{o, t} {
			seconds, _, err := s.pass(x, ef[i], passes, filtered)
			if err != nil {
				return 0, err
			}
			times[i] = seconds
		}
		ratios = append(ratios, times[1]/times[0])
	}
	fmt.Fprintf(os.Stderr, "%s: ef %d and %d, %.1f and %.1f µs\n", name, ef[0], ef[1], 1e6*times[0], 1e6*times[1])
	return median(ratios), nil
}

// builds builds both, some times in turn, and returns the ratio of processor
// times and the last pair.
func (s *set) builds() (o *ours, t *textbook, ratio float64, err error) {
	var ratios []float64
	for range builds {
		began := serve.CPU()
		if o, err = buildOurs(s); err != nil {
			return nil, nil, 0, err
		}
		between := serve.CPU()
		t = &textbook{graph: plain.Build(s.data, s.dim, 1)}
		ratios = append(ratios, (serve.CPU()-between)/(between-began))
		fmt.Fprintf(os.Stderr, "build %d: %.2f and %.2f s\n", s.dim, between-began, serve.CPU()-between)
	}
	return o, t, median(ratios), nil
}

// forms is how fast searches are with AVX2, in terms of those with AVX-512:
// the first are in a process of their own, asked in turn with this one.
func (s *set) forms(o index) (float64, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	c := exec.Command(self, "-child")
	c.Env = append(os.Environ(), "CHROMAD_KERNEL=avx2")
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		return 0, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := c.Start(); err != nil {
		return 0, err
	}
	ef, err := s.smallest(o, false, wanted)
	if err != nil {
		return 0, err
	}
	var ratios []float64
	answers := bufio.NewScanner(out)
	for range rounds {
		if _, err := fmt.Fprintln(in, ef); err != nil {
			return 0, err
		}
		if !answers.Scan() {
			return 0, fmt.Errorf("the process with AVX2 ended: %w", c.Wait())
		}
		other, err := strconv.ParseFloat(answers.Text(), 64)
		if err != nil {
			return 0, err
		}
		seconds, _, err := s.pass(o, ef, passes, false)
		if err != nil {
			return 0, err
		}
		ratios = append(ratios, seconds/other)
	}
	if err := in.Close(); err != nil {
		return 0, err
	}
	return median(ratios), c.Wait()
}

// answer is the child's part of forms.
func answer() error {
	s := small()
	o, err := buildOurs(s)
	if err != nil {
		return err
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		ef, err := strconv.Atoi(lines.Text())
		if err != nil {
			return err
		}
		seconds, _, err := s.pass(o, ef, passes, false)
		if err != nil {
			return err
		}
		fmt.Println(seconds)
	}
	return nil
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}
