package hnsw

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromad/chromad/internal/kernel"
)

// TestSameBytes: the workers decide nothing.
func TestSameBytes(t *testing.T) {
	const n, dim = 4000, 12
	rows := clustered(21, n, dim)
	for i := range 50 {
		rows[n-1-i] = rows[i%3] // groups of equal vectors too
	}
	for _, m := range metrics {
		v := matrix(m, rows, dim, 0)
		var first []byte
		for _, workers := range []int{1, 2, 5} {
			g := mustBuild(t, v, Params{EFConstruction: 50, Workers: workers, Seed: 3})
			b, _ := g.AppendBinary(nil)
			if first == nil {
				first = b
			} else if !bytes.Equal(first, b) {
				t.Errorf("%v: %d workers build another graph than one", m, workers)
			}
		}
		if b, _ := mustBuild(t, v, Params{EFConstruction: 50, Seed: 4}).AppendBinary(nil); bytes.Equal(first, b) {
			t.Errorf("%v: the seed changes nothing", m)
		}
	}
}

// TestTraps builds over vectors that break naive graphs. Each must be
// reachable throughout, find what a scan finds, and be of the usual degree.
func TestTraps(t *testing.T) {
	heavy(t)
	const dim = 6
	r := rand.New(rand.NewPCG(22, 23))
	many := func(n int, f func(i int) []float32) (rows [][]float32) {
		for i := range n {
			rows = append(rows, f(i))
		}
		return rows
	}
	random := func(int) []float32 {
		x := make([]float32, dim)
		for i := range x {
			x[i] = float32(r.NormFloat64())
		}
		return x
	}
	at := func(x float32) []float32 { return []float32{x, 2 * x, -x, x, 0, x} }
	for name, rows := range map[string][][]float32{
		"none": nil, "one": many(1, random), "two": many(2, random), "three": many(3, random),
		"two equal": many(2, func(int) []float32 { return at(1) }),
		"zero":      many(300, func(int) []float32 { return at(0) }),
		"some zero": many(3000, func(i int) []float32 {
			if i%100 == 0 {
				return at(0)
			}
			return random(i)
		}),
		"equal":  many(10000, func(int) []float32 { return at(3) }),
		"halves": many(3000, func(i int) []float32 { return at(float32(i%2) + 1) }),
		"copies": many(4000, func(i int) []float32 { x := random(i); x[0] = 5; return x })[:40],
		"line":   many(4000, func(i int) []float32 { return at(float32(i + 1)) }),
		"outlier": many(3000, func(i int) []float32 {
			if i == 1234 {
				return at(1e6)
			}
			return random(i)
		}),
		"huge":         many(500, func(i int) []float32 { x := random(i); x[1] = 1e38; return x }),
		"not a number": many(500, func(i int) []float32 { x := random(i); x[i%dim] = float32(math.NaN()); return x }),
		"endless":      many(500, func(i int) []float32 { x := random(i); x[i%dim] = float32(math.Inf(1 - i%2*2)); return x }),
	} {
		if name == "copies" { // each of 40 vectors more often than a walk keeps rows
			few := rows
			rows = many(8000, func(i int) []float32 { return few[i%40] })
		}
		for _, m := range metrics {
			v := matrix(m, rows, dim, 0)
			start := time.Now()
			g := mustBuild(t, v, Params{})
			took := time.Since(start)
			mustReach(t, g)
			var s Scratch
			for _, k := range []int{1, 10, len(rows) + 5} {
				got := search(g, v, at(1), k, 50, nil, &s)
				if len(got) != min(k, len(rows)) {
					t.Fatalf("%s %v: %d rows for k %d", name, m, len(got), k)
				}
			}
			if name == "not a number" || name == "endless" || name == "huge" || len(rows) == 0 {
				continue
			}
			var queries [][]float32
			for i := range min(len(rows), 50) {
				queries = append(queries, rows[i*len(rows)/50%len(rows)])
			}
			// Equal distances are hits, so a walk that ends in the right place
			// has them all.
			got := recall(t, walkOnly, g, v, queries, min(10, len(rows)), 100, nil)
			t.Logf("%-10s %-6v recall %.3f, links %.1f, %v", name, m, got, meanDegree(g), took)
			if got < 0.9 {
				t.Errorf("%s %v: recall %.3f", name, m, got)
			}
		}
	}
}

// part is a part of a graph that is there.
func part(g *Graph, rows []uint32) Part {
	return Part{Rows: rows, Graph: func() (*Graph, error) { return g, nil }}
}

