package hnsw

import (
	"slices"
	"testing"
)

// TestPairs: in its groups, of all sizes, a node finds those that are nearest to it, by
// distances that differ by no more than a two-thousandth; as many as it should, none twice,
// and not itself. Rows that are near to none are outliers by a million.
func TestPairs(t *testing.T) {
	const n, dim = 6000, 24
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
		k.most = k.near + k.near/4
		if err := k.partition(); err != nil {
			t.Fatal(err)
		}
		k.width, k.norm, k.bias, k.to = k.grid.stride, k.grid.norm, k.grid.bias, len(k.nodes)
		if err := k.compare(); err != nil {
			t.Fatal(err)
		}
		w, sizes := k.workers[0], map[int]bool{}
		for i, r := range k.rows {
			w.aim(k.grid, r)
			for rank, group := range k.groupOf[i*k.fan : (i+1)*k.fan] {
				members := k.member[k.first[group]:k.first[group+1]]
				sizes[len(members)%packRows] = true
				seen, worst, found := map[uint32]bool{uint32(i): true}, int32(0), 0
				distances := slices.Clone(w.distances(rowsOf(k, members)))
				for _, at := range k.foundBy(i, rank) {
					if at == noMember {
						break
					}
					if seen[members[at]] {
						t.Fatalf("%v: node %d finds %d a second time, or itself", m, i, members[at])
					}
					seen[members[at]] = true
					worst, found = max(worst, distances[at]), found+1
				}
				if least := min(k.near, len(members)-1); found < least {
					t.Fatalf("%v: node %d finds %d of %d", m, i, found, len(members))
				}
				for at, d := range distances {
					if !seen[members[at]] && float64(d) < float64(worst)/1.0005 {
						t.Fatalf("%v: node %d misses one at %d, the farthest that it finds is at %d", m, i, d, worst)
					}
				}
			}
		}
		if len(sizes) < packRows/2 {
			t.Errorf("%v: groups of %d sizes", m, len(sizes))
		}
	}
}
