package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/filter"
)

const k = 10

// A question is one kind of query: a name, and what narrows it.
type question struct {
	name  string
	where *engine.Filter
}

// filters are load.py's, from most of the rows to a handful.
func filters() ([]question, error) {
	music, err := filter.DocumentRegex(`\bmusic(al|ian)?\b`)
	if err != nil {
		return nil, err
	}
	return []question{
		{"pos = noun", filter.Eq("pos", filter.String("noun"))},
		{"topic = noun.animal", filter.Eq("topic", filter.String("noun.animal"))},
		{"pos = adverb", filter.Eq("pos", filter.String("adverb"))},
		{"relations >= 20", filter.Gte("relations", filter.Int(20))},
		{"topic = verb.weather", filter.Eq("topic", filter.String("verb.weather"))},
		{"lemmas contains water", filter.Contains("lemmas", filter.String("water"))},
		{"text contains 'water'", filter.DocumentContains("water")},
		{`text matches \bmusic(al|ian)?\b`, music},
	}, nil
}

// measure does everything in one store below dir.
func measure(ctx context.Context, s *set, dir string, f flags) (*figures, error) {
	held, kept := s.hold(f.queries)
	queries := make([][]float32, len(held))
	for i, row := range held {
		queries[i] = s.vector(row)
	}
	out := newFigures(s, held, f)
	db, err := engine.Open(dir, nil)
	if err != nil {
		return nil, err
	}
	defer func() { db.Close() }()
	words, err := db.Default().Create(ctx, "wordnet", engine.Spec{Metric: engine.Cosine})
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := load(ctx, words, s, kept, f.batch, f.writers); err != nil {
		return nil, err
	}
	out.Load.Seconds = time.Since(began).Seconds()
	out.Load.RowsPerSecond = float64(len(kept)) / out.Load.Seconds

	truth := s.exact(kept, queries, k)
	some := min(200, len(queries))
	if out.QueryAfterLoad, err = ask(ctx, words, queries[:some], truth, nil); err != nil {
		return nil, err
	}
	began = time.Now()
	if err := errors.Join(db.Flush(ctx), db.Compact(ctx)); err != nil {
		return nil, err
	}
	out.SettleSeconds = time.Since(began).Seconds()
	out.DiskBytes = diskBytes(dir)
	if err := askAll(ctx, out, words, s, kept, queries, truth); err != nil {
		return nil, err
	}
	debug.FreeOSMemory()
	out.Memory = memory()

	if err := load(ctx, words, s, held, f.batch, 1); err != nil {
		return nil, err
	}
	if n, err := words.Count(ctx); err != nil || n != s.rows() {
		return nil, fmt.Errorf("%d records after loading %d: %w", n, s.rows(), err)
	}
	db, err = reopen(ctx, out, db, dir, s, held[0])
	return out, err
}

// askAll fills the figures of queries on a settled store.
func askAll(ctx context.Context, out *figures, words *engine.Collection, s *set, kept []int, queries [][]float32, truth [][]string) (err error) {
	if out.Query, err = ask(ctx, words, queries, truth, nil); err != nil {
		return err
	}
	if out.QueryExact, err = ask(ctx, words, queries[:min(200, len(queries))], truth, &engine.QueryOptions{Exact: true}); err != nil {
		return err
	}
	full := &engine.QueryOptions{Include: engine.IncludeDocument | engine.IncludeMetadata}
	if out.QueryWithDocuments, err = ask(ctx, words, queries, truth, full); err != nil {
		return err
	}
	for _, threads := range slices.Compact([]int{1, runtime.GOMAXPROCS(0)}) {
		rate, err := throughput(ctx, words, queries, threads)
		if err != nil {
			return err
		}
		out.PerSecond = append(out.PerSecond, rateOf{threads, rate})
	}
	questions, err := filters()
	if err != nil {
		return err
	}
	few := queries[:min(200, len(queries))]
	for _, q := range questions {
		var rows []int
		for _, row := range kept {
			if r := &s.records[row]; q.where.Match(r.Metadata, r.Document) {
				rows = append(rows, row)
			}
		}
		got, err := ask(ctx, words, few, s.exact(rows, few, k), &engine.QueryOptions{Where: q.where})
		if err != nil {
			return fmt.Errorf("%s: %w", q.name, err)
		}
		out.Filtered = append(out.Filtered, filtered{q.name, len(rows), got})
	}
	out.GetByID, err = get(ctx, words, s, kept)
	return err
}

