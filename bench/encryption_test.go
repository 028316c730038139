package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"iter"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/keys"
	"github.com/chromad/chromad/internal/keys/keytest"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/segment"
)

var (
	encryptionDir  = flag.String("encryption.dir", "", "folder where BenchmarkEncryption keeps its segments for the next run")
	encryptionRows = flag.Int("encryption.rows", 200_000, "rows of BenchmarkEncryption")
)

const (
	encryptionDim     = 128
	encryptionQueries = 400
	encryptionEF      = 100
	vectorsBytes      = encryptionDim * 4
)

// pair is the same segment twice: in the clear, and encrypted.
type pair struct {
	fs      *vfs.Root
	ring    *keys.Ring
	queries [][]float32
	truth   [][]uint32 // the ten nearest rows of each
	spec    [2]segment.Spec
	info    [2]segment.Info
}

// keys of the plain segment and of the encrypted one.
func (p *pair) keys(i int) seal.Keys { return []seal.Keys{seal.Plain(), p.ring}[i] }

func (p *pair) open(b *testing.B, i int, budget *disk.Budget) *segment.Reader {
	b.Helper()
	spec := p.spec[i]
	spec.Memory = budget
	r, err := segment.Open(p.fs, p.keys(i), spec, p.info[i])
	if err != nil {
		b.Fatal(err)
	}
	return r
}

// somewhere draws rows that lie around centres on planes of twelve dimensions.
func somewhere(rng *rand.Rand, n int) [][]float32 {
	const plane = 12
	normal := func() []float32 {
		x := make([]float32, encryptionDim)
		for i := range x {
			x[i] = float32(rng.NormFloat64())
		}
		return x
	}
	axes := make([][]float32, 64*plane)
	centres := make([][]float32, 256)
	for i := range axes {
		axes[i] = normal()
	}
	for i := range centres {
		centres[i] = normal()
	}
	rows := make([][]float32, n)
	for i := range rows {
		x := slices.Clone(centres[rng.IntN(len(centres))])
		at := rng.IntN(64) * plane
		for _, axis := range axes[at : at+plane] {
			c := float32(rng.NormFloat64() / 4)
			for j := range x {
				x[j] += c*axis[j] + 0.02*float32(rng.NormFloat64())
			}
		}
		rows[i] = x
	}
	return rows
}

func rowsOf(vectors [][]float32) iter.Seq2[segment.Row, error] {
	return func(yield func(segment.Row, error) bool) {
		for i, v := range vectors {
			if !yield(segment.Row{Order: uint64(i), ID: fmt.Sprint(i), Vector: v}, nil) {
				return
			}
		}
	}
}

func specOf(number uint64, graphMin int) segment.Spec {
	var id seal.ID
	id[0], id[1] = 9, byte(number)
	return segment.Spec{Store: seal.ID{1}, Collection: seal.ID{2}, Number: number, File: id,
		Dim: encryptionDim, Metric: kernel.Cosine, GraphMin: graphMin}
}

