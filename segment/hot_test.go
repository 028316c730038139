package segment

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/hnsw"
	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
)

// bareRows have ids and vectors only.
func bareRows(seed uint64, n, dim int) []Row {
	rng := rand.New(rand.NewPCG(seed, 61))
	rows := make([]Row, n)
	for i := range rows {
		v := make([]float32, dim)
		for j := range v {
			v[j] = float32(rng.NormFloat64())
		}
		rows[i] = Row{Order: uint64(i), ID: fmt.Sprint(i), Vector: v}
	}
	return rows
}

// TestHotPart: the first search loads graph and codes into memory that the
// budget counts, or reads them in the mapping when there is no room; the answer
// is the same. What is loaded does not need the file any more, is used by a
// merge, and given back with the reader.
func TestHotPart(t *testing.T) {
	const dim = 8
	rows := bareRows(1, 32000, dim)
	fs, dir := tempFS(t)
	spec := testSpec(1, dim, kernel.L2)
	spec.GraphMin = 1
	info := mustWrite(t, fs, seal.Plain(), spec, rows)
	var want []hnsw.Neighbor
	ask := func(r *Reader) []hnsw.Neighbor {
		t.Helper()
		got, err := r.Search(context.Background(), Query{Vector: rows[7].Vector, K: 10, EF: 50}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for _, tc := range []struct {
		name   string
		budget int64
		loaded bool
	}{{"room", 1 << 30, true}, {"no room", 1 << 20, false}} {
		b := disk.NewBudget(tc.budget)
		spec.Memory = b
		r := mustOpen(t, fs, seal.Plain(), spec, info)
		if f, found, err := r.Index(); err != nil || !found || f.Bits != 8 || f.CodeBytes != 64 || f.M != 8 || b.Used() != 0 {
			t.Errorf("%s: %+v, %v, %v, %d bytes", tc.name, f, found, err, b.Used())
		}
		few := roaring.BitmapOf(1, 2, 3)
		if _, err := r.Search(t.Context(), Query{Vector: rows[7].Vector, K: 2, Allowed: few}, nil); err != nil || b.Used() != 0 {
			t.Errorf("%s: %d bytes for three rows, %v", tc.name, b.Used(), err)
		}
		got := ask(r)
		if want == nil {
			want = got
		}
		s, _ := r.file.Section(sectionGraph)
		used := int64(0)
		if tc.loaded {
			used = int64(s.Len())
		}
		if !slices.Equal(got, want) || b.Used() != used {
			t.Errorf("%s: %v instead of %v, %d bytes are counted, not %d", tc.name, got, want, b.Used(), used)
		}
		g, err := r.ownGraph()
		if h, _, _ := r.graph.peek(); err != nil || (g == h.graph) != tc.loaded {
			t.Errorf("%s: a merge would read %p, searches read %p, %v", tc.name, g, h.graph, err)
		}
		if err := r.Close(); err != nil || b.Used() != 0 {
			t.Errorf("%s: %d bytes are left, %v", tc.name, b.Used(), err)
		}
	}
	hotDamage(t, fs, dir, rows, spec, info)
	// The walk goes on without the file, up to the vectors.
	spec.Memory = disk.NewBudget(1 << 30)
	r := mustOpen(t, fs, seal.Plain(), spec, info)
	ask(r)
	if err := os.Truncate(filepath.Join(dir, Name(1)), 4096); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Search(t.Context(), Query{Vector: rows[7].Vector, K: 10, EF: 50}, nil); !errors.Is(err, disk.ErrCorrupt) {
		t.Errorf("of a truncated file: %v", err)
	}
	if err := r.Degraded(); err != nil {
		t.Errorf("the graph was read from the file: %v", err)
	}
}

// hotDamage: a flipped bit anywhere in the hot part is met by the first
// search, which compares all rows then, and says so.
func hotDamage(t *testing.T, fs *vfs.Root, dir string, rows []Row, spec Spec, info Info) {
	r := mustOpen(t, fs, seal.Plain(), spec, info)
	part := disk.Part{}
	for _, p := range r.Parts() {
		if p.Kind == sectionGraph {
			part = p
		}
	}
	name := filepath.Join(dir, Name(1))
	for _, at := range []int64{0, 70, part.Length / 8, part.Length / 2, part.Length - 1} { // header, codec, codes, links, the end
		whole, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		bad := slices.Clone(whole)
		bad[part.Offset+at] ^= 1
		if err := os.WriteFile(name, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		spec.Memory = disk.NewBudget(1 << 30)
		r := mustOpen(t, fs, seal.Plain(), spec, info)
		trace := Trace{}
		got, err := r.Search(t.Context(), Query{Vector: rows[7].Vector, K: 3, Trace: &trace}, nil)
		exact, e := r.Search(t.Context(), Query{Vector: rows[7].Vector, K: 3, Exact: true}, nil)
		if err != nil || e != nil || !slices.Equal(got, exact) || trace.Plan != "exact" || trace.Bits != 0 {
			t.Errorf("byte %d: %v, %v, %+v", at, got, err, trace)
		}
		if !errors.Is(r.Degraded(), disk.ErrCorrupt) || spec.Memory.Used() != 0 {
			t.Errorf("byte %d: degraded: %v, %d bytes are kept", at, r.Degraded(), spec.Memory.Used())
		}
		if err := errors.Join(r.Close(), os.WriteFile(name, whole, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestIDs reads ids of many rows at once: short ones share memory, long ones do not.
func TestIDs(t *testing.T) {
	rows := randomRows(rand.New(rand.NewPCG(3, 61)), 300, 4)
	long := make([]byte, 3000)
	for i := range long {
		long[i] = 'x'
	}
	rows[17].ID, rows[18].ID = string(long), string(long)+"y"
	r := written(t, testSpec(1, 4, kernel.L2), rows)
	for _, some := range [][]uint32{nil, {0}, {299, 0, 5, 5}, {17, 3, 18, 299}} {
		ids := make([]string, len(some))
		if err := r.IDs(some, ids); err != nil {
			t.Fatal(err)
		}
		for i, row := range some {
			if ids[i] != rows[row].ID {
				t.Errorf("row %d has id %q, not %q", row, ids[i], rows[row].ID)
			}
		}
	}
	var before, want []string // several calls' ids share memory
	for row := range uint32(300) {
		ids := make([]string, 2)
		if err := r.IDs([]uint32{row, 299 - row}, ids); err != nil {
			t.Fatal(err)
		}
		before, want = append(before, ids...), append(want, rows[row].ID, rows[299-row].ID)
	}
	if !slices.Equal(before, want) {
		t.Error("ids did not stay as they were read")
	}
	names := []string{"of the query before"}
	for _, k := range []int{0, 1, 7, 300} { // at first not all blocks have been looked at
		found, err := r.Search(context.Background(), Query{Vector: rows[17].Vector, K: k, IDs: &names}, nil)
		if err != nil || len(names) != len(found) || len(found) != k {
			t.Fatalf("%d ids of %d rows, %v", len(names), len(found), err)
		}
		for i, n := range found {
			if names[i] != rows[n.Row].ID {
				t.Errorf("row %d has id %q, not %q", n.Row, names[i], rows[n.Row].ID)
			}
		}
	}
	if err := r.IDs([]uint32{1, 300}, make([]string, 2)); err == nil {
		t.Error("a row that is not there has an id")
	}
}

// TestLoadDeadline: who waits for the load of a graph by another waits no longer
// than until its deadline, and gets its error, not a scan of all rows.
func TestLoadDeadline(t *testing.T) {
	fs, _ := tempFS(t)
	spec := testSpec(1, 8, kernel.L2)
	spec.GraphMin = 1
	rows := bareRows(2, 1500, 8)
	r := mustOpen(t, fs, seal.Plain(), spec, mustWrite(t, fs, seal.Plain(), spec, rows))
	release, begun, loaded := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		loaded <- r.guard(func() error {
			_, err := r.graph.get(t.Context(), func() (hot, error) {
				close(begun)
				<-release
				return r.loadGraph()
			})
			return err
		})
	}()
	<-begun
	ctx, end := context.WithCancel(t.Context())
	waiting := make(chan error)
	go func() {
		q := Query{Vector: rows[5].Vector, K: 3}
		got, err := r.Search(ctx, q, nil)
		if len(got) > 0 {
			err = fmt.Errorf("%d rows, %w", len(got), err)
		}
		waiting <- err
	}()
	time.AfterFunc(20*time.Millisecond, end)
	select {
	case err := <-waiting:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the search waits for the load")
	}
	close(release)
	if err := <-loaded; err != nil {
		t.Error(err)
	}
	var trace Trace
	got, err := r.Search(t.Context(), Query{Vector: rows[5].Vector, K: 3, Trace: &trace}, nil)
	if err != nil || len(got) != 3 || trace.Bits == 0 {
		t.Errorf("%v, %v, %+v", got, err, trace)
	}
}
