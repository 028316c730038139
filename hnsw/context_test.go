package hnsw

import (
	"context"
	"errors"
	"testing"

	"github.com/chromad/chromad/internal/kernel"
)

// TestContext: whatever compares all rows ends with its context, and the memory
// of the search that ended serves the next.
func TestContext(t *testing.T) {
	const n, dim = 3000, 4
	v := matrix(kernel.L2, clustered(3, n, dim), dim, 0)
	g := mustBuild(t, v, Params{M: 4, EFConstruction: 20})
	odd := make([]uint64, n/64+1)
	for r := range n {
		odd[r>>6] |= uint64(r&1) << (r & 63)
	}
	over, end := context.WithCancel(t.Context())
	end()
	var s Scratch
	for _, q := range []Query{{Exact: true}, {Exact: true, Allowed: odd}, {EF: n}, {EF: n, Allowed: odd}} {
		q.Vector, q.K, q.Context = v.row(9), 5, over
		if got, err := g.Search(nil, v, q, &s); !errors.Is(err, context.Canceled) || len(got) > 0 {
			t.Errorf("%s: %v, %v", s.Trace().Plan, got, err)
		}
		if got, err := Exact(nil, v, q, &s); !errors.Is(err, context.Canceled) || len(got) > 0 {
			t.Errorf("exact: %v, %v", got, err)
		}
		q.Context = t.Context()
		if got, err := g.Search(nil, v, q, &s); err != nil || len(got) != q.K {
			t.Errorf("%s, afterwards: %v, %v", s.Trace().Plan, got, err)
		}
	}
}

// TestContextMany: a search for many rows reads them some hundreds at a time, and
// looks at its context in between.
func TestContextMany(t *testing.T) {
	const n, dim = 30000, 4
	v := matrix(kernel.L2, clustered(4, n, dim), dim, 0)
	g := mustBuild(t, v, Params{M: 4, EFConstruction: 20})
	for _, k := range []int{3000, 6000} {
		q := Query{Vector: v.row(9), K: k, EF: k}
		calls := 0
		seen := v
		seen.Touch = func([]uint32) error { calls++; return nil }
		want := all(Exact(nil, v, q, nil))
		got, err := g.Search(nil, seen, q, nil)
		if err != nil || len(got) != k || calls > k/scanBlock+40 {
			t.Errorf("k %d: %d rows after %d calls, %v", k, len(got), calls, err)
		}
		if got[k-1].Distance > want[k-1].Distance*1.1 {
			t.Errorf("k %d: the last is %v, not %v", k, got[k-1], want[k-1])
		}
		over, end := context.WithCancel(t.Context())
		calls = 0
		seen.Touch = func([]uint32) error { calls++; end(); return nil }
		q.Context = over
		if got, err := g.Search(nil, seen, q, nil); !errors.Is(err, context.Canceled) || len(got) > 0 || calls > 1 {
			t.Errorf("k %d: %d rows after %d calls, %v", k, len(got), calls, err)
		}
	}
}
