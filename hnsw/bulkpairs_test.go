package hnsw

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/chromad/chromad/internal/kernel"
)

// TestPairs: in its groups a node finds those that are nearest to it, by distances that differ by
// no more than a two-thousandth; as many as it should, none twice, and not itself. Groups have all
// sizes, and some rows are a million times as far as the others.
func TestPairs(t *testing.T) {
	const n, dim = 5000, 128
	rows := clustered(57, n, dim)
	for i := range 40 {
		rows[i*100+1] = rows[i*100] // equal rows hang below others: groups have no such
		for j := range rows[i*100+2] {
			rows[i*100+2][j] *= 1e6
		}
		rows[i*100+3] = slices.Clone(rows[3]) // hardly different from many
		rows[i*100+3][i%dim] += float32(i) * 1e-3
	}
	for _, m := range metrics {
		k := newTestBulk(t, matrix(m, rows, dim, 1))
		k.most, k.once = k.near+k.near/4, true
		if err := k.partition(); err != nil {
			t.Fatal(err)
		}
		for _, whole := range []bool{true, false} {
			k.width, k.norm, k.bias = k.grid.stride, k.grid.norm, k.grid.bias
			if !whole {
				k.width, k.norm, k.bias = 64, make([]int32, k.v.Rows), make([]int32, k.v.Rows)
				for _, r := range k.rows {
					for _, u := range k.grid.code(r)[:k.width] {
						x := int32(u) - 128
						k.norm[r] += x * x
						k.bias[r] += x*x + 256*x
					}
				}
			}
			k.to = len(k.nodes)
			if err := k.compare(); err != nil {
				t.Fatal(err)
			}
			sizes := map[int]bool{}
			for i := 0; i < len(k.nodes); i += 11 {
				for rank, group := range k.groupOf[i*k.fan : (i+1)*k.fan] {
					members := k.member[k.first[group]:k.first[group+1]]
					sizes[len(members)%packRows] = true
					nearestFound(t, k, i, rank, members)
				}
			}
			if len(sizes) < packRows/2 {
				t.Errorf("%v: groups of %d sizes", m, len(sizes))
			}
		}
	}
}

// TestPairsSizes: one worker compares groups of one and more after larger ones.
func TestPairsSizes(t *testing.T) {
	const n, dim = groupMost, 16
	k := newTestBulk(t, matrix(kernel.L2, clustered(58, n, dim), dim, 0))
	k.most, k.once, k.fan = k.near+k.near/4, true, 1
	k.width, k.norm, k.bias = k.grid.stride, k.grid.norm, k.grid.bias
	all := k.nodes
	for _, size := range []int{len(all), 1, 2, 31, 32, 33, 64, 65, 767, 2} {
		k.nodes, k.rows, k.to = all[:size], all[:size], size
		k.groupOf = make([]uint32, size)
		if err := k.layOut(1); err != nil {
			t.Fatal(err)
		}
		k.workers = k.workers[:1]
		if err := k.compare(); err != nil {
			t.Fatal(err)
		}
		for i := 0; i < size; i += 1 + size/70 {
			nearestFound(t, k, i, 0, k.member)
		}
	}
	if cap(k.workers[0].across) == 0 {
		t.Error("each distance was computed twice")
	}
}

// nearestFound holds what the i-th node has found among members to the distances by k.width
// coordinates.
func nearestFound(t *testing.T, k *bulk, i, rank int, members []uint32) {
	t.Helper()
	distance := func(m uint32) (d int32) {
		x, y := k.grid.code(k.rows[i])[:k.width], k.grid.code(k.rows[m])[:k.width]
		for j := range x {
			step := int32(x[j]) - int32(y[j])
			d += step * step
		}
		return d
	}
	seen, worst, found := map[uint32]bool{uint32(i): true}, int32(0), 0
	for _, at := range k.foundBy(i, rank) {
		if at == noMember {
			break
		}
		if seen[members[at]] {
			t.Fatalf("node %d finds %d a second time, or itself", i, members[at])
		}
		seen[members[at]] = true
		worst, found = max(worst, distance(members[at])), found+1
	}
	if least := min(k.near, len(members)-1); found < least {
		t.Fatalf("node %d finds %d of %d", i, found, len(members))
	}
	for _, m := range members {
		if d := distance(m); !seen[m] && float64(d) < float64(worst)/1.0005 {
			t.Fatalf("node %d misses one at %d, the farthest that it finds is at %d", i, d, worst)
		}
	}
}

// TestChoose holds links to the rule that they are chosen by, one after the other.
func TestChoose(t *testing.T) {
	const n, dim = 400, 70
	r := rand.New(rand.NewPCG(59, 60))
	rows := clustered(59, n, dim)
	for i := range 100 {
		rows[r.IntN(n)] = slices.Clone(rows[i]) // at the same distances
	}
	b, err := newBuilder(t.Context(), matrix(kernel.L2, rows, dim, 0), Params{Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	b.begin()
	w := b.workers[0]
	between := func(x, y uint32) int32 {
		w.aim(b.grid, x)
		return w.distances([]uint32{y})[0]
	}
	for range 2000 {
		row, count, most := r.Uint32N(n), 1+r.IntN(1<<r.IntN(8)), 1+r.IntN(20)
		var list []uint32
		for _, i := range r.Perm(n)[:count] {
			if uint32(i) != row {
				list = append(list, uint32(i))
			}
		}
		left := slices.Clone(list)
		slices.SortStableFunc(left, func(x, y uint32) int {
			return cmp.Compare(shrink(between(row, x)), shrink(between(row, y)))
		})
		var want []uint32
		for _, x := range left {
			passed := slices.ContainsFunc(want, func(y uint32) bool {
				d := between(y, x)
				return d < shrink(between(row, x)) || d <= 0
			})
			if !passed && len(want) < most {
				want = append(want, x)
			}
		}
		w.aim(b.grid, row)
		got := b.choose(w, 0, list, most, nil)
		if len(want) < min(fewLinks, most, len(list)) {
			got = got[:len(want)] // and those that fill adds
		}
		if !slices.Equal(got, want) {
			t.Fatalf("of %d candidates of row %d, %d at most: %v, want %v", len(list), row, most, got, want)
		}
	}
}
