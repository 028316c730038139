package kernel

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestScoreRange: a range is its rows, one by one, whatever was scored before, and
// is inside the codes, or it panics.
func TestScoreRange(t *testing.T) {
	const rows = 700
	r := rand.New(rand.NewPCG(61, 62))
	with(func(name string) {
		for _, bits := range []int{2, 4, 8} {
			for _, blocks := range []int{1, 3} {
				s := newScene(r, heap(), rows, bits, blocks)
				clear(s.visited)
				one, all := new(Hop), new(Hop)
				s.aim(one)
				s.aim(all)
				for range 40 {
					first := r.IntN(rows)
					n := r.IntN(min(rows-first, RangeMost) + 1)
					below := float32(math.Inf(1))
					for range r.IntN(3) { // some, and few of them
						below = min(below, s.codes.Meta[r.IntN(rows)].A)
					}
					for row := range n {
						one.Add(uint32(first + row))
					}
					keys, found := one.Score(below)
					if k, f := all.ScoreRange(first, n, below); !slices.Equal(k, keys) || !slices.Equal(f, found) {
						t.Fatalf("%s: rows %d to %d: %d instead of %d, or others", name, first, first+n, len(f), len(found))
					}
					if r.IntN(4) == 0 { // the batch is used for something else
						all.Add(uint32(r.IntN(rows)))
						all.Add(uint32(r.IntN(rows)))
						all.Score(below)
					}
				}
			}
		}
	})
	s := newScene(r, heap(), rows, 4, 1)
	for name, call := range map[string]func(h *Hop){
		"many":   func(h *Hop) { h.ScoreRange(0, RangeMost+1, 0) },
		"beyond": func(h *Hop) { h.ScoreRange(rows-3, 4, 0) },
		"before": func(h *Hop) { h.ScoreRange(-1, 4, 0) },
		"batch":  func(h *Hop) { h.Add(1); h.ScoreRange(0, 1, 0) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			h := new(Hop)
			s.aim(h)
			call(h)
		}()
	}
}
