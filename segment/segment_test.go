package segment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/hnsw"
	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// oddRows are the corners: every kind of value, nil and empty, long and
// strange ids, numbers that are not.
func oddRows(dim int) []Row {
	vector := func(x float32) []float32 {
		v := make([]float32, dim)
		v[0], v[dim-1] = x, -x
		return v
	}
	return []Row{
		{Order: 0, ID: "plain", Vector: vector(1)},
		{Order: 1, ID: "", Vector: vector(0)},
		{Order: 5, ID: "水/../\x00\xff", Vector: vector(float32(math.Copysign(0, -1))), Document: ptr(""), URI: ptr("")},
		{Order: 6, ID: strings.Repeat("long", 5000), Vector: vector(math.MaxFloat32 / 1e20), Document: ptr("Grüße, 世界")},
		{Order: 7, ID: "all kinds", Vector: vector(1e-40), Metadata: filter.Metadata{
			"bool": filter.Bool(true), "int": filter.Int(math.MinInt64), "float": filter.Float(math.Inf(-1)),
			"string": filter.String(""), "bools": filter.Bools(true, false), "ints": filter.Ints(1, -1),
			"floats": filter.Floats(0.1), "strings": filter.Strings("a", "", "水"), "": filter.Int(0),
		}},
		{Order: math.MaxUint64, ID: "big", Vector: vector(2), URI: ptr(strings.Repeat("u", textBlock)),
			Document: ptr(strings.Repeat("0123456789", textBlock/2))},
	}
}

func TestRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 0))
	cases := []struct {
		name string
		dim  int
		rows []Row
	}{
		{"odd", 3, oddRows(3)},
		{"one", 1, oddRows(1)[:1]},
		{"no texts", 16, []Row{{Order: 3, ID: "a", Vector: make([]float32, 16)}, {Order: 4, ID: "b", Vector: make([]float32, 16)}}},
		{"many", 17, randomRows(rng, 1500, 17)},
	}
	for _, c := range cases {
		for _, metric := range []kernel.Metric{kernel.L2, kernel.Cosine, kernel.IP} {
			for _, s := range []testKeys{seal.Plain(), newGCM(t)} {
				for _, graphMin := range []int{1, 1 << 30} {
					name := fmt.Sprintf("%s/%v/key %d/graph from %d", c.name, metric, s.KeyID(), graphMin)
					t.Run(name, func(t *testing.T) {
						fs, _ := tempFS(t)
						spec := testSpec(7, c.dim, metric)
						spec.GraphMin = graphMin
						info := mustWrite(t, fs, s, spec, c.rows)
						first, last := c.rows[0].Order, c.rows[len(c.rows)-1].Order
						if info.Rows != uint32(len(c.rows)) || info.MinOrder != first || info.MaxOrder != last || info.Number != 7 {
							t.Fatalf("info %+v", info)
						}
						r := mustOpen(t, fs, s, spec, info)
						if err := differs(r, c.rows); err != nil {
							t.Fatal(err)
						}
						if err := verify(context.Background(), r); err != nil {
							t.Fatal(err)
						}
						if r.Bytes() != info.Length || r.Dim() != c.dim || r.Metric() != metric {
							t.Fatalf("%d bytes, dimension %d, %v", r.Bytes(), r.Dim(), r.Metric())
						}
						// Who knows only number and file finds out the rest.
						bare := Spec{Store: spec.Store, Collection: spec.Collection, Number: 7, File: spec.File}
						if err := differs(mustOpen(t, fs, s, bare, Info{}), c.rows); err != nil {
							t.Fatal(err)
						}
					})
				}
			}
		}
	}
}