// load adds rows in batches from several goroutines.
func load(ctx context.Context, words *engine.Collection, s *set, rows []int, batch, writers int) error {
	var done atomic.Int64
	var first error
	var once sync.Once
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	batches := make(chan []int)
	var wg sync.WaitGroup
	began := time.Now()
	for range max(1, writers) {
		wg.Go(func() {
			for part := range batches {
				records := make([]engine.Record, len(part))
				for i, row := range part {
					records[i] = s.records[row]
				}
				if err := words.Add(ctx, records...); err != nil {
					once.Do(func() { first = err; cancel() })
					continue
				}
				progress(int(done.Add(int64(len(part)))), len(rows), began)
			}
		})
	}
	for part := range slices.Chunk(rows, max(1, batch)) {
		batches <- part
	}
	close(batches)
	wg.Wait()
	return first
}

// ask times one query at a time and counts the true neighbours among the answers.
func ask(ctx context.Context, words *engine.Collection, queries [][]float32, truth [][]string, opts *engine.QueryOptions) (latency, error) {
	for _, q := range queries[:min(10, len(queries))] { // what is touched first is not what is measured
		if _, err := words.Query(ctx, q, k, opts); err != nil {
			return latency{}, err
		}
	}
	times := make([]time.Duration, len(queries))
	found, want := 0, 0
	for i, q := range queries {
		began := time.Now()
		got, err := words.Query(ctx, q, k, opts)
		times[i] = time.Since(began)
		if err != nil {
			return latency{}, err
		}
		found += hits(truth[i], got)
		want += len(truth[i])
	}
	l := percentiles(times)
	l.Recall = float64(found) / float64(max(1, want))
	return l, nil
}

// throughput asks all queries from several goroutines.
func throughput(ctx context.Context, words *engine.Collection, queries [][]float32, threads int) (float64, error) {
	var next atomic.Int64
	errs := make([]error, threads)
	var wg sync.WaitGroup
	began := time.Now()
	for t := range threads {
		wg.Go(func() {
			for i := int(next.Add(1) - 1); i < len(queries) && errs[t] == nil; i = int(next.Add(1) - 1) {
				_, errs[t] = words.Query(ctx, queries[i], k, nil)
			}
		})
	}
	wg.Wait()
	return float64(len(queries)) / time.Since(began).Seconds(), errors.Join(errs...)
}

func get(ctx context.Context, words *engine.Collection, s *set, rows []int) (latency, error) {
	step := max(1, len(rows)/300)
	var times []time.Duration
	for at := 0; at < len(rows); at += step {
		id := s.records[rows[at]].ID
		began := time.Now()
		n := 0
		for r, err := range words.Get(ctx, engine.Selection{IDs: []string{id}}, engine.IncludeDocument|engine.IncludeMetadata) {
			if err != nil {
				return latency{}, err
			}
			if r.ID == id {
				n++
			}
		}
		times = append(times, time.Since(began))
		if n != 1 {
			return latency{}, fmt.Errorf("%s: %d records", id, n)
		}
	}
	return percentiles(times), nil
}

// reopen closes and opens; the clock stops at the first right answer.
func reopen(ctx context.Context, out *figures, db *engine.DB, dir string, s *set, row int) (*engine.DB, error) {
	began := time.Now()
	if err := db.Close(); err != nil {
		return db, err
	}
	out.CloseSeconds = time.Since(began).Seconds()
	began = time.Now()
	db, err := engine.Open(dir, nil)
	if err != nil {
		return nil, err
	}
	out.OpenSeconds = time.Since(began).Seconds()
	words, err := db.Default().Collection(ctx, "wordnet")
	if err != nil {
		return db, err
	}
	got, err := words.Query(ctx, s.vector(row), 1, nil)
	if err != nil {
		return db, err
	}
	out.FirstAnswerSeconds = time.Since(began).Seconds()
	if len(got) != 1 || got[0].ID != s.records[row].ID {
		return db, fmt.Errorf("after reopening %s is not nearest to itself: %v", s.records[row].ID, got)
	}
	return db, nil
}

func progress(done, total int, began time.Time) {
	if done == total {
		fmt.Fprintf(os.Stderr, "loaded %d rows in %v\n", total, time.Since(began).Round(time.Millisecond))
	} else if info, err := os.Stderr.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		fmt.Fprintf(os.Stderr, "loading %d/%d rows\r", done, total)
	}
}