// extend is Join of one part.
func extend(t *testing.T, g *Graph, rows []uint32, v Vectors, p Params) (*Graph, error) {
	return Join(t.Context(), []Part{part(g, rows)}, v, p)
}

func TestExtend(t *testing.T) {
	const n, dim = 6000, 16
	rows, queries := split(clustered(24, n+100, dim), 100)
	for i := range 60 {
		rows[n-1-i] = rows[i%4] // equal vectors in the old part and the new
	}
	for _, m := range metrics {
		for _, c := range []struct {
			name       string
			base, drop int // rows of base, one in how many of them is dropped
		}{{"grow", 4000, 0}, {"shrink", n, 4}, {"both", 5000, 5}, {"little left", 2000, 0}} {
			if testing.Short() && c.name != "both" {
				continue
			}
			t.Run(fmt.Sprintf("%v/%s", m, c.name), func(t *testing.T) {
				old := make([]uint32, c.base)
				var kept [][]float32
				for r := range old {
					if old[r] = NoRow; c.drop == 0 || r%c.drop != 0 {
						old[r] = uint32(len(kept))
						kept = append(kept, rows[r])
					}
				}
				kept = append(kept, rows[c.base:]...)
				base := mustBuild(t, matrix(m, rows[:c.base], dim, 0), Params{EFConstruction: 100})
				v := matrix(m, kept, dim, 0)
				g, err := extend(t, base, old, v, Params{EFConstruction: 100, Workers: 2})
				if err != nil {
					t.Fatal(err)
				}
				mustReach(t, g)
				alone, err := extend(t, base, old, v, Params{EFConstruction: 100, Workers: 1})
				if err != nil {
					t.Fatal(err)
				}
				b1, _ := g.AppendBinary(nil)
				if b2, _ := alone.AppendBinary(nil); !bytes.Equal(b1, b2) {
					t.Error("two workers extend to another graph than one")
				}
				extended := recall(t, walkOnly, g, v, queries, 10, 40, nil)
				built := recall(t, walkOnly, mustBuild(t, v, Params{EFConstruction: 100}), v, queries, 10, 40, nil)
				t.Logf("recall at ef 40: %.3f, built anew %.3f, links %.1f", extended, built, meanDegree(g))
				// Links that take the place of dropped ones were not searched
				// for; the walk for the inner product feels it most.
				most := 0.02
				if m == kernel.IP {
					most = 0.04
				}
				if extended < built-most {
					t.Errorf("recall %.3f, built anew %.3f", extended, built)
				}
			})
		}
	}
}

// TestExtendDropsAll: the rows left are those that had links to nothing but
// dropped ones.
func TestExtendDropsAll(t *testing.T) {
	const n, dim = 2000, 4
	rows := clustered(25, n, dim)
	base := mustBuild(t, matrix(0, rows, dim, 0), Params{M: 4, EFConstruction: 20})
	for _, left := range []int{0, 1, 2, 30} {
		old := make([]uint32, n)
		var kept [][]float32
		for r := range old {
			if old[r] = NoRow; left > 0 && r%(n/left) == 0 && len(kept) < left {
				old[r] = uint32(len(kept))
				kept = append(kept, rows[r])
			}
		}
		v := matrix(0, kept, dim, 0)
		g, err := extend(t, base, old, v, Params{EFConstruction: 20})
		if err != nil || g.Rows() != left || g.M() != 4 {
			t.Fatalf("%d left: %v", left, err)
		}
		mustReach(t, g)
	}
}

