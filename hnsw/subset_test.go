package hnsw

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/chromad/chromad/internal/kernel"
)

// TestSubset: a subset gives what its rows as a filter give where all of them are
// compared, and as many of the nearest elsewhere; by copies of the vectors, and by
// the vectors where they are.
func TestSubset(t *testing.T) {
	t.Run("few numbers", func(t *testing.T) { testSubset(t, 96, metrics...) })
	t.Run("many", func(t *testing.T) { testSubset(t, 340, kernel.L2) }) // so that copies are listed
}

func testSubset(t *testing.T, dim int, metrics ...kernel.Metric) {
	const n = 6000
	base, held := split(clustered(71, n+30, dim), 30)
	r := rand.New(rand.NewPCG(72, 1))
	for _, m := range metrics {
		v := matrix(m, base, dim, 5)
		touched := v
		var seen []uint32
		touched.Touch = func(rows []uint32) error {
			seen = append(seen, rows...)
			return nil
		}
		for _, p := range []Params{{}, {Bits: plainBits}, {Bits: 2}} { // of 2 bits, many more rows have to be looked at than are wanted
			g := mustBuild(t, v, p)
			for i, size := range []int{0, 1, 9, 64, 65, 300, 1500, 1501, n} {
				set := make([]uint64, (n+63)/64)
				for _, row := range r.Perm(n)[:size] {
					set[row>>6] |= 1 << (row & 63)
				}
				name := fmt.Sprintf("%v, %d bits, %d rows", m, g.codes.Bits, size)
				u, err := g.Subset(v, append(slices.Clone(set), 1), true, 1<<30) // what lies beyond is no row
				if err != nil {
					t.Fatal(name, err)
				}
				bare, err := g.Subset(touched, set, i%2 == 0, 1<<30)
				if err != nil {
					t.Fatal(name, err)
				}
				if u.Len() != size || u.packed() != (size > 0 && size <= n/packedShare) || bare.vectors.Data != nil || bare.packed() != (u.packed() && !g.plain) {
					t.Fatalf("%s: %d rows, packed: %v and %v", name, u.Len(), u.packed(), bare.packed())
				}
				for _, short := range []int{0, 1} {
					if less, err := g.Subset(v, set, true, u.Bytes()-short); err != nil || less.packed() != (u.packed() && short == 0) || less.Len() != size {
						t.Fatalf("%s: %d bytes less, packed: %v, %v", name, short, less.packed(), err)
					}
				}
				var s Scratch
				for i, x := range held {
					q := Query{Vector: x, K: 10 + 20*(i%2), EF: 40, Exact: i%3 == 0}
					if i%4 == 0 {
						q.Late = func() (float32, bool) { return 1e6, true }
					}
					q.Allowed = set
					want := all(g.Search(nil, v, q, &s))
					plan := s.Trace().Plan
					q.Allowed, q.Subset = nil, u
					got := all(g.Search(nil, v, q, &s))
					if packed := s.Trace().Plan == "packed"; size > 0 && packed != u.packed() {
						t.Fatalf("%s: %s", name, s.Trace().Plan)
					}
					if s.Trace().Matches != size {
						t.Fatalf("%s: %d matches", name, s.Trace().Matches)
					}
					if plan == "scan" || plan == "exact" || !u.packed() {
						if !slices.Equal(got, want) {
							t.Fatalf("%s: %v instead of %v", name, got, want)
						}
					} else {
						q.Exact = true
						truth := all(g.Search(nil, v, q, &s))
						if !slices.Equal(got, truth) {
							t.Errorf("%s: %v, nearest are %v", name, got, truth)
						}
						q.Exact = false
					}
					q.Subset, seen = bare, seen[:0]
					again := all(g.Search(nil, touched, q, &s))
					if !slices.Equal(got, again) {
						t.Fatalf("%s: %v and with vectors where they are %v", name, got, again)
					}
					for _, row := range seen {
						if bare.packed() && !has(set, row) {
							t.Fatalf("%s: row %d was read", name, row)
						}
					}
				}
			}
		}
	}
}

