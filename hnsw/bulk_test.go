package hnsw

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromad/chromad/internal/kernel"
)

// newTestBulk is a bulk over the rows of v, its groups not made yet.
func newTestBulk(t *testing.T, v Vectors) *bulk {
	b, err := newBuilder(t.Context(), v, Params{Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	return &bulk{builder: b, nodes: b.rows, rows: b.rows, fan: fan, near: 32}
}

// TestGrid holds the distances of the grid to their definition, and to the
// order of the true ones.
func TestGrid(t *testing.T) {
	for _, dim := range []int{1, 2, 7, 31, 33, 64, 200} {
		for _, m := range metrics {
			rows := clustered(uint64(dim), 300, dim)
			b := newTestBulk(t, matrix(m, rows, dim, 1))
			w := b.workers[0]
			all := b.rows
			for _, r := range []uint32{0, 17, 299} {
				w.aim(b.grid, r)
				for i, d := range slices.Clone(w.distances(all)) {
					want, x, y := int32(0), b.grid.code(r), b.grid.code(all[i])
					for j := range x {
						step := int32(x[j]) - int32(y[j])
						want += step * step
					}
					if d != want {
						t.Fatalf("%v, %d numbers: rows %d and %d are %d apart, want %d", m, dim, r, i, d, want)
					}
				}
			}
		}
	}
}

// TestSieve: guesses decide how long it takes, never whether the smallest are
// found.
func TestSieve(t *testing.T) {
	r := rand.New(rand.NewPCG(51, 52))
	var s sieve
	for range 6000 {
		d := make([]int32, r.IntN(500))
		spread := 1 + r.Int32N(1<<r.IntN(30))
		for i := range d {
			switch d[i] = r.Int32N(spread) - spread/2; r.IntN(40) {
			case 0:
				d[i] = math.MinInt32 + r.Int32N(3) // far from the others
			case 1:
				d[i] = math.MaxInt32 // does not count
			}
		}
		if r.IntN(3) == 0 {
			slices.Sort(d)
		}
		least := 1 + r.IntN(60)
		most := least + r.IntN(20)
		var all []uint64
		for i, x := range d {
			if x < math.MaxInt32 {
				all = append(all, biased(x, i))
			}
		}
		slices.Sort(all)
		var got []uint64
		for _, at := range s.nearest(d, least, most) {
			got = append(got, biased(d[at], int(at)))
		}
		slices.Sort(got)
		if len(got) < min(least, len(all)) || len(got) > most || !slices.Equal(got, all[:len(got)]) {
			t.Fatalf("%d to %d smallest of %d numbers: %x, want the first of %x", least, most, len(d), got, all)
		}
		var list []uint64
		half := len(d) / 2
		list = s.merge(s.merge(nil, d[:half], 0, least), d[half:], half, least)
		if !slices.Equal(list, all[:min(least, len(all))]) {
			t.Fatalf("%d smallest in two halves: %x, want %x", least, list, all)
		}
	}
}

// TestSplit puts all rows into one group: what becomes of it must be small
// groups with every row in one of them, also where all rows are in one place
// and leaders tell nothing.
func TestSplit(t *testing.T) {
	const n, dim = 3 * groupMost, 4
	for name, rows := range map[string][][]float32{
		"apart": clustered(53, n, dim),
		"one place": func() [][]float32 {
			rows := clustered(54, n, dim)
			for i := range rows {
				rows[i] = rows[0]
			}
			rows[n-1] = []float32{9, 9, 9, 9}
			return rows
		}(),
	} {
		k := newTestBulk(t, matrix(kernel.L2, rows, dim, 0))
		if name == "one place" { // they are equal: place them all the same
			k.nodes = make([]uint32, n)
			for i := range k.nodes {
				k.nodes[i] = uint32(i)
			}
			k.rows = k.nodes
		}
		k.fan = 1
		k.groupOf = make([]uint32, len(k.nodes))
		if err := k.layOut(1); err != nil {
			t.Fatal(err)
		}
		if err := k.split(); err != nil {
			t.Fatal(err)
		}
		seen := make([]bool, len(k.nodes))
		for g := range len(k.first) - 1 {
			members := k.member[k.first[g]:k.first[g+1]]
			if len(members) > groupMost {
				t.Errorf("%s: a group of %d", name, len(members))
			}
			for _, m := range members {
				if seen[m] || int(k.groupOf[m]) != g {
					t.Fatalf("%s: node %d is in group %d and another", name, m, g)
				}
				seen[m] = true
			}
		}
		if slices.Contains(seen, false) {
			t.Errorf("%s: a node is in no group", name)
		}
	}
}

// TestSizes builds at the borders of panels, groups and parts, from vectors of
// so few numbers that the grid holds them several times.
func TestSizes(t *testing.T) {
	heavy(t)
	for _, n := range []int{0, 1, 2, 31, 32, 33, 1000, groupOnly + 1, fewNodes + 1} {
		for _, dim := range []int{1, 2} {
			rows := clustered(55, n, dim)
			for _, m := range metrics {
				if n > fewNodes && m != kernel.L2 {
					continue
				}
				v := matrix(m, rows, dim, 0)
				g := mustBuild(t, v, Params{})
				mustReach(t, g)
				if n == 0 {
					continue
				}
				var queries [][]float32
				for i := range 20 {
					queries = append(queries, rows[i*(n-1)/19])
				}
				if got := recall(t, walkOnly, g, v, queries, min(10, n), 100, nil); got < 0.9 && (m != kernel.IP || n < 500) {
					t.Errorf("%v: %d rows of %d numbers: recall %.3f", m, n, dim, got)
				}
			}
		}
	}
}

// TestSameForms builds in processes that use other forms of the kernels: the
// links are the same. Codes are not, to the last bit: their norms are sums of
// float32, which the forms add up in different orders.
func TestSameForms(t *testing.T) {
	const ask = "CHROMAD_TEST_SUM"
	sum := func() string {
		all := sha256.New()
		for _, dim := range []int{3, 40, 200, 1536} {
			n := groupOnly + 500
			if dim == 200 {
				n = narrowFrom
			}
			rows := clustered(56, n, dim)
			for _, m := range metrics {
				if dim > 40 && m != kernel.L2 {
					continue // plain Go takes its time
				}
				g := mustBuild(t, matrix(m, rows, dim, 0), Params{})
				fmt.Fprintln(all, g.entry, g.links, g.seatRow, g.upper)
			}
		}
		return fmt.Sprintf("%x", all.Sum(nil))
	}
	if os.Getenv(ask) == "" {
		heavy(t)
	} else {
		fmt.Printf("sum: %s %s\n", kernel.Name(), sum())
		return
	}
	want := sum()
	for _, form := range []string{"generic", "avx2"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestSameForms$", "-test.count=1")
		cmd.Env = append(os.Environ(), ask+"=1", "CHROMAD_KERNEL="+form)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", form, err, out)
		}
		_, line, _ := strings.Cut(string(out), "sum: ")
		if name, got, _ := strings.Cut(line, " "); !strings.HasPrefix(got, want) {
			t.Errorf("%s builds other links than %s", name, kernel.Name())
		}
	}
}

// TestCancelLeavesNothing ends builds while workers are at work.
func TestCancelLeavesNothing(t *testing.T) {
	v := matrix(kernel.L2, clustered(57, 5000, 24), 24, 0)
	for stop := int32(1); stop < 200; stop += 33 {
		ctx, cancel := context.WithCancel(t.Context())
		var begun, running atomic.Int32
		_, err := Build(ctx, v, Params{Workers: 3, Guard: func(work func()) {
			running.Add(1)
			defer func() {
				for range 100 { // time for a build that does not wait to return
					runtime.Gosched()
				}
				running.Add(-1)
			}()
			if begun.Add(1) == stop {
				cancel()
			}
			work()
		}})
		if stopped := ctx.Err() != nil; stopped != errors.Is(err, context.Canceled) || !stopped && err != nil {
			t.Errorf("stopped at %d: %v", stop, err)
		}
		if n := running.Load(); n != 0 {
			t.Errorf("stopped at %d: %d workers still run", stop, n)
		}
		cancel()
	}
}

var churnRows = flag.Int("churn.rows", 4000, "rows of TestChurn")

// TestChurn replaces three tenths of the rows twenty times. The links that
// come about must be as good as those of a graph built at once.
func TestChurn(t *testing.T) {
	const dim, rounds = 24, 20
	n := *churnRows
	rows, queries := split(clustered(58, 2*n+200, dim), 200)
	r := rand.New(rand.NewPCG(59, 60))
	order := r.Perm(len(rows)) // the first n are there
	vectors := func() Vectors {
		var now [][]float32
		for _, i := range order[:n] {
			now = append(now, rows[i])
		}
		return matrix(kernel.L2, now, dim, 0)
	}
	g := mustBuild(t, vectors(), Params{})
	for round := range rounds {
		old := make([]uint32, n)
		var stay, gone []int
		for i, row := range order[:n] {
			if old[i] = NoRow; r.IntN(10) >= 3 {
				old[i] = uint32(len(stay))
				stay = append(stay, row)
			} else {
				gone = append(gone, row)
			}
		}
		rest := order[n:]
		r.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
		order = slices.Concat(stay, rest, gone)
		var err error
		if g, err = extend(t, g, old, vectors(), Params{Seed: uint64(round)}); err != nil {
			t.Fatal(err)
		}
	}
	mustReach(t, g)
	v := vectors()
	fresh := mustBuild(t, v, Params{})
	for _, ef := range []int{20, 40} {
		got := recall(t, walkOnly, g, v, queries, 10, ef, nil)
		want := recall(t, walkOnly, fresh, v, queries, 10, ef, nil)
		t.Logf("ef %d: recall %.4f after %d rounds, %.4f built at once; links %.1f, %.1f", ef, got, rounds, want, meanDegree(g), meanDegree(fresh))
		if got < want-0.005 {
			t.Errorf("ef %d: recall %.4f after %d rounds, %.4f built at once", ef, got, rounds, want)
		}
	}
}

// TestExtendSameBytes: the workers decide nothing there either.
func TestExtendSameBytes(t *testing.T) {
	const n, dim = 3000, 12
	rows := clustered(61, n, dim)
	base := mustBuild(t, matrix(kernel.L2, rows[:2000], dim, 0), Params{})
	old := make([]uint32, 2000)
	for r := range old {
		if old[r] = uint32(r); r%7 == 0 {
			old[r] = NoRow
		}
	}
	for r := range 2000 { // the rows of base that are dropped stand for new ones
		if r%7 == 0 {
			rows[r] = rows[n-1-r/7]
		}
	}
	v := matrix(kernel.L2, rows, dim, 0)
	var first []byte
	for _, workers := range []int{1, 2, 5} {
		g, err := extend(t, base, old, v, Params{Workers: workers})
		if err != nil {
			t.Fatal(err)
		}
		mustReach(t, g)
		b, _ := g.AppendBinary(nil)
		if first == nil {
			first = b
		} else if !bytes.Equal(first, b) {
			t.Errorf("%d workers extend to another graph than one", workers)
		}
	}
}