func TestBadInput(t *testing.T) {
	ok := matrix(kernel.Cosine, clustered(26, 10, 4), 4, 0)
	for name, change := range map[string]func(v *Vectors, p *Params){
		"data":     func(v *Vectors, _ *Params) { v.Data = v.Data[:39] },
		"no data":  func(v *Vectors, _ *Params) { v.Data = nil },
		"stride":   func(v *Vectors, _ *Params) { v.Stride = 3 },
		"overflow": func(v *Vectors, _ *Params) { v.Stride = math.MaxInt / 2 },
		"rows":     func(v *Vectors, _ *Params) { v.Rows = -1 },
		"dim":      func(v *Vectors, _ *Params) { v.Dim = -1 },
		"norms":    func(v *Vectors, _ *Params) { v.InvNorms = v.InvNorms[:9] },
		"metric":   func(v *Vectors, _ *Params) { v.Metric = 3 },
		"M":        func(_ *Vectors, p *Params) { p.M = 65 },
		"M 1":      func(_ *Vectors, p *Params) { p.M = 1 },
		"ef":       func(_ *Vectors, p *Params) { p.EFConstruction = -1 },
	} {
		v, p := ok, Params{}
		change(&v, &p)
		if _, err := Build(t.Context(), v, p); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	g := mustBuild(t, ok, Params{})
	for name, old := range map[string][]uint32{
		"short":   {0, 1, 2},
		"outside": {0, 1, 2, 3, 4, 5, 6, 7, 8, 10},
		"twice":   {0, 1, 2, 3, 4, 5, 6, 7, 8, 8},
	} {
		if _, err := extend(t, g, old, ok, Params{}); err == nil {
			t.Errorf("extend %s: no error", name)
		}
	}
}

// TestCancel stops builds from the progress callback: no more than the work
// in hand may follow.
func TestCancel(t *testing.T) {
	const n = 3000
	v := matrix(0, clustered(27, n, 8), 8, 0)
	for _, stopAt := range []int{0, 1, 100, 2500} {
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		p := Params{EFConstruction: 20, Progress: func(done, total int) {
			if total != n || done > total {
				t.Fatalf("progress %d of %d", done, total)
			}
			if ctx.Err() != nil {
				calls++
			}
			if done >= stopAt {
				cancel()
			}
		}}
		if stopAt == 0 {
			cancel()
		}
		if g, err := Build(ctx, v, p); !errors.Is(err, context.Canceled) || g != nil || calls > 0 {
			t.Errorf("stopped at %d: %v, %d more batches", stopAt, err, calls)
		}
		cancel()
	}
}

// TestExtendPreparesOnce: where Extend builds anew, it looks at all rows as often
// as Build does.
func TestExtendPreparesOnce(t *testing.T) {
	const n, dim = 3000, 8
	long := clustered(28, n, dim)
	for _, x := range long[:n/100] {
		for j := range x {
			x[j] *= 9
		}
	}
	short := make([][]float32, n)
	for i, x := range long {
		norm := kernel.InvNorm(x)
		short[i] = make([]float32, dim)
		for j := range x {
			short[i][j] = x[j] * norm
		}
	}
	tight, _ := tightRows(29, n, dim, n, 100, 0.001)
	old := make([]uint32, n)
	for r := range old {
		old[r] = uint32(r)
	}
	for name, tc := range map[string]struct{ was, now [][]float32 }{
		"grouped": {tight, tight}, "of another shape": {short, long},
	} {
		base := mustBuild(t, matrix(kernel.IP, tc.was, dim, 0), Params{})
		v := matrix(kernel.IP, tc.now, dim, 0)
		var begun atomic.Int32
		p := Params{Workers: 2, Guard: func(work func()) { begun.Add(1); work() }}
		want, _ := mustBuild(t, v, p).AppendBinary(nil)
		built := begun.Swap(0)
		g, err := extend(t, base, old, v, p)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := g.AppendBinary(nil); !bytes.Equal(got, want) || begun.Load() != built {
			t.Errorf("%s: %d pieces of work, a build has %d", name, begun.Load(), built)
		}
	}
}

// TestYield: no more workers leave than may, and all are back for the next part of
// a step.
func TestYield(t *testing.T) {
	const workers = 4
	var leaving atomic.Bool
	b := &builder{ctx: t.Context(), p: Params{Yield: func(left int) bool { return leaving.Load() && left < 2 }}}
	for range workers {
		b.workers = append(b.workers, new(worker))
	}
	// meeting waits until so many workers are at work at once.
	meeting := func(want int) func(w *worker, i int) {
		var mu sync.Mutex
		met, here := make(chan bool), map[*worker]bool{}
		return func(w *worker, i int) {
			mu.Lock()
			if here[w] = true; len(here) == want {
				close(met)
				want = -1
			}
			mu.Unlock()
			select {
			case <-met:
			case <-time.After(5 * time.Second):
				t.Errorf("%d workers do not meet", want)
			}
		}
	}
	const piece = 8 * workers * 4
	leaving.Store(true)
	if err := b.each(piece, meeting(workers-2)); err != nil {
		t.Fatal(err)
	}
	back := meeting(workers)
	if err := b.each(2*piece, func(w *worker, i int) {
		if i >= piece {
			back(w, i)
		} else if i == piece-1 {
			leaving.Store(false)
		}
	}); err != nil {
		t.Fatal(err)
	}
}
