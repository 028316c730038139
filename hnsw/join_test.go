package hnsw

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/chromad/chromad/internal/kernel"
)

// torn splits rows among so many parts at random, but for those that new says are of none,
// and builds their graphs. Of every part one in drop rows is not kept.
func torn(t *testing.T, m kernel.Metric, rows [][]float32, count, drop int, isNew func(i int) bool) (parts []Part, kept [][]float32) {
	t.Helper()
	r := rand.New(rand.NewPCG(5, uint64(len(rows))))
	of := make([][][]float32, count)
	to := make([][]uint32, count)
	for i, x := range rows {
		if isNew(i) {
			kept = append(kept, x)
			continue
		}
		p := r.IntN(count)
		of[p] = append(of[p], x)
		if len(of[p])%drop == 0 {
			to[p] = append(to[p], NoRow)
			continue
		}
		to[p] = append(to[p], uint32(len(kept)))
		kept = append(kept, x)
	}
	for p := range of {
		parts = append(parts, part(mustBuild(t, matrix(m, of[p], len(rows[0]), 0), Params{}), to[p]))
	}
	return parts, kept
}

// TestJoin: rows of several graphs, of none, dropped ones, and equal ones in one and in
// different parts.
func TestJoin(t *testing.T) {
	const n, dim = 6000, 16
	rows, queries := split(clustered(91, n+100, dim), 100)
	for i := range 60 {
		rows[n-1-i*50] = rows[i%4]
	}
	for _, m := range metrics {
		for _, c := range []struct{ parts, drop, fresh int }{{2, n, n}, {4, 9, 17}, {7, 3, 2}} {
			if testing.Short() && c.parts != 4 {
				continue
			}
			t.Run(fmt.Sprintf("%v/%d", m, c.parts), func(t *testing.T) {
				parts, kept := torn(t, m, rows, c.parts, c.drop, func(i int) bool { return i%c.fresh == 1 })
				v := matrix(m, kept, dim, 0)
				var first []byte
				var g *Graph
				for _, workers := range []int{1, 3} {
					var err error
					if g, err = Join(t.Context(), parts, v, Params{Workers: workers}); err != nil {
						t.Fatal(err)
					}
					b, _ := g.AppendBinary(nil)
					if first != nil && !bytes.Equal(first, b) {
						t.Error("three workers join to another graph than one")
					}
					first = b
				}
				mustReach(t, g)
				joined := recall(t, walkOnly, g, v, queries, 10, 12, nil)
				built := recall(t, walkOnly, mustBuild(t, v, Params{}), v, queries, 10, 12, nil)
				t.Logf("recall at ef 12: %.3f, built anew %.3f, links %.1f", joined, built, meanDegree(g))
				if joined < built-0.01 {
					t.Errorf("recall %.3f, built anew %.3f", joined, built)
				}
			})
		}
	}
}

// TestJoinGenerations: what comes of parts that came of parts is no worse than a graph that was
// built at once.
func TestJoinGenerations(t *testing.T) {
	if testing.Short() {
		t.Skip("three generations of 27 parts")
	}
	const n, dim = 27 * 600, 24
	rows, queries := split(clustered(92, n+300, dim), 300)
	type piece struct {
		g           *Graph
		first, size int
	}
	var pieces []piece
	for at := 0; at < n; at += 600 {
		pieces = append(pieces, piece{mustBuild(t, matrix(kernel.L2, rows[at:at+600], dim, 0), Params{}), at, 600})
	}
	for len(pieces) > 1 {
		var next []piece
		for some := range slices.Chunk(pieces, 3) {
			whole := piece{first: some[0].first, size: 3 * some[0].size}
			var parts []Part
			for i, p := range some {
				to := make([]uint32, p.size)
				for r := range to {
					to[r] = uint32(i*p.size + r)
				}
				parts = append(parts, part(p.g, to))
			}
			var err error
			v := matrix(kernel.L2, rows[whole.first:whole.first+whole.size], dim, 0)
			if whole.g, err = Join(t.Context(), parts, v, Params{}); err != nil {
				t.Fatal(err)
			}
			next = append(next, whole)
		}
		pieces = next
	}
	v := matrix(kernel.L2, rows, dim, 0)
	mustReach(t, pieces[0].g)
	fresh := mustBuild(t, v, Params{})
	for _, ef := range []int{10, 16} {
		joined := recall(t, walkOnly, pieces[0].g, v, queries, 10, ef, nil)
		built := recall(t, walkOnly, fresh, v, queries, 10, ef, nil)
		t.Logf("ef %d: recall %.4f, built at once %.4f; links %.1f, %.1f", ef, joined, built, meanDegree(pieces[0].g), meanDegree(fresh))
		if joined < built-0.005 {
			t.Errorf("ef %d: recall %.4f, built at once %.4f", ef, joined, built)
		}
	}
}