func TestInfo(t *testing.T) {
	want := Info{Number: 1 << 60, File: testID(9), Rows: 1 << 30, MinOrder: 2, MaxOrder: math.MaxUint64, Info: disk.Info{Length: 1 << 50, Root: 77}}
	b, err := want.AppendBinary([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	d := disk.NewDecoder(b[1:])
	if got := DecodeInfo(d); got != want || d.Done() != nil {
		t.Fatalf("%+v, %v", got, d.Done())
	}
	for n := range len(b) - 1 {
		d := disk.NewDecoder(b[1 : 1+n])
		if DecodeInfo(d); !errors.Is(d.Err(), disk.ErrCorrupt) {
			t.Fatalf("%d bytes: %v", n, d.Err())
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	v := []float32{1, 2}
	stop := errors.New("stop")
	cases := []struct {
		name string
		spec func(*Spec)
		rows func(yield func(Row, error) bool)
		want error
		text string
	}{
		{"no rows", nil, each(nil), ErrEmpty, ""},
		{"rows fail", nil, func(yield func(Row, error) bool) {
			_ = yield(Row{ID: "a", Vector: v}, nil) && yield(Row{}, stop)
		}, stop, ""},
		{"dimension", nil, each([]Row{{Vector: v[:1]}}), nil, "row 0 has 1 dimensions instead of 2"},
		{"order again", nil, each([]Row{{Order: 4, ID: "a", Vector: v}, {Order: 4, ID: "b", Vector: v}}), nil, "row 1 has order 4, the one before 4"},
		{"order back", nil, each([]Row{{Order: 4, ID: "a", Vector: v}, {Order: 3, ID: "b", Vector: v}}), nil, "row 1 has order 3"},
		{"id again", nil, each([]Row{{Order: 1, ID: "a", Vector: v}, {Order: 2, ID: "b", Vector: v}, {Order: 3, ID: "a", Vector: v}}), nil, `rows 0 and 2 have the same id`},
		{"no dimension", func(s *Spec) { s.Dim = 0 }, each(nil), nil, "dimension 0"},
		{"dimension beyond", func(s *Spec) { s.Dim = maxDim + 1 }, each(nil), nil, "dimension 65537"},
		{"metric", func(s *Spec) { s.Metric = 9 }, each(nil), nil, "unknown metric"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			fs, _ := tempFS(t)
			spec := testSpec(1, 2, kernel.L2)
			if c.spec != nil {
				c.spec(&spec)
			}
			_, err := Write(context.Background(), fs, seal.Plain(), spec, c.rows)
			if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Fatalf("%v", err)
			}
			nothingLeft(t, fs)
		})
	}
}

// nothingLeft fails when a failed write has left a file.
func nothingLeft(t *testing.T, fs vfs.FS) {
	t.Helper()
	for _, dir := range []string{"seg", "tmp"} {
		list, err := fs.List(dir)
		if err == nil && len(list) > 0 {
			t.Fatalf("%s holds %v", dir, list)
		}
	}
}

func TestCancel(t *testing.T) {
	fs, _ := tempFS(t)
	rows := randomRows(rand.New(rand.NewPCG(2, 0)), 2000, 8)
	spec := testSpec(1, 8, kernel.L2)
	ctx, cancel := context.WithCancel(context.Background())
	_, err := Write(ctx, fs, seal.Plain(), spec, func(yield func(Row, error) bool) {
		for i, r := range rows {
			if i == 1000 {
				cancel()
			}
			if !yield(r, nil) {
				return
			}
		}
		t.Error("all rows were asked for")
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	nothingLeft(t, fs)
	r := written(t, spec, rows)
	if _, err := Merge(ctx, fs, seal.Plain(), testSpec(2, 8, kernel.L2), []Input{{Reader: r}}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	nothingLeft(t, fs)
	if _, err := r.Search(ctx, Query{Vector: rows[0].Vector, K: 1}, nil); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := verify(ctx, r); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestOutOfRange(t *testing.T) {
	r := written(t, testSpec(1, 3, kernel.L2), oddRows(3))
	rows := uint32(r.Rows())
	for _, row := range []uint32{rows, math.MaxUint32} {
		for name, f := range map[string]func() error{
			"id":       func() error { _, err := r.ID(row); return err },
			"order":    func() error { _, err := r.Order(row); return err },
			"vector":   func() error { _, err := r.Vector(row); return err },
			"metadata": func() error { _, err := r.Metadata(row); return err },
			"document": func() error { _, _, err := r.Document(row); return err },
			"uri":      func() error { _, _, err := r.URI(row); return err },
			"search": func() error {
				_, err := r.Search(context.Background(), Query{Vector: make([]float32, 3), K: 1, Allowed: roaring.BitmapOf(row)}, nil)
				return err
			},
		} {
			if err := f(); err == nil || errors.Is(err, disk.ErrCorrupt) {
				t.Errorf("%s of row %d: %v", name, row, err)
			}
		}
	}
	if _, err := r.Search(context.Background(), Query{Vector: make([]float32, 4), K: 1}, nil); err == nil {
		t.Error("a query of another dimension was answered")
	}
	for _, c := range []struct {
		order uint64
		row   uint32
		found bool
	}{{0, 0, true}, {2, 2, false}, {4, 2, false}, {5, 2, true}, {8, 5, false}, {math.MaxUint64, 5, true}} {
		if row, found, err := r.FindOrder(c.order); row != c.row || found != c.found || err != nil {
			t.Errorf("order %d: row %d, %v, %v", c.order, row, found, err)
		}
	}
}

func TestLookupAbsent(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 0))
	for _, n := range []int{1, 2, 3, 4, 100, 1023, 1024} {
		r := written(t, testSpec(1, 2, kernel.L2), randomRows(rng, n, 2))
		for i := range 2000 {
			id := fmt.Sprintf("absent-%d", i)
			if row, found, err := r.Lookup(id); found || err != nil {
				t.Fatalf("%d rows: %s is row %d, %v", n, id, row, err)
			}
		}
	}
}

// Ids that agree in slot and tag are told apart by their bytes.
func TestLookupCollision(t *testing.T) {
	spec := testSpec(1, 1, kernel.L2)
	const rows = 5
	slots := slotCount(rows)
	type place struct {
		slot int
		tag  uint32
	}
	seen := map[place]string{}
	var pairs [][2]string
	for i := 0; len(pairs) < 4; i++ {
		id := fmt.Sprint(i)
		slot, tag := slotOf(hashID(hashSeed(spec.File), id), rows, slots)
		if other, ok := seen[place{slot, tag}]; ok {
			pairs = append(pairs, [2]string{other, id})
		}
		seen[place{slot, tag}] = id
	}
	var in []Row
	for i, p := range pairs {
		in = append(in, Row{Order: uint64(i), ID: p[0], Vector: []float32{0}})
	}
	in = append(in, Row{Order: 9, ID: pairs[3][1], Vector: []float32{0}}) // one pair is there whole
	r := written(t, spec, in)
	if err := differs(r, in); err != nil {
		t.Fatal(err)
	}
	for _, p := range pairs[:3] {
		if row, found, err := r.Lookup(p[1]); found || err != nil {
			t.Fatalf("%s is row %d like %s, %v", p[1], row, p[0], err)
		}
	}
}

func TestSearchExact(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 0))
	const n, dim = 700, 19
	for _, metric := range []kernel.Metric{kernel.L2, kernel.Cosine, kernel.IP} {
		for _, s := range []testKeys{seal.Plain(), newGCM(t)} {
			rows := randomRows(rng, n, dim)
			rows[13].Vector = slices.Clone(rows[12].Vector) // a tie
			clear(rows[14].Vector)
			fs, _ := tempFS(t)
			spec := testSpec(1, dim, metric)
			info := mustWrite(t, fs, s, spec, rows)
			for range 60 {
				// A fresh reader each time: no block is verified yet.
				r := mustOpen(t, fs, s, spec, info)
				q := Query{Vector: randomRows(rng, 1, dim)[0].Vector, K: []int{1, 2, 10, n, n + 5}[rng.IntN(5)], Exact: rng.IntN(2) == 0}
				if size := []int{-1, 0, 1, 5, 80, 400, n}[rng.IntN(7)]; size >= 0 {
					q.Allowed = roaring.New()
					for range size {
						q.Allowed.Add(uint32(rng.IntN(n)))
					}
					if size == n {
						q.Allowed.AddRange(0, n)
					}
				}
				if err := answersExactly(r, rows, metric, q); err != nil {
					t.Fatalf("%v, %d of %v: %v", metric, q.K, q.Allowed, err)
				}
			}
		}
	}
}

func answersExactly(r *Reader, rows []Row, m kernel.Metric, q Query) error {
	before := []hnsw.Neighbor{{Row: 77}}
	got, err := r.Search(context.Background(), q, slices.Clone(before))
	if err != nil {
		return err
	}
	if len(got) == 0 || got[0] != before[0] {
		return fmt.Errorf("what was in dst is gone: %v", got)
	}
	got = got[1:]
	want := nearest(rows, m, q.Vector, q.K, q.Allowed)
	if len(got) != len(want) {
		return fmt.Errorf("%d rows instead of %d", len(got), len(want))
	}
	for i := range got {
		// A rounding away from each other two rows may change places.
		if math.Abs(float64(got[i].Distance-want[i].Distance)) > 1e-4*(1+math.Abs(float64(want[i].Distance))) {
			return fmt.Errorf("place %d is %v instead of %v", i, got[i], want[i])
		}
		if d := kernel.Distance(m, q.Vector, rows[got[i].Row].Vector); math.Abs(float64(d-got[i].Distance)) > 1e-4*(1+math.Abs(float64(d))) {
			return fmt.Errorf("row %d is %v away, not %v", got[i].Row, d, got[i].Distance)
		}
		if i > 0 && (got[i].Distance < got[i-1].Distance || got[i].Distance == got[i-1].Distance && got[i].Row <= got[i-1].Row) {
			return fmt.Errorf("%v stands after %v", got[i], got[i-1])
		}
		if q.Allowed != nil && !q.Allowed.Contains(got[i].Row) {
			return fmt.Errorf("row %d is not allowed", got[i].Row)
		}
	}
	return nil
}

func TestGraphRecall(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 0))
	const n, dim, k, queries = 6000, 12, 10, 60
	rows := randomRows(rng, n, dim)
	for _, metric := range []kernel.Metric{kernel.L2, kernel.Cosine, kernel.IP} {
		spec := testSpec(1, dim, metric)
		spec.GraphMin = 0
		r := written(t, spec, rows)
		for _, share := range []int{0, 90} { // percent that is allowed, 0: no filter
			var allowed *roaring.Bitmap
			if share > 0 {
				allowed = roaring.New()
				for i := range uint32(n) {
					if rng.IntN(100) < share {
						allowed.Add(i)
					}
				}
			}
			hits := 0
			for range queries {
				q := Query{Vector: randomRows(rng, 1, dim)[0].Vector, K: k, EF: 100, Allowed: allowed}
				got, err := r.Search(context.Background(), q, nil)
				if err != nil {
					t.Fatal(err)
				}
				want := nearest(rows, metric, q.Vector, k, allowed)
				for _, g := range got {
					if slices.ContainsFunc(want, func(w hnsw.Neighbor) bool { return w.Row == g.Row }) {
						hits++
					}
				}
			}
			if recall := float64(hits) / (k * queries); recall < 0.9 {
				t.Errorf("%v, %d%% allowed: recall %.3f", metric, share, recall)
			}
		}
		if r.Degraded() != nil {
			t.Error(r.Degraded())
		}
	}
}

