package main

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/hnsw"
	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
)

var (
	queryDir  = flag.String("query.dir", "", "folder where BenchmarkQuery and BenchmarkFirstQuery keep their stores for the next run")
	queryRows = flag.Int("query.rows", 100_000, "rows of BenchmarkQuery")
	queryEF   = flag.Int("query.ef", 100, "ef of BenchmarkQuery")
)

// onPlanes is somewhere with less noise, for millions of rows.
func onPlanes(rng *rand.Rand, n int) [][]float32 {
	const plane, planes = 16, 64
	axes := make([]float32, planes*plane*encryptionDim)
	for i := range axes {
		axes[i] = float32(rng.NormFloat64())
	}
	centres := make([]float32, 1024*encryptionDim)
	for i := range centres {
		centres[i] = float32(rng.NormFloat64())
	}
	rows := make([][]float32, n)
	for i := range rows {
		at := rng.IntN(len(centres)/encryptionDim) * encryptionDim
		x := slices.Clone(centres[at : at+encryptionDim])
		on := axes[rng.IntN(planes)*plane*encryptionDim:]
		for p := range plane {
			c := float32(rng.NormFloat64() / 4)
			for j, a := range on[p*encryptionDim:][:encryptionDim] {
				x[j] += c * a
			}
		}
		rows[i] = x
	}
	return rows
}

// loaded is a settled store of clustered rows.
func loaded(b *testing.B, rows, parts int) (dir string, queries [][]float32) {
	b.Helper()
	dir = *queryDir
	if dir == "" {
		dir = b.TempDir()
	}
	dir = filepath.Join(dir, fmt.Sprintf("query-%d-%d", rows, parts))
	all := onPlanes(rand.New(rand.NewPCG(2, 1)), rows+encryptionQueries)
	queries = all[:encryptionQueries]
	if _, err := os.Stat(dir); err == nil {
		return dir, queries
	}
	ctx := b.Context()
	db, err := engine.Open(dir, &engine.Options{MemtableRows: rows + 1, MemtableBytes: 1 << 40, MemoryLimit: 1 << 40, LogLimit: 1 << 40})
	if err != nil {
		b.Fatal(err)
	}
	c, err := db.Default().Create(ctx, "c", engine.Spec{Metric: engine.L2})
	if err != nil {
		b.Fatal(err)
	}
	at := 0
	for part := range slices.Chunk(all[encryptionQueries:], (rows+parts-1)/parts) {
		for batch := range slices.Chunk(part, 5000) {
			recs := make([]engine.Record, len(batch))
			for i, v := range batch {
				recs[i] = engine.Record{ID: fmt.Sprintf("record-%08d", at), Embedding: v}
				at++
			}
			if err := c.Add(ctx, recs...); err != nil {
				b.Fatal(err)
			}
		}
		if err := db.Flush(ctx); err != nil {
			b.Fatal(err)
		}
	}
	if parts == 1 {
		if err := db.Compact(ctx); err != nil {
			b.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
	return dir, queries
}

// bare is graph and vectors of the one segment of a store.
func bare(b *testing.B, dir string) (*hnsw.Graph, hnsw.Vectors) {
	b.Helper()
	root, err := vfs.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "seg", "*.seg"))
	if err != nil || len(names) != 1 {
		b.Fatalf("%v, %v", names, err)
	}
	name := "seg/" + filepath.Base(names[0])
	h, err := disk.ReadHeader(root, name)
	if err != nil {
		b.Fatal(err)
	}
	f, err := disk.OpenFile(root, name, h, disk.Info{}, seal.Plain())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close(); root.Close() })
	vectors, _ := f.Section(1)
	graph, _ := f.Section(16)
	raw, err := vectors.Bytes(0, vectors.Len())
	if err != nil {
		b.Fatal(err)
	}
	hot, _, err := graph.Resident()
	if err != nil {
		b.Fatal(err)
	}
	rows := len(raw) / vectorsBytes
	g, err := hnsw.Decode(hot, rows)
	if err != nil {
		b.Fatal(err)
	}
	data := make([]float32, len(raw)/4)
	for i := range data {
		data[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return g, hnsw.Vectors{Metric: kernel.L2, Data: data, Rows: rows, Dim: encryptionDim, Stride: encryptionDim}
}

// BenchmarkQuery compares a query through the engine with a search of the
// graph that its one segment has, in turn on one goroutine and in processor
// time: what planner, view, ids and distances cost, and an answer that is the caller's
// to keep (Query) beside matches that it is told (QueryEach). Run it with -benchtime 1x:
// every figure is a metric of its own.
func BenchmarkQuery(b *testing.B) {
	dir, queries := loaded(b, *queryRows, 1)
	ctx := context.Background()
	g, v := bare(b, dir)
	db, err := engine.Open(dir, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	c, err := db.Default().Collection(ctx, "c")
	if err != nil {
		b.Fatal(err)
	}
	opts := &engine.QueryOptions{EF: *queryEF}
	var scratch hnsw.Scratch
	var near []hnsw.Neighbor
	one, told := [][]float32{nil}, 0
	see := func(_ int, m *engine.Match) error {
		told += len(m.ID)
		return nil
	}
	alone := func(q []float32) (err error) {
		near, err = g.Search(near[:0], v, hnsw.Query{Vector: q, K: 10, EF: *queryEF}, &scratch)
		return err
	}
	ways := [...]func(q []float32) error{
		func(q []float32) error {
			_, err := c.Query(ctx, q, 10, opts)
			return err
		},
		func(q []float32) error {
			one[0] = q
			return c.QueryEach(ctx, one, 10, opts, see)
		},
	}
	for _, q := range queries { // all is loaded, and both agree
		got, err := c.Query(ctx, q, 10, opts)
		if err != nil || alone(q) != nil {
			b.Fatal(err)
		}
		for i, n := range near {
			if got[i].ID != fmt.Sprintf("record-%08d", n.Row) || got[i].Distance != n.Distance {
				b.Fatalf("%v instead of %v", got, near)
			}
		}
	}
	const rounds = 31
	spent := func(ask func(q []float32) error) time.Duration {
		before := cpu(b)
		for _, q := range queries {
			if err := ask(q); err != nil {
				b.Fatal(err)
			}
		}
		return (cpu(b) - before) / time.Duration(len(queries))
	}
	var searches []time.Duration
	var took [len(ways)][]time.Duration
	var ratios [len(ways)][]float64
	for b.Loop() {
		for range rounds {
			for w, ask := range ways { // each finds the caches as a bare search leaves them
				search := spent(alone)
				query := spent(ask)
				searches, took[w] = append(searches, search), append(took[w], query)
				ratios[w] = append(ratios[w], float64(search)/float64(query))
			}
		}
	}
	b.ReportMetric(float64(median(searches))/1e3, "µs/hnsw")
	for w, name := range [...]string{"Query", "QueryEach"} {
		slices.Sort(ratios[w])
		b.ReportMetric(float64(median(took[w]))/1e3, "µs/"+name)
		b.ReportMetric(ratios[w][len(ratios[w])/2], name+"/hnsw")
		b.ReportMetric(testing.AllocsPerRun(100, func() { _ = ways[w](queries[0]) }), "allocs/"+name)
	}
	if told == 0 {
		b.Fatal("no ids")
	}
}
