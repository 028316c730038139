package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/chromad/chromad/engine"
)

// mappedRows are enough for a scan to take some milliseconds.
const (
	mappedRows      = 12000
	mappedDimension = 256
)

// mappedStore has a collection of one large segment, opened and not read yet,
// and a small one beside it. file is the large segment's.
func mappedStore(t testing.TB, graph bool) (db *engine.DB, large, small *engine.Collection, file string) {
	t.Helper()
	ctx, dir := t.Context(), t.TempDir()
	rng := rand.New(rand.NewPCG(1, 1))
	rows, o := mappedRows, engine.Options{GraphMin: 1 << 30}
	if graph {
		rows, o.GraphMin = 4000, 0
	}
	db, err := engine.Open(dir, &o)
	must(t, err)
	large, err = db.Default().Create(ctx, "large", engine.Spec{EFConstruction: 16})
	must(t, err)
	for from := 0; from < rows; from += 1000 {
		recs := make([]engine.Record, 1000)
		for i := range recs {
			v := make([]float32, mappedDimension)
			for j := range v {
				v[j] = float32(rng.NormFloat64())
			}
			v[0] = float32(from + i)
			recs[i] = engine.Record{ID: fmt.Sprint(from + i), Embedding: v, Document: engine.Optional(fmt.Sprintf("document %d of %d", from+i, rng.Uint64()))}
		}
		must(t, large.Add(ctx, recs...))
	}
	must(t, db.Compact(ctx))
	files, err := filepath.Glob(filepath.Join(dir, "seg", "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("segments %v, %v", files, err)
	}
	small, err = db.Default().Create(ctx, "small", engine.Spec{})
	must(t, err)
	must(t, small.Add(ctx, engine.Record{ID: "a", Embedding: []float32{1}}))
	must(t, db.Flush(ctx))
	must(t, db.Close())
	db, err = engine.Open(dir, &o)
	must(t, err)
	large, err = db.Default().Collection(ctx, "large")
	must(t, err)
	small, err = db.Default().Collection(ctx, "small")
	must(t, err)
	return db, large, small, files[0]
}

// mappedReads go through the large segment in a way of their own. Each wants
// what it reads to be right.
var mappedReads = []struct {
	name  string
	graph bool
	read  func(ctx context.Context, c *engine.Collection, n int) error
}{
	{"scan by assembly", false, func(ctx context.Context, c *engine.Collection, n int) error {
		q := make([]float32, mappedDimension)
		q[0] = float32(n % mappedRows)
		found, err := c.Query(ctx, q, mappedRows/2, &engine.QueryOptions{Exact: true})
		if err == nil && len(found) != mappedRows/2 {
			return fmt.Errorf("%d found", len(found))
		}
		for i := 1; i < len(found); i++ {
			if found[i].Distance < found[i-1].Distance {
				return fmt.Errorf("distance %v after %v", found[i].Distance, found[i-1].Distance)
			}
		}
		if len(found) > 0 && found[len(found)-1].Distance < 1 {
			return errors.New("vectors of zeros were found") // what a truncated page reads as
		}
		return err
	}},
	{"walk of the graph", true, func(ctx context.Context, c *engine.Collection, n int) error {
		q := make([]float32, mappedDimension)
		q[0] = float32(n % 4000)
		found, err := c.Query(ctx, q, 20, &engine.QueryOptions{EF: 500})
		if err == nil && (len(found) != 20 || found[0].Distance < 1) {
			return fmt.Errorf("found %v", found)
		}
		return err
	}},
	{"records by Go", false, func(ctx context.Context, c *engine.Collection, n int) error {
		seen := 0
		for r, err := range c.Get(ctx, engine.Selection{}, engine.IncludeAll) {
			if err != nil {
				return err
			}
			if r.ID != fmt.Sprint(seen) || r.Embedding[0] != float32(seen) || !strings.HasPrefix(*r.Document, "document "+r.ID+" of ") {
				return fmt.Errorf("%s is %v %q", r.ID, r.Embedding[0], *r.Document)
			}
			seen++
		}
		if seen != mappedRows {
			return fmt.Errorf("%d records", seen)
		}
		return nil
	}},
}

// A segment loses bytes while queries are in the middle of it. Each of them is
// right or says that the data are damaged; the process lives, and other
// collections answer.
func TestTruncatedUnderQueries(t *testing.T) {
	if !again(t, nil) {
		return
	}
	met := 0 // reads that had begun with a whole file
	for _, r := range mappedReads {
		for _, warm := range []bool{true, false} {
			if testing.Short() && !warm {
				continue
			}
			t.Run(fmt.Sprintf("%s, read before %t", r.name, warm), func(t *testing.T) {
				ctx := t.Context()
				db, large, small, file := mappedStore(t, r.graph)
				if warm {
					must(t, r.read(ctx, large, 1))
				}
				const readers = 3
				var began [readers]atomic.Int64
				var damaged, caught atomic.Int64
				var cut atomic.Bool
				var wg sync.WaitGroup
				for w := range readers {
					wg.Go(func() {
						for n := w; damaged.Load() < 4*readers; n++ {
							before := cut.Load()
							began[w].Add(1)
							err := r.read(ctx, large, n)
							switch {
							case errors.Is(err, engine.ErrCorrupt):
								damaged.Add(1)
								if !before {
									caught.Add(1)
								}
							case err != nil:
								t.Error(err)
								damaged.Add(100)
							case before && !warm:
								t.Error("the data are there after they were cut off")
								damaged.Add(100)
							}
						}
					})
				}
				for w := range readers { // everyone is inside a read, or between two
					for began[w].Load() == 0 {
						runtime.Gosched()
					}
				}
				must(t, os.Truncate(file, 4096))
				cut.Store(true)
				wg.Wait()
				met += int(caught.Load())
				found, err := small.Query(ctx, []float32{1}, 1, nil)
				if err != nil || len(found) != 1 {
					t.Errorf("the other collection: %v, %v", found, err)
				}
				must(t, small.Add(ctx, engine.Record{ID: "b", Embedding: []float32{2}}))
				if err := r.read(ctx, large, 1); !errors.Is(err, engine.ErrCorrupt) || !strings.Contains(err.Error(), filepath.Base(file)) {
					t.Errorf("afterwards: %v", err)
				}
				must(t, db.Err())
				must(t, db.Close())
			})
		}
	}
	if met == 0 {
		t.Error("no read was under way when its file was cut off")
	}
	t.Logf("%d reads were under way when their file was cut off", met)
}

// A segment loses bytes while it is being merged into another one.
func TestTruncatedUnderMerge(t *testing.T) {
	if !again(t, nil) {
		return
	}
	ctx, refused := t.Context(), 0
	rounds := 5
	if testing.Short() {
		rounds = 2
	}
	for round := range rounds {
		db, large, small, file := mappedStore(t, round%2 == 0)
		must(t, large.Add(ctx, engine.Record{ID: "more", Embedding: make([]float32, mappedDimension)}))
		merged := make(chan error, 1)
		go func() { merged <- db.Compact(ctx) }()
		// The second file under tmp is that of the merge, after that of the flush.
		tmp, seen := filepath.Join(filepath.Dir(filepath.Dir(file)), "tmp"), map[string]bool{}
		for ended := false; len(seen) < 2 && !ended; {
			entries, err := os.ReadDir(tmp)
			must(t, err)
			for _, e := range entries {
				seen[e.Name()] = true
			}
			ended = len(merged) > 0
		}
		for range round * 40000 {
			runtime.Gosched()
		}
		if err := os.Truncate(file, 4096); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		err := <-merged
		if err != nil && !errors.Is(err, engine.ErrCorrupt) {
			t.Errorf("merge: %v", err)
		}
		if err != nil {
			refused++
		}
		must(t, db.Err())
		if found, err := small.Query(ctx, []float32{1}, 1, nil); err != nil || len(found) != 1 {
			t.Errorf("the other collection: %v, %v", found, err)
		}
		must(t, db.Close())
	}
	if refused == 0 {
		t.Error("no merge met the damage")
	}
	t.Logf("%d merges met the damage", refused)
}

// Of a file that is cut off within its last page the system shows zeros and
// raises no fault. Whoever reads it first afterwards finds the damage.
func TestTruncatedWithinPage(t *testing.T) {
	if !again(t, nil) {
		return
	}
	ctx := t.Context()
	for _, open := range []bool{true, false} { // when it is cut off
		for _, keep := range []int64{1, 100, 2000, -1000, -100, -24, -1} {
			dir := t.TempDir()
			db, err := engine.Open(dir, nil)
			must(t, err)
			for _, name := range []string{"a", "b"} {
				c, err := db.Default().Create(ctx, name, engine.Spec{})
				must(t, err)
				for i := range 20 {
					must(t, c.Add(ctx, engine.Record{ID: fmt.Sprint(i), Embedding: []float32{float32(i), 1, 2}, Document: engine.Optional(text(i))}))
				}
				must(t, db.Flush(ctx))
			}
			must(t, db.Close())
			files, err := filepath.Glob(filepath.Join(dir, "seg", "*"))
			must(t, err)
			st, err := os.Stat(files[0])
			must(t, err)
			cut := func() {
				size := keep
				if keep < 0 {
					size += st.Size()
				}
				must(t, os.Truncate(files[0], size))
			}
			if !open {
				cut()
			}
			db, err = engine.Open(dir, nil)
			must(t, err)
			read := func(name string) error {
				c, err := db.Default().Collection(ctx, name)
				must(t, err)
				for r, err := range c.Get(ctx, engine.Selection{}, engine.IncludeAll) {
					if err != nil {
						return err
					}
					if n := r.Embedding[0]; r.ID != fmt.Sprint(n) || *r.Document != text(int(n)) {
						return fmt.Errorf("%s: %v, %q", r.ID, r.Embedding, *r.Document)
					}
				}
				return nil
			}
			if open {
				cut()
			}
			for _, again := range []bool{false, true} {
				if err := read("a"); !errors.Is(err, engine.ErrCorrupt) || !strings.Contains(err.Error(), filepath.Base(files[0])) {
					t.Errorf("%d bytes kept of %d, while open: %t, again %t: %v", keep, st.Size(), open, again, err)
				}
			}
			must(t, read("b"))
			must(t, db.Close())
		}
	}
}

// mappings are the lines that tell of mapped files below dir.
func mappings(t testing.TB, dir string) (lines []string) {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	must(t, err)
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, dir+"/") {
			lines = append(lines, line)
		}
	}
	return lines
}