func TestFilter(t *testing.T) {
	rows := randomRows(rand.New(rand.NewPCG(6, 0)), 900, 2)
	r := written(t, testSpec(1, 2, kernel.L2), rows)
	for i, e := range testFilters() {
		got, err := r.Filter(context.Background(), e)
		if err != nil {
			t.Fatal(err)
		}
		want := roaring.New()
		for row := range rows {
			if e.Match(rows[row].Metadata, rows[row].Document) {
				want.Add(uint32(row))
			}
		}
		if !got.Equals(want) {
			t.Errorf("filter %d: %d rows instead of %d", i, got.GetCardinality(), want.GetCardinality())
		}
	}
}

// What a condition held for is kept, and nobody who was given it can change it.
func TestFilterKept(t *testing.T) {
	rows := randomRows(rand.New(rand.NewPCG(6, 1)), 900, 2)
	spec := testSpec(1, 2, kernel.L2)
	spec.Cache = NewCache(1 << 20)
	r := written(t, spec, rows)
	size := int64(0)
	for i, e := range testFilters() {
		if e == nil {
			continue // all rows
		}
		first, err := r.Filter(context.Background(), e)
		if err != nil {
			t.Fatal(err)
		}
		want := first.Clone()
		first.Flip(0, uint64(len(rows)))
		if key, _ := e.Key(); r.documents.shared.rows(cacheKey{file: spec.File, where: key}) == nil {
			t.Errorf("filter %d is not kept", i)
		}
		for range 2 {
			again, err := r.Filter(context.Background(), e)
			if err != nil || !again.Equals(want) {
				t.Errorf("filter %d the second time: %v, %d rows instead of %d", i, err, again.GetCardinality(), want.GetCardinality())
			}
			again.Clear()
		}
		if now := spec.Cache.Size(); now <= size {
			t.Errorf("filter %d is kept for nothing: %d bytes, then %d", i, size, now)
		} else {
			size = now
		}
	}
}

