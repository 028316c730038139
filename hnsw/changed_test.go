package hnsw

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestChangedAfterDecode: a graph is used where it lies, and a file that is
// mapped can be written to by others. Whatever the bytes become after they
// were checked, searches end, within their memory, and find rows there are.
func TestChangedAfterDecode(t *testing.T) {
	heavy(t)
	const rows, dim, seed = 2500, 12, 71
	for i := range 2 * len(metrics) {
		metric, bits := metrics[i/2], []int{0, plainBits}[i%2]
		v := matrix(metric, clustered(seed, rows, dim), dim, 0)
		good, err := mustBuild(t, v, Params{M: 4, EFConstruction: 60, Bits: bits}).AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		some := make([]uint64, rows/64+1)
		for i := range some {
			some[i] = 0xaaaa5555aaaa5555
		}
		var s Scratch
		for trial := range 200 {
			b := bytes.Clone(good)
			g, err := Decode(b, rows)
			if err != nil {
				t.Fatal(err)
			}
			if g.top() < 3 || g.uneven != (metric == metrics[2]) {
				t.Fatalf("%v: %d levels, uneven %v", metric, g.top(), g.uneven)
			}
			spoil(rand.New(rand.NewPCG(seed, uint64(trial))), b, layoutIn(t, g))
			q := v.row(uint32(trial * 7))
			for name, found := range map[string][]Neighbor{
				"walk":   walkOnly(g, v, q, 10, 40, nil, &s),
				"search": search(g, v, q, 10, 40, nil, &s),
				"filter": search(g, v, q, 10, 40, some, &s),
				"wide":   walkOnly(g, v, q, 10, rows, nil, &s),
				"inside": subgraphOnly(g, v, q, 10, 40, some, &s),
				"few":    subgraphOnly(g, v, q, 10, 40, some[:3], &s),
			} {
				if len(found) > 10 || slices.ContainsFunc(found, func(n Neighbor) bool { return n.Row >= rows || strings.HasPrefix(name, "in") && !has(some, n.Row) }) {
					t.Fatalf("%v seed %d/%d %s: %v", metric, seed, trial, name, found)
				}
			}
			_ = g.Check()
			_ = g.checkSeats()
			_ = g.checkLinks()
			g.setFirst()
		}
	}
}

// spoil writes numbers that are wrong in many ways to one array of a graph, or
// to all of them: to a few places or to most.
func spoil(r *rand.Rand, b []byte, l layout) {
	arrays := l.arrays()
	all := arrays[1:] // the codec is copied
	if r.IntN(3) > 0 {
		i := r.IntN(len(all))
		all = all[i : i+1]
	}
	share := []int{1, 3, 50}[r.IntN(3)]
	for _, a := range all { // codes and meta may have none
		for at := a.at; at+4 <= a.at+a.len; at += 4 {
			if r.IntN(share) == 0 {
				x := []uint32{r.Uint32(), math.MaxUint32, 1 << 31, 2500, 2499, uint32(r.IntN(5000)), 0, 160}[r.IntN(8)]
				binary.NativeEndian.PutUint32(b[at:], x)
			}
		}
	}
}