// One of five files may be open: they are opened and closed under the queries of
// others, thousands of times. Answers are right, and no
// mapping outlives the last who uses it.
func TestMappedComeAndGo(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	db, err := engine.Open(dir, &engine.Options{OpenSegments: 1})
	must(t, err)
	const segments, rows, readers = 5, 50, 4
	var names [segments]*engine.Collection
	for s := range names {
		names[s], err = db.Default().Create(ctx, fmt.Sprint("docs", s), engine.Spec{})
		must(t, err)
		for i := range rows {
			must(t, names[s].Add(ctx, engine.Record{ID: fmt.Sprint(i), Embedding: vector(i)[:64], Document: engine.Optional(text(i))}))
		}
	}
	must(t, db.Flush(ctx))
	rounds := 600
	if testing.Short() {
		rounds = 60
	}
	var wg sync.WaitGroup
	for r := range readers {
		wg.Go(func() {
			for n := range rounds {
				for s := range names {
					i := (n*7 + r) % rows
					found, err := names[(s+r)%segments].Query(ctx, vector(i)[:64], 1, &engine.QueryOptions{Include: engine.IncludeAll})
					if err != nil || len(found) != 1 || found[0].ID != fmt.Sprint(i) || *found[0].Document != text(i) {
						t.Errorf("nearest to %d: %v, %v", i, found, err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if n := len(mappings(t, dir)); n > 1 {
		t.Errorf("%d files are mapped when nobody reads, one may be", n)
	}
	must(t, db.Close())
	if lines := mappings(t, dir); len(lines) > 0 {
		t.Errorf("mapped after Close: %v", lines)
	}
}

// Files are written by writing: nothing that a busy store maps can be written
// to, so that a full disk is an error of a call and not a fault.
func TestMappedReadOnly(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	db, err := engine.Open(dir, &engine.Options{MemtableRows: 20, GraphMin: 50})
	must(t, err)
	c, err := db.Default().Create(ctx, "docs", engine.Spec{})
	must(t, err)
	var done atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		defer done.Store(true)
		for i := range 600 {
			v := []float32{float32(i % 200), float32(i)}
			err := c.Upsert(ctx, engine.Record{ID: fmt.Sprint(i % 200), Embedding: v, Document: engine.Optional(text(i))})
			if err == nil {
				_, err = c.Query(ctx, v, 5, &engine.QueryOptions{Include: engine.IncludeAll})
			}
			if err == nil && i%100 == 0 {
				err = db.Compact(ctx)
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	seen := 0
	for !done.Load() {
		for _, line := range mappings(t, dir) {
			seen++
			if mode := strings.Fields(line)[1]; strings.Contains(mode, "w") {
				t.Fatalf("can be written to: %s", line)
			}
		}
	}
	wg.Wait()
	if seen == 0 {
		t.Error("no file was seen mapped")
	}
	must(t, db.Close())
}
