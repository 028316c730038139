package segment

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/hnsw"
	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
)

// model is a collection as a plain map, beside the segments that hold it.
type model struct {
	t        *testing.T
	rng      *rand.Rand
	fs       vfs.FS
	sealer   testKeys
	live     map[string]Row
	segments []*modelSegment
	order    uint64
	number   uint64
}

type modelSegment struct {
	r    *Reader
	rows []Row
	dead *roaring.Bitmap
}

func (m *model) spec() Spec {
	m.number++
	s := testSpec(m.number, 5, kernel.Cosine)
	s.GraphMin = []int{1, 60, 1 << 30}[m.rng.IntN(3)]
	return s
}

// write adds a segment of new records and of new versions of old ones.
func (m *model) write() {
	rows := map[string]Row{}
	for _, row := range randomRows(m.rng, 1+m.rng.IntN(80), 5) {
		m.order += 1 + m.rng.Uint64N(3)
		row.Order, row.ID = m.order, fmt.Sprint("id", m.order)
		if old, ok := m.anyLive(); ok && m.rng.IntN(3) == 0 {
			row.Order, row.ID = old.Order, old.ID // keeps its place
		}
		rows[row.ID] = row
	}
	for _, row := range rows {
		m.kill(row.ID)
		m.live[row.ID] = row
	}
	sorted := slices.SortedFunc(maps.Values(rows), func(a, b Row) int { return int(a.Order) - int(b.Order) })
	spec := m.spec()
	info := mustWrite(m.t, m.fs, m.sealer, spec, sorted)
	m.add(mustOpen(m.t, m.fs, m.sealer, spec, info), sorted)
}

func (m *model) add(r *Reader, rows []Row) {
	m.segments = append(m.segments, &modelSegment{r, rows, roaring.New()})
}

func (m *model) anyLive() (Row, bool) {
	if len(m.live) == 0 {
		return Row{}, false
	}
	ids := slices.Sorted(maps.Keys(m.live))
	return m.live[ids[m.rng.IntN(len(ids))]], true
}

// kill marks the row of id dead, wherever it is.
func (m *model) kill(id string) {
	delete(m.live, id)
	for _, s := range m.segments {
		row, found, err := s.r.Lookup(id)
		if err != nil {
			m.t.Fatal(err)
		}
		if found {
			s.dead.Add(row)
		}
	}
}

// merge replaces some segments by one.
func (m *model) merge() {
	m.rng.Shuffle(len(m.segments), func(i, j int) { m.segments[i], m.segments[j] = m.segments[j], m.segments[i] })
	n := m.rng.IntN(len(m.segments) + 1)
	var in []Input
	var rows []Row
	for _, s := range m.segments[:n] {
		dead := s.dead
		if dead.IsEmpty() && m.rng.IntN(2) == 0 {
			dead = nil
		}
		in = append(in, Input{s.r, dead})
		for i, row := range s.rows {
			if !s.dead.Contains(uint32(i)) {
				rows = append(rows, row)
			}
		}
	}
	slices.SortFunc(rows, func(a, b Row) int { return int(a.Order) - int(b.Order) })
	spec := m.spec()
	info, err := Merge(context.Background(), m.fs, m.sealer, spec, in)
	if len(rows) == 0 {
		if !errors.Is(err, ErrEmpty) {
			m.t.Fatalf("no row is left: %v", err)
		}
	} else if err != nil {
		m.t.Fatal(err)
	}
	m.segments = m.segments[n:]
	if len(rows) > 0 {
		m.add(mustOpen(m.t, m.fs, m.sealer, spec, info), rows)
	}
}

func (m *model) check() {
	count := 0
	for _, s := range m.segments {
		if err := differs(s.r, s.rows); err != nil {
			m.t.Fatal(err)
		}
		if err := verify(context.Background(), s.r); err != nil {
			m.t.Fatal(err)
		}
		for i, row := range s.rows {
			if s.dead.Contains(uint32(i)) {
				continue
			}
			count++
			if live, ok := m.live[row.ID]; !ok || live.Order != row.Order || live.Document != row.Document {
				m.t.Fatalf("%s is alive in %s and not in the model", row.ID, s.r.name)
			}
		}
		q := Query{Vector: randomRows(m.rng, 1, 5)[0].Vector, K: 7, Exact: true, Allowed: roaring.New()}
		q.Allowed.AddRange(0, uint64(s.r.Rows()))
		q.Allowed.AndNot(s.dead)
		if err := answersExactly(s.r, s.rows, kernel.Cosine, q); err != nil {
			m.t.Fatal(err)
		}
	}
	if count != len(m.live) {
		m.t.Fatalf("%d rows are alive instead of %d", count, len(m.live))
	}
}

