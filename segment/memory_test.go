package segment

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/hnsw"
	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

var memoryRounds = flag.Int("memory.rounds", 1500, "rounds of TestMemory; the long form is 10000, with -race")

// twin is an encrypted segment under a budget, and the same one, open a second
// time, that keeps everything: the model of what the first must answer.
type twin struct {
	rows     []Row
	r, model *Reader
}

func newTwin(t *testing.T, number uint64, rows []Row, metric kernel.Metric, b *disk.Budget) *twin {
	t.Helper()
	fs, _ := tempFS(t)
	keys := newGCM(t)
	spec := testSpec(number, len(rows[0].Vector), metric)
	spec.GraphMin = 1
	info := mustWrite(t, fs, keys, spec, rows)
	model := mustOpen(t, fs, keys, spec, info)
	spec.Memory = b
	return &twin{rows, mustOpen(t, fs, keys, spec, info), model}
}

// ask asks both for one thing of random kind.
func (w *twin) ask(rng *rand.Rand) error {
	row := uint32(rng.IntN(len(w.rows)))
	switch rng.IntN(6) {
	case 0, 1, 2:
		q := Query{Vector: w.rows[row].Vector, K: 1 + rng.IntN(20), EF: 30, Exact: rng.IntN(8) == 0}
		if rng.IntN(3) == 0 {
			q.Allowed = roaring.New()
			for range 1 + rng.IntN(300) {
				q.Allowed.Add(uint32(rng.IntN(len(w.rows))))
			}
		}
		got, err := w.r.Search(context.Background(), q, nil)
		want, e := w.model.Search(context.Background(), q, nil)
		if err != nil || e != nil || !slices.Equal(got, want) {
			return fmt.Errorf("search: %v, %w instead of %v, %w", got, err, want, e)
		}
	case 3:
		e := testFilters()[1:][rng.IntN(len(testFilters())-1)]
		got, err := w.r.Filter(context.Background(), e)
		want, e2 := w.model.Filter(context.Background(), e)
		if err != nil || e2 != nil || !got.Equals(want) {
			return fmt.Errorf("filter: %v, %w instead of %v, %w", got, err, want, e2)
		}
	default:
		for range 1 + rng.IntN(30) { // as a get of some rows
			if err := rowDiffers(w.r, row, w.rows[row]); err != nil {
				return fmt.Errorf("row %d: %w", row, err)
			}
			row = uint32(rng.IntN(len(w.rows)))
		}
	}
	return nil
}

