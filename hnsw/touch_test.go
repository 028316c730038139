package hnsw

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/chromad/chromad/internal/kernel"
)

// behind hides v: its rows are NaN until they were touched, and the call of
// Touch with number fail, counted from 0, fails.
type behind struct {
	Vectors
	real    Vectors
	touched []bool
	calls   int
	fail    int
}

var errTouch = errors.New("no such row")

func hide(v Vectors, fail int) *behind {
	h := &behind{Vectors: v, real: v, touched: make([]bool, v.Rows), fail: fail}
	h.Data = slices.Repeat([]float32{float32(math.NaN())}, len(v.Data))
	h.Touch = func(rows []uint32) error {
		if h.calls++; h.calls > h.fail {
			return errTouch
		}
		for _, r := range rows {
			copy(h.Data[int(r)*v.Stride:], v.row(r))
			h.touched[r] = true
		}
		return nil
	}
	return h
}

func (h *behind) rows() (n int) {
	for _, t := range h.touched {
		if t {
			n++
		}
	}
	return n
}

// TestTouch: no search reads a row before it was touched, whichever way it
// goes, and none goes on after an error.
func TestTouch(t *testing.T) {
	const rows, dim = 3000, 8
	rng := rand.New(rand.NewPCG(1, 7))
	for i := range 2 * len(metrics) {
		metric, bits := metrics[i/2], []int{0, plainBits}[i%2]
		v := matrix(metric, clustered(3, rows, dim), dim, 8)
		q := slices.Clone(v.row(7))
		g, err := Build(context.Background(), v, Params{M: 8, EFConstruction: 40, Bits: bits})
		if err != nil {
			t.Fatal(err)
		}
		sets := map[string][]uint64{"all": nil, "runs": make([]uint64, rows/64+1)}
		for i := range 20 {
			sets["runs"][i] = math.MaxUint64
		}
		for name, share := range map[string]float64{"most": 0.9, "half": 0.5, "few": 0.02} {
			sets[name] = make([]uint64, rows/64+1)
			for r := range rows {
				if rng.Float64() < share {
					sets[name][r>>6] |= 1 << (r & 63)
				}
			}
		}
		before := []Neighbor{{Row: 9}}
		var s Scratch
		for name, set := range sets {
			for way, search := range map[string]func(v Vectors) ([]Neighbor, error){
				"graph": func(v Vectors) ([]Neighbor, error) {
					return g.Search(before, v, Query{Vector: q, K: 5, EF: 20, Allowed: set}, &s)
				},
				"exact": func(v Vectors) ([]Neighbor, error) { return Exact(before, v, Query{Vector: q, K: 5, Allowed: set}, &s) },
			} {
				want := all(search(v))
				h := hide(v, math.MaxInt)
				got, err := search(h.Vectors)
				if err != nil || !slices.Equal(got, want) {
					t.Fatalf("%v %s %s: %v, %v instead of %v", metric, name, way, got, err, want)
				}
				if name == "all" && way == "graph" && h.rows() > rows/2 {
					t.Errorf("%v: %d rows were touched", metric, h.rows())
				}
				for fail := range min(h.calls, 40) {
					failing := hide(v, fail)
					got, err := search(failing.Vectors)
					if !errors.Is(err, errTouch) || len(got) != 1 || failing.calls != fail+1 {
						t.Fatalf("%v %s %s: call %d fails: %v, %v after %d calls", metric, name, way, fail, got, err, failing.calls)
					}
				}
			}
		}
		if _, err := Build(context.Background(), hide(v, 0).Vectors, Params{}); err == nil {
			t.Error("built of rows that cannot be read")
		}
	}
}

// TestGuard: whatever reading vectors raises on a goroutine of a build, its
// caller can catch there.
func TestGuard(t *testing.T) {
	v := matrix(kernel.L2, clustered(4, 2000, 8), 8, 0)
	short := v
	short.Data = v.Data[: len(v.Data)-100 : len(v.Data)-100]
	ctx, cancel := context.WithCancelCause(context.Background())
	b := &builder{ctx: ctx, v: v, p: Params{Guard: func(work func()) {
		defer func() {
			if p := recover(); p != nil {
				cancel(errTouch)
			}
		}()
		work()
	}}, workers: []*worker{new(worker), new(worker)}}
	err := b.each(v.Rows, func(_ *worker, i int) { _ = short.row(uint32(i))[0] })
	if !errors.Is(err, context.Canceled) || context.Cause(ctx) != errTouch {
		t.Errorf("%v, %v", err, context.Cause(ctx))
	}
}

// TestLikely: rows that are named before their vectors are read may be found, and most
// of them are.
func TestLikely(t *testing.T) {
	const rows, dim, k = 3000, 24, 10
	base, held := split(clustered(9, rows+50, dim), 50)
	v := matrix(kernel.L2, base, dim, 0)
	set := make([]uint64, (rows+63)/64)
	for row := 0; row < rows; row += 4 {
		set[row>>6] |= 1 << (row & 63)
	}
	for _, p := range []Params{{}, {Bits: plainBits}} {
		g := mustBuild(t, v, p)
		u, err := g.Subset(v, set, true, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		for _, ask := range []Query{{}, {Allowed: set}, {Subset: u}, {Exact: true}} {
			var s Scratch
			calls, told, right := 0, 0, 0
			for _, q := range held {
				var likely []uint32
				ask.Vector, ask.K, ask.EF = q, k, 40
				ask.Likely = func(rows []uint32) {
					calls++
					likely = slices.Clone(rows)
				}
				found := all(g.Search(nil, v, ask, &s))
				for _, row := range likely {
					if (ask.Allowed != nil || ask.Subset != nil) && !has(set, row) {
						t.Fatalf("row %d is not allowed", row)
					}
					if slices.ContainsFunc(found, func(n Neighbor) bool { return n.Row == row }) {
						right++
					}
				}
				if told += len(likely); len(likely) > k {
					t.Fatalf("%d rows", len(likely))
				}
			}
			if calls > len(held) || right*2 < told {
				t.Errorf("%d bits: %d calls for %d queries, %d of %d rows were found", p.Bits, calls, len(held), right, told)
			}
			if walked := p.Bits == 0 && !ask.Exact && ask.Subset == nil; walked != (told > 0) {
				t.Errorf("%d bits, %d rows were named", p.Bits, told)
			}
		}
	}
}
