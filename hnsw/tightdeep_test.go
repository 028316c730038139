package hnsw

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromad/chromad/internal/kernel"
)

// buildSoon builds within seconds or fails: what does not end takes all memory.
func buildSoon(t *testing.T, name string, v Vectors, p Params) *Graph {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	start := time.Now()
	g, err := Build(ctx, v, p)
	if errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%s: the build does not end", name)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	mustReach(t, g)
	t.Logf("%s: %v", name, time.Since(start))
	return g
}

// TestTightEnds: rows that no grid tells apart, or none but one of their own,
// are built in one go, and found.
func TestTightEnds(t *testing.T) {
	heavy(t)
	r := rand.New(rand.NewPCG(92, 9))
	scaled := func(dim int, scale func() float64) []float32 {
		x, norm := make([]float64, dim), 0.0
		for i := range x {
			x[i] = r.NormFloat64()
			norm += x[i] * x[i]
		}
		y, s := make([]float32, dim), scale()/math.Sqrt(norm)
		for i := range y {
			y[i] = float32(x[i] * s)
		}
		return y
	}
	for _, tc := range []struct {
		name   string
		n, dim int
		row    func(i int) []float32
		least  float64 // recall
	}{
		// Their distances are zero, for a query too.
		{"denormal", 3200, 2, func(i int) []float32 { return []float32{float32(i+1) * 1e-42, 0} }, 1},
		{"more denormal", 20000, 2, func(i int) []float32 { return []float32{float32(i+1) * 1e-43, 0} }, 1},
		// A rotation of 0.1 rounds away what they differ in.
		{"far", 4096, 2, func(i int) []float32 { return []float32{0.1, float32(i) * 1e-15} }, 0.95},
		{"far but the first", 4096, 2, func(i int) []float32 {
			if i == 0 {
				return []float32{0, 0}
			}
			return []float32{0.1, float32(i) * 1e-15}
		}, 0.95},
		{"far in pieces", 12000, 8, func(i int) []float32 {
			x := scaled(8, func() float64 { return 1e-12 })
			x[i%4] += 3
			x[7] = float32(r.NormFloat64()) * 1e-12
			return x
		}, 0.9},
		{"many scales", 5000, 2, func(i int) []float32 { return scaled(2, func() float64 { return math.Exp2(-70 * r.Float64()) }) }, 0.9},
		{"many scales of eight", 5000, 8, func(i int) []float32 { return scaled(8, func() float64 { return math.Exp2(-70 * r.Float64()) }) }, 0.9},
		{"one direction", 5000, 4, func(i int) []float32 {
			s := float32(math.Exp2(-60 * r.Float64()))
			return []float32{s, 2 * s, 3 * s, 4 * s}
		}, 0.95},
		// Joined from one to the next, all of them.
		{"one number", 5000, 1, func(i int) []float32 { return []float32{float32(math.Exp2(-20 * r.Float64()))} }, 0.95},
		// One row each that is far from all the others.
		{"outliers", 5000, 3, func(i int) []float32 {
			if i < 40 {
				return scaled(3, func() float64 { return math.Pow(10, float64(10-i)) })
			}
			return scaled(3, func() float64 { return 1e-20 })
		}, 0.9},
	} {
		rows := make([][]float32, tc.n)
		for i := range rows {
			rows[i] = tc.row(i)
		}
		var queries [][]float32
		for i := range 60 {
			queries = append(queries, rows[i*tc.n/60])
		}
		v := matrix(kernel.L2, rows, tc.dim, 0)
		g := buildSoon(t, tc.name, v, Params{Workers: 2})
		got := recall(t, walkOnly, g, v, queries, 10, 100, nil)
		t.Logf("%s: recall %.3f", tc.name, got)
		if got < tc.least {
			t.Errorf("%s: recall %.3f", tc.name, got)
		}
		one, _ := g.AppendBinary(nil)
		if alone, _ := buildSoon(t, tc.name, v, Params{Workers: 1}).AppendBinary(nil); !bytes.Equal(one, alone) {
			t.Errorf("%s: two workers write other bytes than one", tc.name)
		}
	}
}

// TestTightEndsMetrics: by the other metrics too. A distance tells less there, so
// that many rows are as good as the nearest.
func TestTightEndsMetrics(t *testing.T) {
	heavy(t)
	const n, dim = 5000, 4
	r := rand.New(rand.NewPCG(93, 9))
	for name, row := range map[string]func(i int) []float32{
		"one direction": func(i int) []float32 { s := float32(i + 1); return []float32{s, -s, 2 * s, s} },
		"beside it": func(i int) []float32 {
			return []float32{1, float32(r.NormFloat64() * 1e-4), float32(r.NormFloat64() * 1e-12), 0}
		},
		"many scales": func(i int) []float32 {
			s := math.Exp2(-40 * r.Float64())
			return []float32{1, float32(s * r.NormFloat64()), float32(s * r.NormFloat64()), float32(s * r.NormFloat64())}
		},
	} {
		rows := make([][]float32, n)
		for i := range rows {
			rows[i] = row(i)
		}
		for _, m := range metrics {
			v := matrix(m, rows, dim, 0)
			g := buildSoon(t, name, v, Params{})
			queries := [][]float32{{1, 1e-4, 0, 0}, {1, -3e-5, 1e-12, 0}, {0, 1, 0, 0}, {0, 0, 1, -1}, rows[0], rows[n/2], rows[n-1]}
			if got := recall(t, walkOnly, g, v, queries, 10, 100, nil); got < 0.9 {
				t.Errorf("%s %v: recall %.3f", name, m, got)
			}
		}
	}
}

