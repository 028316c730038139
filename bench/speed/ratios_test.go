//go:build unix

package main

import (
	"path/filepath"
	"testing"
)

func TestJudge(t *testing.T) {
	want := map[string]float64{"search": 4, "build": 8}
	for _, c := range []struct {
		name   string
		got    map[string]float64
		fallen int
	}{
		{"same", map[string]float64{"search": 4, "build": 8}, 0},
		{"faster", map[string]float64{"search": 9, "build": 8}, 0},
		{"noise", map[string]float64{"search": 3.3, "build": 6.5}, 0},
		{"slower", map[string]float64{"search": 3.1, "build": 8}, 1},
		{"both", map[string]float64{"search": 1, "build": 1}, 2},
		{"missing", map[string]float64{"search": 4}, 1},
		{"new", map[string]float64{"search": 4, "build": 8, "filtered": 0.1}, 0},
	} {
		if lines, fallen := judge(want, c.got); fallen != c.fallen {
			t.Errorf("%s: %d fell: %q", c.name, fallen, lines)
		}
	}
}

// TestRemember: what one form measures leaves the others alone.
func TestRemember(t *testing.T) {
	name := filepath.Join(t.TempDir(), "ratios.json")
	m, err := recall(name)
	if err != nil || len(m) != 0 {
		t.Fatal(m, err)
	}
	for form, ratio := range map[string]float64{"avx512": 4.006, "neon": 2} {
		if err := m.remember(name, form, map[string]float64{"search": ratio}); err != nil {
			t.Fatal(err)
		}
	}
	if m, err = recall(name); err != nil || m["avx512"]["search"] != 4.01 || m["neon"]["search"] != 2 {
		t.Fatal(m, err)
	}
}

// TestSmallest finds an ef for both implementations on a set of its own, with
// and without the filter.
func TestSmallest(t *testing.T) {
	s := newSet(3000, 16, 0)
	o, err := buildOurs(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, filtered := range []bool{false, true} {
		ef, err := s.smallest(o, filtered, wanted)
		if err != nil {
			t.Fatal(err)
		}
		if _, r, err := s.pass(o, ef, 0, filtered); err != nil || r < wanted || r > 1 {
			t.Fatalf("ef %d: recall %v, %v", ef, r, err)
		}
	}
}