func newPair(b *testing.B) *pair {
	b.Helper()
	dir := *encryptionDir
	if dir == "" {
		dir = b.TempDir()
	}
	root, err := vfs.Make(filepath.Join(dir, fmt.Sprint(*encryptionRows)))
	if err != nil {
		b.Fatal(err)
	}
	ctx := b.Context()
	p := &pair{fs: root}
	p.ring, err = keys.Open(ctx, root, seal.ID{1}, keytest.New("bench"), false)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, disk.ErrKey) {
		p.ring, err = keys.Create(ctx, root, seal.ID{1}, keytest.New("bench"), false)
	}
	if err != nil {
		b.Fatal(err)
	}
	if !p.ring.Has(seal.ID{2}) {
		if err := p.ring.NewCollection(seal.ID{2}); err != nil {
			b.Fatal(err)
		}
	}
	all := somewhere(rand.New(rand.NewPCG(1, 1)), *encryptionRows+encryptionQueries)
	rows := all[encryptionQueries:]
	p.queries = all[:encryptionQueries]
	p.spec = [2]segment.Spec{specOf(1, 0), specOf(2, 0)}
	for i := range p.spec {
		r, err := segment.Open(root, p.keys(i), p.spec[i], segment.Info{})
		if err == nil {
			r.Close() // of the run before, to be opened as it is
			continue
		}
		if i == 0 {
			p.info[i], err = segment.Write(ctx, root, p.keys(i), p.spec[i], rowsOf(rows))
		} else {
			plain := p.open(b, 0, nil)
			p.info[i], err = segment.Copy(ctx, root, p.keys(i), p.spec[i], plain)
			plain.Close()
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	r := p.open(b, 0, nil)
	defer r.Close()
	for _, q := range p.queries {
		hits, err := r.Search(ctx, segment.Query{Vector: q, K: 10, Exact: true}, nil)
		if err != nil {
			b.Fatal(err)
		}
		var near []uint32
		for _, h := range hits {
			near = append(near, h.Row)
		}
		p.truth = append(p.truth, near)
	}
	return p
}

// search asks queries first to first+n, in turn, and returns their recall and
// how long they took.
func (p *pair) search(b *testing.B, r *segment.Reader, first, n int) (recall float64, took time.Duration) {
	b.Helper()
	hits := 0
	start := time.Now()
	for i := first; i < first+n; i++ {
		found, err := r.Search(context.Background(), segment.Query{Vector: p.queries[i%len(p.queries)], K: 10, EF: encryptionEF}, nil)
		if err != nil {
			b.Fatal(err)
		}
		for _, f := range found {
			if slices.Contains(p.truth[i%len(p.queries)], f.Row) {
				hits++
			}
		}
	}
	return float64(hits) / float64(10*n), time.Since(start)
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// BenchmarkEncryption compares an encrypted segment with the same one in the
// clear, all measurements of the two in turn. Run it with -benchtime 1x: every
// figure is a metric of its own.
func BenchmarkEncryption(b *testing.B) {
	p := newPair(b)
	defer p.fs.Close()
	name := [2]string{"plain", "sealed"}
	for b.Loop() {
		p.cold(b, name)
		p.warm(b, name)
		p.short(b)
		p.write(b, name)
	}
	b.ReportMetric(0, "ns/op")
}

// cold opens a segment and asks it one query: files are in the page cache,
// nothing is verified or decrypted.
func (p *pair) cold(b *testing.B, name [2]string) {
	const rounds = 21
	var opening, first, tenth [2][]time.Duration
	for n := range rounds {
		for i := range 2 {
			start := time.Now()
			r := p.open(b, i, disk.NewBudget(1<<40))
			opening[i] = append(opening[i], time.Since(start))
			_, took := p.search(b, r, n*10, 1)
			first[i] = append(first[i], took)
			_, took = p.search(b, r, n*10+1, 9)
			tenth[i] = append(tenth[i], took/9)
			r.Close()
		}
	}
	for i := range 2 {
		b.ReportMetric(float64(median(opening[i]).Nanoseconds())/1e3, name[i]+"-open-µs")
		b.ReportMetric(float64(median(first[i]).Nanoseconds())/1e6, name[i]+"-first-ms")
		b.ReportMetric(float64(slices.Max(first[i]).Nanoseconds())/1e6, name[i]+"-first-worst-ms")
		b.ReportMetric(float64(median(tenth[i]).Nanoseconds())/1e6, name[i]+"-next-ms")
	}
}

// warm asks segments in which everything is verified and decrypted.
func (p *pair) warm(b *testing.B, name [2]string) {
	const rounds = 20
	var readers [2]*segment.Reader
	for i := range 2 {
		readers[i] = p.open(b, i, disk.NewBudget(1<<40))
		defer readers[i].Close()
		for range 5 {
			p.search(b, readers[i], 0, len(p.queries))
		}
	}
	var took [2][]time.Duration
	var recall [2]float64
	for n := range rounds {
		for k := range 2 {
			i := (k + n) % 2 // who is second finds warmer caches
			r, d := p.search(b, readers[i], 0, len(p.queries))
			recall[i] = r
			took[i] = append(took[i], d)
		}
	}
	var qps [2]float64
	for i := range 2 {
		qps[i] = float64(len(p.queries)) / median(took[i]).Seconds()
		b.ReportMetric(qps[i], name[i]+"-warm-qps")
		b.ReportMetric(recall[i], name[i]+"-recall")
	}
	b.ReportMetric(qps[1]/qps[0], "warm-ratio")
}

// short asks a segment whose vectors are four times what may be decrypted.
func (p *pair) short(b *testing.B) {
	vectors := int64(*encryptionRows * vectorsBytes)
	bound := vectors/4 + p.fixed(b)
	budget := disk.NewBudget(bound)
	r := p.open(b, 1, budget)
	defer r.Close()
	p.search(b, r, 0, len(p.queries))
	most := int64(0)
	start := time.Now()
	hits := 0.0
	for i := range len(p.queries) {
		recall, _ := p.search(b, r, i, 1)
		hits += recall
		most = max(most, budget.Used())
	}
	b.ReportMetric(float64(len(p.queries))/time.Since(start).Seconds(), "quarter-qps")
	b.ReportMetric(hits/float64(len(p.queries)), "quarter-recall")
	// The same, of queries that are all about the same thing.
	near := *p
	near.queries = nil
	rng := rand.New(rand.NewPCG(3, 3))
	for range 50 {
		q := slices.Clone(p.queries[0])
		for i := range q {
			q[i] += 0.05 * float32(rng.NormFloat64())
		}
		near.queries = append(near.queries, q)
	}
	near.search(b, r, 0, 200)
	_, took := near.search(b, r, 0, 1000)
	b.ReportMetric(1000/took.Seconds(), "quarter-hot-qps")
	b.ReportMetric(float64(most)/float64(bound), "quarter-used-ratio")
}

// fixed is how many bytes are decrypted that are no vectors.
func (p *pair) fixed(b *testing.B) int64 {
	budget := disk.NewBudget(1 << 40)
	r := p.open(b, 1, budget)
	defer r.Close()
	for range 5 {
		p.search(b, r, 0, len(p.queries))
	}
	return budget.Used() - int64(*encryptionRows*vectorsBytes)
}

// write makes segments of what a flush writes.
func (p *pair) write(b *testing.B, name [2]string) {
	const rows = 16_384
	vectors := somewhere(rand.New(rand.NewPCG(2, 2)), rows)
	for what, graphMin := range map[string]int{"rows": 1 << 30, "graph": 0} {
		var took [2][]time.Duration
		for range 7 {
			for i := range 2 {
				spec := specOf(3, graphMin)
				start := time.Now()
				if _, err := segment.Write(b.Context(), p.fs, p.keys(i), spec, rowsOf(vectors)); err != nil {
					b.Fatal(err)
				}
				took[i] = append(took[i], time.Since(start))
				if err := p.fs.Remove(segment.Name(spec.Number)); err != nil {
					b.Fatal(err)
				}
			}
		}
		for i := range 2 {
			b.ReportMetric(rows/median(took[i]).Seconds(), name[i]+"-write-"+what+"/s")
		}
	}
}
