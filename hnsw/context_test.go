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