// TestSubsetOrder: copies are as near as they are wherever they lie: all near ones in every
// sixteenth place, one after the other, first or last, with the same codes, and by lot.
func TestSubsetOrder(t *testing.T) {
	const n, most, dim = 8000, 2000, 40
	rows := clustered(78, n, dim)
	for name, near := range map[string]func(at int) bool{
		"sixteenth": func(at int) bool { return at%16 == 3 },
		"first":     func(at int) bool { return at < 100 },
		"last":      func(at int) bool { return at >= most-100 },
		"lot":       func(at int) bool { return at*7919%most < 100 },
		"none":      func(int) bool { return false },
		"same":      func(at int) bool { return at%13 == 0 },
	} {
		base, r := slices.Clone(rows), rand.New(rand.NewPCG(79, 1))
		for at := range most {
			base[at] = make([]float32, dim)
			for i := range base[at] {
				if base[at][i] = float32(r.NormFloat64()); near(at) {
					base[at][i] = base[at][i]/10 + 3
				}
				if name == "same" && near(at) {
					base[at][i] = base[0][i] + float32(r.NormFloat64())*1e-4
				}
			}
		}
		copy(base[500], base[501])
		v := matrix(kernel.L2, base, dim, 0)
		g := mustBuild(t, v, Params{Bits: 4})
		set := make([]uint64, (most+63)/64)
		for row := range most {
			set[row>>6] |= 1 << (row & 63)
		}
		u, err := g.Subset(v, set, true, 1<<30)
		if err != nil || !u.packed() {
			t.Fatal(err)
		}
		var s Scratch
		for _, k := range []int{1, 9, 10, 11, 16, 17, 100, 499} {
			for _, row := range []int{3, 19, 26, 500, most - 1, n - 1} {
				want := all(Exact(nil, v, Query{Vector: base[row], K: k, Allowed: set}, nil))
				got := all(g.Search(nil, v, Query{Vector: base[row], K: k, EF: 400, Subset: u}, &s))
				missed := 0 // an error of three standard deviations
				for _, nb := range want {
					if !slices.Contains(got, nb) {
						missed++
					}
				}
				if len(got) != k || missed > k/100 || s.Trace().Plan != "packed" || s.Trace().Scored != most {
					t.Fatalf("%s: k %d of row %d: %d rows, %d of the nearest missed, %+v", name, k, row, len(got), missed, s.Trace())
				}
			}
		}
	}
}

// TestScratchAfterPanic: who reads mapped vectors may be stopped by a fault, which is
// a panic; what the next search finds with the same scratch is its own.
func TestScratchAfterPanic(t *testing.T) {
	const n, dim = 3000, 8
	rows := clustered(76, n, dim)
	v := matrix(kernel.L2, rows, dim, 0)
	g := mustBuild(t, v, Params{})
	set := make([]uint64, (n+63)/64)
	for row := range n / 5 {
		set[row>>4] |= 1 << (row & 15)
	}
	u, err := g.Subset(v, set, false, 1<<20)
	if err != nil || !u.packed() {
		t.Fatal(err)
	}
	broken := v
	broken.Touch = func([]uint32) error { panic("fault") }
	s := new(Scratch)
	func() {
		defer func() { _ = recover() }()
		_, err := g.Search(nil, broken, Query{Vector: rows[1], K: 5, Subset: u}, s)
		t.Fatal("no fault: ", err)
	}()
	for _, q := range []Query{{EF: 20}, {Exact: true}, {Allowed: set}, {Subset: u}} {
		q.Vector, q.K = rows[2], 5
		if got, want := all(g.Search(nil, v, q, s)), all(g.Search(nil, v, q, nil)); !slices.Equal(got, want) {
			t.Errorf("%v instead of %v", got, want)
		}
	}
}

