package hnsw

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/chromad/chromad/internal/kernel"
)

// tightRows draws rows of which so many lie in clusters of size members, at
// random places among the others: documents that differ by little, each kind
// of them far from the next. near are queries beside some of them.
func tightRows(seed uint64, n, dim, tight, size int, spread float64) (rows, near [][]float32) {
	r := rand.New(rand.NewPCG(seed, 9))
	around := func(centre []float32, width float64) []float32 {
		x := make([]float32, dim)
		for i := range x {
			x[i] = float32(width * r.NormFloat64())
			if centre != nil {
				x[i] += centre[i]
			}
		}
		return x
	}
	for len(rows) < tight {
		centre := around(nil, 1)
		for range min(size, tight-len(rows)) {
			rows = append(rows, around(centre, spread))
		}
	}
	for range 60 {
		near = append(near, around(rows[r.IntN(tight)], spread/2))
	}
	if tight < n {
		rows = append(rows, clustered(seed+1, n-tight, dim)...)
	}
	r.Shuffle(n, func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	return rows, near
}

// TestTightClusters: clusters whose spread is a hundredth, or a thousandth,
// of that of all rows are searched as well as others, be all rows in such or a
// tenth of them.
func TestTightClusters(t *testing.T) {
	heavy(t)
	const n, dim = 4000, 64
	for _, tc := range []struct {
		metric      kernel.Metric
		tight, size int
		spread      float64
		bits        int
	}{
		{kernel.L2, n, 100, 0.01, 0},
		{kernel.L2, n, 100, 0.001, plainBits},
		{kernel.L2, n, 2000, 0.001, plainBits},
		{kernel.L2, n, 1000, 1e-5, plainBits},
		{kernel.L2, n / 10, 100, 0.01, 0},
		{kernel.L2, n / 10, 200, 0.001, plainBits},
		{kernel.Cosine, n, 100, 0.01, 0},
		{kernel.Cosine, n, 100, 0.001, plainBits},
		{kernel.Cosine, n / 10, 200, 0.001, plainBits},
		{kernel.IP, n, 100, 0.01, 0},
		{kernel.IP, n, 100, 0.001, 0},
		{kernel.IP, n / 10, 200, 0.001, 0},
	} {
		rows, near := tightRows(81, n, dim, tc.tight, tc.size, tc.spread)
		v := matrix(tc.metric, rows, dim, 0)
		g := mustBuild(t, v, Params{Workers: 2})
		mustReach(t, g)
		bits, _ := g.Codes()
		if !g.grouped || tc.bits != 0 && bits != tc.bits {
			t.Errorf("%+v: grouped %v, %d bits", tc, g.grouped, bits)
		}
		if got := recall(t, walkOnly, g, v, near, 10, 100, nil); got < 0.97 {
			t.Errorf("%+v: %d bits, recall %.3f", tc, bits, got)
		}
		half := make([]uint64, (n+63)/64)
		for i := range half {
			half[i] = 0x3333cccc5555aaaa
		}
		if got := recall(t, search, g, v, near, 10, 60, func(int) []uint64 { return half }); got < 0.95 {
			t.Errorf("%+v: %d bits, recall %.3f of half", tc, bits, got)
		}
	}
}

// TestTightGroups: of each cluster one row has a place among all others, at
// level 1 or above, where a walk looks for the nearest of them with a beam. The
// others have links to it, and to rows of other clusters.
func TestTightGroups(t *testing.T) {
	const dim, clusters, size = 32, 60, 50
	r := rand.New(rand.NewPCG(90, 9))
	var rows [][]float32
	for c := range clusters * size {
		x := make([]float32, dim)
		if c%size > 0 {
			copy(x, rows[c-c%size])
		}
		for i := range x {
			x[i] += float32([]float64{1, 0.001}[min(c%size, 1)] * r.NormFloat64())
		}
		rows = append(rows, x)
	}
	v := matrix(kernel.L2, rows, dim, 0)
	g := mustBuild(t, v, Params{})
	if len(g.seatRow) != clusters {
		t.Fatalf("%d rows above level 0 for %d clusters", len(g.seatRow), clusters)
	}
	for c, head := range g.seatRow {
		if int(head)/size != c {
			t.Fatalf("row %d stands for cluster %d", head, c)
		}
		for row := uint32(c * size); row < uint32(c+1)*size; row++ {
			out := 0
			for _, n := range g.neighbours(0, row) {
				if int(n)/size != c {
					out++
				}
			}
			if row != head && !slices.Contains(g.neighbours(0, row), head) || out < 2 || out > 16 {
				t.Fatalf("row %d of cluster %d, head %d: links %v", row, c, head, g.neighbours(0, row))
			}
		}
	}
	var s Scratch
	walkOnly(g, v, rows[7], 5, 5, nil, &s)
	if s.trace.Expanded < 5+5 { // as many as the pool holds above level 0, and again below
		t.Errorf("%d rows were expanded", s.trace.Expanded)
	}
	walkOnly(g, v, rows[7], 5, 40, nil, &s)
	if s.trace.Expanded < 40+groupBeam {
		t.Errorf("%d rows were expanded", s.trace.Expanded)
	}
}

// TestTightPieces: a cluster of more rows than a bulk compares at a time, all of
// them equal to its grid, is one group all the same.
func TestTightPieces(t *testing.T) {
	heavy(t)
	const n, dim = 12000, 16
	rows, near := tightRows(91, n, dim, n*5/6, n, 0.0001)
	v := matrix(kernel.L2, rows, dim, 0)
	g := mustBuild(t, v, Params{})
	mustReach(t, g)
	if got := recall(t, walkOnly, g, v, near, 10, 100, nil); got < 0.97 {
		t.Errorf("recall %.3f", got)
	}
}

// TestTightIsNotOrdinary: rows as they usually are have codes as they had, and
// no groups; nor have pairs of near rows, and clusters that are few.
func TestTightIsNotOrdinary(t *testing.T) {
	heavy(t)
	const n = 3000
	few, _ := tightRows(82, n, 128, 10, 10, 0.001)
	pairs, _ := tightRows(83, n, 128, n/2, 2, 0.001)
	for name, tc := range map[string]struct {
		rows [][]float32
		dim  int
		bits int
	}{
		"clustered": {clustered(84, n, 128), 128, 4},
		"narrow":    {clustered(85, n, 32), 32, 8},
		"latent":    {latent(86, n, 128), 128, 4},
		"few":       {few, 128, 4},
		"pairs":     {pairs, 128, 4},
	} {
		for _, m := range metrics {
			g := mustBuild(t, matrix(m, tc.rows, tc.dim, 0), Params{})
			if bits, _ := g.Codes(); g.grouped || bits != tc.bits {
				t.Errorf("%s %v: grouped %v, %d bits", name, m, g.grouped, bits)
			}
		}
	}
}

// TestTightAlike: a graph with groups does not depend on the number of workers,
// survives its bytes, holds equal and lost rows too, and is extended.
func TestTightAlike(t *testing.T) {
	const n, dim = 3000, 24
	rows, near := tightRows(87, n, dim, n/2, 150, 0.001)
	for i := range 40 {
		rows[100+i] = rows[50+i%5]
	}
	for _, m := range metrics {
		v := matrix(m, rows, dim, 0)
		clear(v.row(7)) // nowhere, for the cosine
		if m == kernel.Cosine {
			v.InvNorms[7] = 0
		}
		one := mustBuild(t, v, Params{Workers: 1})
		mustReach(t, one)
		want, _ := one.AppendBinary(nil)
		if got, _ := mustBuild(t, v, Params{Workers: 3}).AppendBinary(nil); !bytes.Equal(got, want) {
			t.Errorf("%v: three workers write other bytes", m)
		}
		g, err := Decode(want, n)
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := g.AppendBinary(nil); !bytes.Equal(again, want) {
			t.Errorf("%v: encodes to other bytes", m)
		}
		facts, err := Describe(len(want), func(n int) ([]byte, error) { return want[:n], nil })
		if bits, size := g.Codes(); err != nil || facts.Bits != bits || facts.CodeBytes != size || !g.grouped {
			t.Errorf("%v: %+v, %v", m, facts, err)
		}
		// A tenth goes, and as many come.
		old := make([]uint32, n)
		var kept [][]float32
		for r := range old {
			if old[r] = NoRow; r%10 != 0 {
				old[r] = uint32(len(kept))
				kept = append(kept, v.row(uint32(r)))
			}
		}
		more, _ := tightRows(88, n/10, dim, n/10, 150, 0.001)
		next := matrix(m, append(kept, more...), dim, 0)
		e, err := extend(t, g, old, next, Params{})
		if err != nil {
			t.Fatal(err)
		}
		mustReach(t, e)
		if got := recall(t, walkOnly, e, next, near, 10, 100, nil); got < 0.97 || !e.grouped {
			t.Errorf("%v: recall %.3f after a tenth was replaced", m, got)
		}
	}
}

// TestWalkOverVectors: with 32 bits a search compares vectors alone, and
// answers as one by codes does.
func TestWalkOverVectors(t *testing.T) {
	const n, dim, queries = 6000, 24, 40
	base, held := split(clustered(89, n+queries, dim), queries)
	half := make([]uint64, (n+63)/64)
	for i := range half {
		half[i] = 0x3333cccc5555aaaa
	}
	for _, m := range metrics {
		v := matrix(m, base, dim, 8)
		g := mustBuild(t, v, Params{Bits: plainBits})
		b, err := g.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		if g, err = Decode(b, n); err != nil || g.codec != nil {
			t.Fatal(err)
		}
		var s Scratch
		for name, set := range map[string][]uint64{"all": nil, "half": half} {
			got := recall(t, search, g, v, held, 10, 60, func(int) []uint64 { return set })
			if got < 0.97 {
				t.Errorf("%v %s: recall %.3f", m, name, got)
			}
			found := search(g, v, held[0], 10, 60, set, &s)
			if d := s.Trace(); d.Scored != 0 || d.Reranked < 200 || d.Reranked > n*3/4 || d.Plan == "exact" {
				t.Errorf("%v %s: %+v", m, name, d)
			}
			bound := found[4].Distance
			near, err := g.Search(nil, v, Query{Vector: held[0], K: 10, EF: 60, Allowed: set, Late: func() (float32, bool) { return bound, true }}, &s)
			if err != nil || len(near) != 4 {
				t.Errorf("%v %s: %d rows nearer than the fifth, %v", m, name, len(near), err)
			}
		}
		found := make([]Neighbor, 0, 10)
		if n := testing.AllocsPerRun(20, func() { found, _ = g.Search(found[:0], v, Query{Vector: held[1], K: 10, EF: 60}, &s) }); n > 0 {
			t.Errorf("%v: %v allocations", m, n)
		}
		wide := search(g, v, held[2], 5000, 10, nil, &s)
		if want := exactly(v, held[2], 5000, nil, nil); len(wide) != len(want) || wide[4999] != want[4999] {
			t.Errorf("%v: %d rows of 5000", m, len(wide))
		}
	}
}