// TestJoinFinds: in every group a node finds those that are nearest to it among the rows of
// other parts, and no more of its own than lie in one pack with others.
func TestJoinFinds(t *testing.T) {
	const n, dim = 5000, 16
	parts, kept := torn(t, kernel.L2, clustered(93, n, dim), 3, 8, func(i int) bool { return i%11 == 1 })
	b, err := newBuilder(t.Context(), matrix(kernel.L2, kept, dim, 0), Params{})
	if err != nil {
		t.Fatal(err)
	}
	b.begin()
	base, err := parts[0].graph()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.takeOver(base, parts); err != nil {
		t.Fatal(err)
	}
	k := &bulk{builder: b, nodes: b.rows, rows: b.rows, fan: joinedFan, near: nearOf(b.p)}
	if err := k.partition(); err != nil {
		t.Fatal(err)
	}
	k.most = k.near + k.near/4
	k.width, k.norm = k.grid.stride, k.grid.norm
	k.to = len(k.nodes)
	if err := k.compare(); err != nil {
		t.Fatal(err)
	}
	w, skipped, all := b.workers[0], 0, 0
	for i, r := range k.rows {
		w.aim(k.grid, r)
		for rank, group := range k.groupOf[i*k.fan : (i+1)*k.fan] {
			members := k.member[k.first[group]:k.first[group+1]]
			var others []uint32 // of other parts
			for _, m := range members {
				if q := k.rows[m]; q != r && (k.part[r] == 0 || k.part[q] != k.part[r]) {
					others = append(others, q)
				}
			}
			skip, on := packsOf(k.know(rowsOf(k, members), slices.Index(members, uint32(i))))
			skips := on > skip
			var found []uint32
			for _, m := range k.foundBy(i, rank) {
				if m == noMember {
					break
				}
				q := k.rows[members[m]]
				if q == r || slices.Contains(found, q) || skips && k.part[q] == k.part[r] {
					t.Fatalf("row %d of part %d finds row %d of part %d", r, k.part[r], q, k.part[q])
				}
				found = append(found, q)
			}
			all++
			if skips {
				skipped++
			} else {
				others = others[:0]
			}
			// All others that are nearer than the farthest of those found are found too.
			worst := slices.Max(append(slices.Clone(w.distances(found)), 0))
			for j, d := range w.distances(others) {
				if d < worst && !slices.Contains(found, others[j]) {
					t.Fatalf("row %d of part %d misses row %d of part %d at %d, found up to %d", r, k.part[r], others[j], k.part[others[j]], d, worst)
				}
			}
			if least := min(k.p.M/2, len(others)); len(found) < least {
				t.Fatalf("row %d finds %d in a group of %d", r, len(found), len(members))
			}
		}
	}
	if skipped < all/2 {
		t.Errorf("%d of %d comparisons with a group skip what is known", skipped, all)
	}
}

// rowsOf is the rows of members.
func rowsOf(k *bulk, members []uint32) (rows []uint32) {
	for _, m := range members {
		rows = append(rows, k.rows[m])
	}
	return rows
}

// TestJoinPlain: parts that are of no use leave what Build makes.
func TestJoinPlain(t *testing.T) {
	const n, dim = 3000, 8
	parts, kept := torn(t, kernel.L2, clustered(94, n, dim), 2, n, func(int) bool { return false })
	v := matrix(kernel.L2, kept, dim, 0)
	want, _ := mustBuild(t, v, Params{M: 12}).AppendBinary(nil)
	none := func() (*Graph, error) { return nil, nil }
	for name, some := range map[string][]Part{
		"none": nil, "another M": parts, "no graphs": {{Rows: parts[0].Rows, Graph: none}, {Rows: parts[1].Rows, Graph: none}},
	} {
		g, err := Join(t.Context(), some, v, Params{M: 12})
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := g.AppendBinary(nil); !bytes.Equal(got, want) {
			t.Errorf("%s: not what a build makes", name)
		}
	}
	broken := errors.New("broken")
	bad := slices.Clone(parts)
	bad[1].Graph = func() (*Graph, error) { return nil, broken }
	if _, err := Join(t.Context(), bad, v, Params{}); !errors.Is(err, broken) {
		t.Errorf("a graph that cannot be had: %v", err)
	}
	bad[1] = Part{Rows: parts[0].Rows, Graph: parts[1].Graph}
	if _, err := Join(t.Context(), bad, v, Params{}); err == nil {
		t.Error("two parts give the same rows")
	}
	bad[1] = Part{Rows: parts[1].Rows, Graph: parts[0].Graph}
	if _, err := Join(t.Context(), bad, v, Params{}); err == nil && len(parts[0].Rows) != len(parts[1].Rows) {
		t.Error("a map that is not of its graph")
	}
}