// TestScanFar: one row that is far from all others makes every estimate seem
// coarse, so that a scan lists more rows than it may. It finds the nearest all
// the same, without allocations.
func TestScanFar(t *testing.T) {
	const n, dim, k = listMost + 3000, 6, 10
	rows := clustered(74, n, dim)
	rows[n/3] = []float32{1e7, 0, 0, 0, 0, 0}
	v := matrix(kernel.L2, rows, dim, 0)
	b, err := newBuilder(t.Context(), v, Params{M: 8, Bits: 4})
	if err != nil {
		t.Fatal(err)
	}
	b.g = newGraph(make([]uint8, n), 8)
	if err := b.attach(); err != nil {
		t.Fatal(err)
	}
	g := b.g
	g.links = nil
	var s Scratch
	var got []Neighbor
	for i := range 20 {
		x := rows[i*97]
		q := Query{Vector: x, K: k}
		got = all(g.Search(got[:0], v, q, &s))
		if want := exactly(v, x, k, nil, nil); !slices.Equal(got, want) {
			t.Fatalf("row %d: %v instead of %v", i*97, got, want)
		}
		if i == 0 && s.Trace().Scored != 2*n {
			t.Errorf("%+v", s.Trace())
		}
	}
	if n := testing.AllocsPerRun(5, func() { got = all(g.Search(got[:0], v, Query{Vector: rows[5], K: k}, &s)) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestSubsetOf refuses vectors of another graph.
func TestSubsetOf(t *testing.T) {
	v := matrix(kernel.L2, clustered(73, 2000, 8), 8, 0)
	g := mustBuild(t, v, Params{})
	for name, v := range map[string]Vectors{"rows": {Metric: v.Metric, Data: v.Data, Rows: 1999, Dim: 8, Stride: 8}, "metric": {Metric: kernel.IP, Data: v.Data, Rows: 2000, Dim: 8, Stride: 8}} {
		if u, err := g.Subset(v, []uint64{1}, true, 1<<30); err == nil {
			t.Errorf("%s: %v", name, u)
		}
	}
}

// TestHigh: the rows of the highest levels that a search begins with are those of
// the lowest level that has few, and it finds no less than from the entry.
func TestHigh(t *testing.T) {
	const n, dim = 12000, 260 // of 4 bits, these are three blocks
	base, held := split(clustered(75, n+200, dim), 200)
	v := matrix(kernel.L2, base, dim, 0)
	for _, m := range []int{4, 16} {
		g := mustBuild(t, v, Params{M: m})
		if len(g.high) == 0 || len(g.high) > highRows || g.highLevel < 1 {
			t.Fatalf("M %d: %d rows from level %d on", m, len(g.high), g.highLevel)
		}
		below := 0
		for s, row := range g.seatRow {
			if g.seat(row) != s {
				t.Fatalf("M %d: row %d has seat %d, not %d", m, row, g.seat(row), s)
			}
			if level := g.seatLevel(uint32(s)); slices.Contains(g.high, row) != (level >= g.highLevel) {
				t.Errorf("M %d: row %d is at level %d", m, row, level)
			} else if level >= g.highLevel-1 {
				below++
			}
		}
		if g.highLevel > 1 && below <= highRows {
			t.Errorf("M %d: %d rows from level %d on are few, too", m, below, g.highLevel-1)
		}
		for row := range uint32(n + 100) {
			if got, want := g.seat(row), slices.Index(g.seatRow, row); got != want {
				t.Fatalf("M %d: row %d has seat %d, not %d", m, row, got, want)
			}
		}
		right := 0
		var s Scratch
		for _, x := range held {
			all(g.Search(nil, v, Query{Vector: x, K: 1, EF: 10}, &s)) // it is aimed
			s.aim(v, &Query{Vector: x})
			s.aimCodes(g)
			keys := make([]uint64, len(g.high))
			for i, row := range g.high {
				keys[i] = pack(kernel.L2Squared(x, v.row(row)), row)
			}
			slices.Sort(keys)
			if row := g.nearestHigh(&s); slices.IndexFunc(keys, func(key uint64) bool { return nodeOf(key) == row }) < max(1, len(keys)/50) {
				right++
			}
		}
		if right < len(held)*9/10 {
			t.Errorf("M %d: one of the nearest of %d rows is found for %d of %d", m, len(g.high), right, len(held))
		}
		from := recall(t, search, g, v, held, 10, 20, nil)
		g.high = nil
		if entry := recall(t, search, g, v, held, 10, 20, nil); from < entry-0.01 {
			t.Errorf("M %d: recall %.3f, from the entry %.3f", m, from, entry)
		}
	}
}