func TestSameBytes(t *testing.T) {
	rows := randomRows(rand.New(rand.NewPCG(7, 0)), 2000, 8)
	var files, merged [][]byte
	for _, workers := range []int{1, 2} {
		fs, _ := tempFS(t)
		spec := testSpec(1, 8, kernel.Cosine)
		spec.GraphMin, spec.Graph.Workers = 1, workers
		info := mustWrite(t, fs, seal.Plain(), spec, rows[:1500])
		a := mustOpen(t, fs, seal.Plain(), spec, info)
		spec.Number, spec.File = 2, testID(8)
		info = mustWrite(t, fs, seal.Plain(), spec, rows[1500:])
		b := mustOpen(t, fs, seal.Plain(), spec, info)
		spec.Number, spec.File = 3, testID(9)
		dead := roaring.BitmapOf(3, 4, 900)
		if _, err := Merge(context.Background(), fs, seal.Plain(), spec, []Input{{b, nil}, {a, dead}}); err != nil {
			t.Fatal(err)
		}
		files = append(files, content(t, fs, Name(1)))
		merged = append(merged, content(t, fs, Name(3)))
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("Write: the number of workers shows in the bytes")
	}
	if !bytes.Equal(merged[0], merged[1]) {
		t.Error("Merge: the number of workers shows in the bytes")
	}
}