// TestTightIsNotCopied: the builder of a group holds no vectors of its own, and
// never more than one grid of a row is there.
func TestTightIsNotCopied(t *testing.T) {
	const n, dim = 2000, 256
	rows, _ := tightRows(94, n, dim, n, 500, 0.001)
	v := matrix(kernel.IP, rows, dim, 0)
	b, err := newBuilder(t.Context(), v, Params{Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	group := tightGroup{rows: []uint32{3, 5, 7, 11}, head: 5}
	in := b.inner(&group, b.workers)
	in.points = b.points
	deep := in.inner(&tightGroup{rows: []uint32{1, 3}, head: 3}, b.workers)
	if in.v.Data != nil || deep.v.Data != nil || deep.view.of != b {
		t.Error("a group has vectors of its own")
	}
	var point []float32
	if point = in.view.row(point, 1); slices.ContainsFunc(point, func(x float32) bool { return x != 0 }) {
		t.Errorf("the head is at %v", point)
	}
	want, head := b.exactPoint(nil, 5), b.exactPoint(nil, 11)
	for i, x := range deep.view.row(point, 0) {
		if x != float32(want[i]-head[i]) {
			t.Fatalf("number %d of row 5 is %v, seen from row 11", i, x)
		}
	}
	g, err := b.build()
	if err != nil || !g.grouped {
		t.Fatal(g, err)
	}
	if w := b.workers[0]; b.grid != nil || w.grid != nil || cap(w.panel.bytes) > 0 {
		t.Error("memory of the build is left")
	}
}

// TestTightHeads: a row is the head of one group only. It would have no room for
// links into the next.
func TestTightHeads(t *testing.T) {
	const n, dim = 3000, 3
	r := rand.New(rand.NewPCG(95, 9))
	var rows [][]float32
	for range n {
		s := math.Pow(10, float64(-3*r.IntN(6)))
		rows = append(rows, []float32{float32(s * r.NormFloat64()), float32(s * r.NormFloat64()), float32(s * r.NormFloat64())})
	}
	v := matrix(kernel.L2, rows, dim, 0)
	g := buildSoon(t, "six scales", v, Params{})
	if got := recall(t, walkOnly, g, v, rows[:100], 10, 60, nil); got < 0.97 {
		t.Errorf("recall %.3f", got)
	}
}

// TestTightLarge: a group that takes more memory than a worker may is linked by
// all of them, to the same links.
func TestTightLarge(t *testing.T) {
	heavy(t)
	const n, dim, size = 7000, 1024, 6500
	rows, near := tightRows(96, n, dim, size, size, 0.001)
	v := matrix(kernel.L2, rows, dim, 0)
	if size <= tightMany/(tightRow+dim) {
		t.Fatal("not large")
	}
	g := buildSoon(t, "large", v, Params{Workers: 3})
	if got := recall(t, walkOnly, g, v, near[:20], 10, 100, nil); got < 0.85 { // of so many numbers
		t.Errorf("recall %.3f", got)
	}
	one, _ := mustBuild(t, v, Params{Workers: 1}).AppendBinary(nil)
	if three, _ := g.AppendBinary(nil); !bytes.Equal(one, three) {
		t.Error("three workers write other bytes than one")
	}
}

// TestTightCancel ends builds of groups within groups anywhere: no worker is left,
// and what one goroutine does alone looks at the context too.
func TestTightCancel(t *testing.T) {
	const n, dim = 3000, 16
	rows, _ := tightRows(97, n, dim, n, 300, 1e-5)
	v := matrix(kernel.L2, rows, dim, 0)
	for stop := int32(1); stop < 1000; stop += 60 {
		ctx, cancel := context.WithCancel(t.Context())
		var begun, running atomic.Int32
		g, err := Build(ctx, v, Params{Workers: 3, Guard: func(work func()) {
			running.Add(1)
			defer running.Add(-1)
			if begun.Add(1) == stop {
				cancel()
			}
			work()
		}})
		if stopped := ctx.Err() != nil; stopped != errors.Is(err, context.Canceled) || stopped != (g == nil) || running.Load() != 0 {
			t.Errorf("stopped at %d: %v, %d workers still run", stop, err, running.Load())
		}
		cancel()
	}
	ctx, cancel := context.WithCancel(t.Context())
	b, err := newBuilder(ctx, v, Params{Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	b.g = newGraph(make([]uint8, n), b.p.M)
	cancel()
	if _, err := b.joined(make([]bool, n), 1); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestTightStandApart: where rows are dense here and less so there, as those of
// few numbers are, groups would cut what belongs together.
func TestTightStandApart(t *testing.T) {
	heavy(t)
	const n, queries = 10000, 100
	for _, dim := range []int{3, 4, 5} {
		rows, held := split(clustered(9, n+queries, dim), queries)
		for _, m := range metrics {
			v := matrix(m, rows, dim, 0)
			g := mustBuild(t, v, Params{})
			if got := recall(t, walkOnly, g, v, held, 10, 50, nil); got < 0.99 || m == kernel.L2 && g.grouped {
				t.Errorf("%d numbers, %v: recall %.3f, grouped %v", dim, m, got, g.grouped)
			}
		}
	}
}