// TestMemory: readers of a store that may decrypt next to nothing answer, from
// many goroutines at once, as those that keep everything, row by row.
func TestMemory(t *testing.T) {
	rounds := *memoryRounds
	if testing.Short() {
		rounds = min(rounds, 500)
	}
	b := disk.NewBudget(512 << 10)
	rng := rand.New(rand.NewPCG(1, 21))
	var twins []*twin
	size := 0
	for i := range 5 {
		metric := []kernel.Metric{kernel.L2, kernel.Cosine, kernel.IP}[i%3]
		w := newTwin(t, uint64(i+1), randomRows(rng, 1500, 40), metric, b)
		twins = append(twins, w)
		size += len(w.rows) * w.r.stride * 4
	}
	if size < 1<<20 {
		t.Fatalf("%d bytes of vectors are too few", size)
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(2, uint64(g)))
			for n := range rounds / 4 {
				w := twins[min(rng.IntN(len(twins)), rng.IntN(len(twins)))]
				if err := w.ask(rng); err != nil {
					t.Errorf("goroutine %d, round %d: %v", g, n, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, w := range twins {
		if err := errors.Join(verify(t.Context(), w.r), w.r.Close()); err != nil {
			t.Error(err)
		}
	}
	if b.Used() != 0 {
		t.Errorf("%d bytes are left", b.Used())
	}
}

// TestNothingAliases: what a reader returned stays what it was when the memory
// it came from is gone.
func TestNothingAliases(t *testing.T) {
	b := disk.NewBudget(1 << 40)
	w := newTwin(t, 1, randomRows(rand.New(rand.NewPCG(3, 21)), 800, 24), kernel.Cosine, b)
	got := make([]Row, len(w.rows))
	var sets []*roaring.Bitmap
	for i := range got {
		row := uint32(i)
		var errs [6]error
		got[i].ID, errs[0] = w.r.ID(row)
		got[i].Order, errs[1] = w.r.Order(row)
		got[i].Vector, errs[2] = w.r.Vector(row)
		got[i].Metadata, errs[3] = w.r.Metadata(row)
		for j, read := range []func(uint32) (string, bool, error){w.r.Document, w.r.URI} {
			text, ok, err := read(row)
			if errs[4+j] = err; ok {
				*[]**string{&got[i].Document, &got[i].URI}[j] = &text
			}
		}
		if err := errors.Join(errs[:]...); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range testFilters() {
		set, err := w.r.Filter(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		sets = append(sets, set)
	}
	// Room for nothing: everything that may be evicted is.
	before := b.Used()
	b.Reserve(1 << 40)()
	if gone := before - b.Used(); gone < int64(w.r.vectors.Len()+w.r.ids.data.Len()+w.r.metadata.data.Len()+w.r.documents.stored.Len()) {
		t.Fatalf("only %d bytes were evicted", gone)
	}
	for i, want := range w.rows {
		if got[i].ID != want.ID || !slices.EqualFunc(got[i].Vector, want.Vector, sameBits) || !got[i].Metadata.Equal(want.Metadata) ||
			(got[i].Document == nil) != (want.Document == nil) || want.Document != nil && *got[i].Document != *want.Document ||
			(got[i].URI == nil) != (want.URI == nil) || want.URI != nil && *got[i].URI != *want.URI {
			t.Fatalf("row %d has changed", i)
		}
	}
	for i, e := range testFilters() {
		for row := range w.rows {
			if sets[i].Contains(uint32(row)) != (e == nil || e.Match(w.rows[row].Metadata, w.rows[row].Document)) {
				t.Fatalf("filter %d has changed", i)
			}
		}
	}
	if err := differs(w.r, w.rows); err != nil {
		t.Error(err)
	}
}

// TestTouches: the first query of a segment decrypts what it looks at, and a
// segment that is asked on and on ends with all of it and no hook.
func TestTouches(t *testing.T) {
	b := disk.NewBudget(1 << 40)
	w := newTwin(t, 1, randomRows(rand.New(rand.NewPCG(4, 21)), 5000, 256), kernel.L2, b)
	if b.Used() > 64<<10 {
		t.Errorf("%d bytes are decrypted of a segment that was opened", b.Used())
	}
	size := int64(5000 * 256 * 4)
	q := Query{Vector: w.rows[5].Vector, K: 5, EF: 10}
	if _, err := w.r.Search(t.Context(), q, nil); err != nil {
		t.Fatal(err)
	}
	s, _ := w.r.file.Section(sectionGraph)
	if vectors := b.Used() - int64(s.Len()); vectors > size*3/4 || vectors < 1 {
		t.Errorf("%d bytes of vectors are decrypted of %d", vectors, size)
	}
	for i := range 200 {
		q.Vector = w.rows[i*25].Vector
		if _, err := w.r.Search(t.Context(), q, nil); err != nil {
			t.Fatal(err)
		}
	}
	err := w.r.guard(func() error {
		v, err := w.r.matrix()
		if v.Touch != nil {
			t.Error("every search still asks")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestWalkMeetsDamage: who walks a graph meets damage among the vectors where he
// goes, and nowhere else; a scan meets all of it.
func TestWalkMeetsDamage(t *testing.T) {
	rows := randomRows(rand.New(rand.NewPCG(7, 21)), 4000, 256)
	for i := range rows { // two groups, far from each other
		for j := range rows[i].Vector {
			rows[i].Vector[j] += float32(i / 2000 * 100)
		}
	}
	for _, keys := range []testKeys{seal.Plain(), newGCM(t)} {
		fs := faultfs.New(1)
		spec := testSpec(1, 256, kernel.L2)
		spec.GraphMin = 1
		info := mustWrite(t, fs, keys, spec, rows)
		if err := fs.Damage(Name(1), func(b []byte) []byte {
			for row := 3000; row < 4000; row += 8 { // vectors are first in the file, with 8 rows to a block
				b[disk.HeaderSize+row/8*(blockRows+keys.Overhead())]++
			}
			return b
		}); err != nil {
			t.Fatal(err)
		}
		r := mustOpen(t, fs, keys, spec, info)
		if _, err := r.Search(t.Context(), Query{Vector: rows[5].Vector, K: 5, EF: 10}, nil); err != nil {
			t.Errorf("key %d: far from the damage: %v", keys.KeyID(), err)
		}
		for _, q := range []Query{{Vector: rows[3500].Vector, K: 5, EF: 10}, {Vector: rows[5].Vector, K: 5, Exact: true}} {
			if got, err := r.Search(t.Context(), q, nil); !errors.Is(err, disk.ErrCorrupt) || len(got) > 0 {
				t.Errorf("key %d: %v, %v", keys.KeyID(), got, err)
			}
		}
	}
}

// TestMergeMemory: a merge of encrypted segments decrypts its inputs within the
// budget, holds the vectors it writes once, and gives all of it back.
func TestMergeMemory(t *testing.T) {
	const n, dim = 3000, 64
	const vectors = n * dim * 4
	rows := randomRows(rand.New(rand.NewPCG(5, 21)), n, dim)
	fs := faultfs.New(1)
	keys := newGCM(t)
	b := disk.NewBudget(vectors/4 + vectors) // a quarter for the inputs
	var in []Input
	for i := range 3 {
		spec := testSpec(uint64(i+1), dim, kernel.L2)
		part := rows[i*n/3 : (i+1)*n/3]
		info := mustWrite(t, fs, keys, spec, part)
		spec.Memory = b
		in = append(in, Input{Reader: mustOpen(t, fs, keys, spec, info)})
	}
	spec := testSpec(9, dim, kernel.L2)
	spec.GraphMin, spec.Memory = 1, b
	most := int64(0)
	spec.Graph.Progress = func(done, total int) { most = max(most, b.Used()) }
	info, err := Merge(t.Context(), fs, keys, spec, in)
	if err != nil {
		t.Fatal(err)
	}
	if most < vectors || most > vectors*7/4 { // ends, tables and one search's rows are beyond
		t.Errorf("%d bytes were in use, the vectors are %d", most, vectors)
	}
	for _, i := range in {
		i.Reader.Close()
	}
	if b.Used() != 0 {
		t.Errorf("%d bytes are left", b.Used())
	}
	if err := differs(mustOpen(t, fs, keys, spec, info), rows); err != nil {
		t.Error(err)
	}
}

// TestCutWhileBuilt: the file that is being written is truncated while its
// graph is built over it. The build ends with an error, on however many
// goroutines it ran.
func TestCutWhileBuilt(t *testing.T) {
	rows := randomRows(rand.New(rand.NewPCG(6, 21)), 4000, 64)
	for _, workers := range []int{1, 2} {
		fs, dir := tempFS(t)
		spec := testSpec(1, 64, kernel.L2)
		spec.GraphMin, spec.Graph.Workers = 1, workers
		cut := false
		spec.Graph.Progress = func(done, total int) {
			if done > total/4 && !cut {
				cut = true
				if err := os.Truncate(filepath.Join(dir, "tmp", spec.File.String()), 4096); err != nil {
					t.Error(err)
				}
			}
		}
		_, err := create(t.Context(), fs, seal.Plain(), spec, mapping(rows), hnsw.Build)
		if !cut || !errors.Is(err, errCut) || errors.Is(err, disk.ErrCorrupt) {
			t.Errorf("%d workers: %v; cut: %v", workers, err, cut)
		}
		nothingLeft(t, fs)
	}
}