// A graph over the file that is being written is the graph over memory.
func TestSpill(t *testing.T) {
	rows := randomRows(rand.New(rand.NewPCG(8, 0)), 500, 8)
	spec := testSpec(1, 8, kernel.Cosine)
	spec.GraphMin = 1
	spec.Graph.Seed = 3
	spilled := func(fs vfs.FS) error {
		_, err := create(context.Background(), fs, seal.Plain(), spec, func(b *builder) error {
			b.keep = 100 * b.stride * 4
			for _, row := range rows {
				if err := b.add(row, filter.AppendMetadata(nil, row.Metadata)); err != nil {
					return err
				}
			}
			if !b.spilled || b.vectors != nil {
				t.Error("the vectors are in memory")
			}
			return nil
		}, hnsw.Build)
		return err
	}
	fs, other := faultfs.New(1), faultfs.New(1)
	mustWrite(t, fs, seal.Plain(), spec, rows)
	if err := spilled(other); err != nil {
		t.Fatal(err)
	}
	if other.Handles() != 0 {
		t.Errorf("%d handles are open", other.Handles())
	}
	if !bytes.Equal(content(t, fs, Name(1)), content(t, other, Name(1))) {
		t.Error("other bytes")
	}
	failing := faultfs.New(1)
	failing.Inject(faultfs.Rule{Op: faultfs.OpMap})
	if err := spilled(failing); err == nil || failing.Handles() != 0 {
		t.Errorf("%v, %d handles", err, failing.Handles())
	}
	nothingLeft(t, failing)
}

// Calls of all kinds, and Close in the midst of them.
func TestConcurrent(t *testing.T) {
	rows := randomRows(rand.New(rand.NewPCG(8, 0)), 1200, 4)
	for _, s := range []testKeys{seal.Plain(), newGCM(t)} {
		fs, _ := tempFS(t)
		spec := testSpec(1, 4, kernel.Cosine)
		spec.GraphMin = 1
		info := mustWrite(t, fs, s, spec, rows)
		for range 8 {
			r := mustOpen(t, fs, s, spec, info)
			var wg sync.WaitGroup
			for g := range 4 {
				wg.Go(func() {
					rng := rand.New(rand.NewPCG(9, uint64(g)))
					for range 100 {
						row := uint32(rng.IntN(len(rows)))
						_, err := r.Search(context.Background(), Query{Vector: rows[row].Vector, K: 3, EF: 30}, nil)
						if err == nil {
							_, err = r.Filter(context.Background(), filter.DocumentContains("delta"))
						}
						if err == nil {
							_, _, err = r.Document(row)
						}
						if errors.Is(err, ErrClosed) {
							return
						}
						if err != nil {
							t.Error(err)
						}
					}
				})
			}
			for _, _, err := r.Document(5); err == nil; _, _, err = r.Document(5) {
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			}
			wg.Wait()
			if err := errors.Join(r.Close()); err != nil {
				t.Error(err)
			}
			if _, err := r.ID(0); !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
		}
	}
}