// Random histories of writes, updates, deletions and merges, against a map.
func TestModel(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			fs, _ := tempFS(t)
			m := &model{t: t, rng: rand.New(rand.NewPCG(seed, 1)), fs: fs, sealer: seal.Plain(), live: map[string]Row{}}
			if seed%3 == 2 {
				m.sealer = newGCM(t)
			}
			for range 25 {
				switch m.rng.IntN(4) {
				case 0, 1:
					m.write()
				case 2:
					for range m.rng.IntN(60) {
						if row, ok := m.anyLive(); ok {
							m.kill(row.ID)
						}
					}
				case 3:
					m.merge()
				}
				m.check()
			}
		})
	}
}

func TestMergeRefuses(t *testing.T) {
	fs, _ := tempFS(t)
	rng := rand.New(rand.NewPCG(1, 1))
	rows := randomRows(rng, 10, 2)
	a, b := written(t, testSpec(1, 2, kernel.L2), rows), written(t, testSpec(2, 2, kernel.L2), rows[5:])
	later := slices.Clone(rows[5:])
	for i := range later {
		later[i].Order += 1000
	}
	again := written(t, testSpec(4, 2, kernel.L2), later)
	merge := func(spec Spec, in ...Input) error {
		_, err := Merge(context.Background(), fs, seal.Plain(), spec, in)
		return err
	}
	spec := testSpec(3, 2, kernel.L2)
	for name, c := range map[string]struct {
		err  error
		want error
	}{
		"nothing":         {merge(spec), ErrEmpty},
		"all dead":        {merge(spec, Input{b, roaring.BitmapOf(0, 1, 2, 3, 4)}), ErrEmpty},
		"dead beyond":     {merge(spec, Input{b, roaring.BitmapOf(0, 1, 2, 3, 4, 5, 6, 700)}), ErrEmpty},
		"one order twice": {merge(spec, Input{a, nil}, Input{b, nil}), disk.ErrCorrupt},
		"one id twice":    {merge(spec, Input{a, nil}, Input{again, nil}), disk.ErrCorrupt},
		"dimension":       {merge(testSpec(3, 3, kernel.L2), Input{a, nil}), nil},
		"metric":          {merge(testSpec(3, 2, kernel.IP), Input{a, nil}), nil},
	} {
		if c.err == nil || c.want != nil && !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v", name, c.err)
		}
	}
	nothingLeft(t, fs)
}

// The graph of the merged segment finds what a graph of its own would, whether
// the base has lost rows, gained rows before and between its own, or both.
func TestMergeRecall(t *testing.T) {
	const n, dim, k, queries = 5000, 10, 10, 50
	rng := rand.New(rand.NewPCG(2, 2))
	rows := randomRows(rng, n, dim)
	fs, _ := tempFS(t)
	open := func(number uint64, rows []Row) *Reader {
		spec := testSpec(number, dim, kernel.L2)
		spec.GraphMin = 1
		return mustOpen(t, fs, seal.Plain(), spec, mustWrite(t, fs, seal.Plain(), spec, rows))
	}
	var big, small []Row
	for _, row := range rows {
		if rng.IntN(5) == 0 {
			small = append(small, row)
		} else {
			big = append(big, row)
		}
	}
	dead := roaring.New()
	for i := range big {
		if rng.IntN(10) == 0 {
			dead.Add(uint32(i))
		}
	}
	var last [2]int
	spec := testSpec(3, dim, kernel.L2)
	spec.GraphMin = 1
	spec.Graph.Progress = func(done, total int) { last = [2]int{done, total} }
	info, err := Merge(context.Background(), fs, seal.Plain(), spec, []Input{{open(1, small), nil}, {open(2, big), dead}})
	if err != nil {
		t.Fatal(err)
	}
	if last[0] != last[1] || last[1] == 0 {
		t.Errorf("the last progress is %d of %d", last[0], last[1])
	}
	r := mustOpen(t, fs, seal.Plain(), spec, info)
	var left []Row
	for _, row := range rows {
		if _, found, _ := r.Lookup(row.ID); found {
			left = append(left, row)
		}
	}
	if len(left) != n-int(dead.GetCardinality()) {
		t.Fatalf("%d rows", len(left))
	}
	if _, ok := r.file.Section(sectionGraph); !ok {
		t.Fatal("no graph")
	}
	hits := 0
	for range queries {
		q := Query{Vector: randomRows(rng, 1, dim)[0].Vector, K: k, EF: 100}
		got, err := r.Search(context.Background(), q, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range nearest(left, kernel.L2, q.Vector, k, nil) {
			if slices.ContainsFunc(got, func(g hnsw.Neighbor) bool { return g.Row == w.Row }) {
				hits++
			}
		}
	}
	if recall := float64(hits) / (k * queries); recall < 0.9 {
		t.Errorf("recall %.3f", recall)
	}
}
