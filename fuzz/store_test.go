package fuzz

import (
	"bytes"
	"errors"
	"fmt"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/filter"
)

// maxAllocated bounds what opening and reading a damaged store may allocate
// altogether. The stores have 60 KiB, and undamaged ones take 2 MiB.
const maxAllocated = 16 << 20

// FuzzStore damages one file of a store, opens it and reads everything. Every
// answer must be an error or what was written. Of a log, damage at the end
// may mean what a power cut means: the end is missing.
//
// With mend set the checksums are made to fit the damage. Nobody can tell then
// what is right, but nothing may panic, run on, or take memory without bound.
func FuzzStore(f *testing.F) {
	stores := []damaged{crashedStore(f, nil), closedStore(f, nil)}
	for n, s := range stores {
		for i, name := range s.names {
			f.Add(byte(n), byte(i), byte(flip), uint32(len(s.files[name])-9), []byte{4}, false, false) // of a log: the last byte of the last body
			for j := range uint32(ways) {
				f.Add(byte(n), byte(i), byte(j), j*j*977, []byte{0xff, 1, 0, 0x80}, false, j == 5)
				f.Add(byte(n), byte(i), byte(overwrite), 160+j*1201, bytes.Repeat([]byte{byte(0xff * (j & 1))}, 1+int(j)), true, false)
			}
		}
	}
	f.Fuzz(func(t *testing.T, store, file, how byte, offset uint32, data []byte, mend, write bool) {
		s := stores[int(store)%len(stores)]
		name := s.names[int(file)%len(s.names)]
		d := damage{file: name, how: how, offset: offset, data: data, other: s.files[s.names[int(offset)%len(s.names)]]}
		if mend {
			d.how %= 2
		}
		im := d.apply(s.files)
		if mend {
			im.mend(name, s.files)
		}
		before := allocated()
		dir := scratch(t)
		place(t, dir, im)
		if err := s.check(dir, write, mend, s.possible(name, im)); err != nil {
			t.Fatalf("%s, %d at %d of %d, %d bytes: %v", name, how%ways, offset, len(s.files[name]), len(data), err)
		}
		if n := allocated() - before; n > maxAllocated {
			t.Fatalf("%s: %d bytes allocated", name, n)
		}
	})
}

// check opens and reads the store in dir. possible are the transcripts of
// which one must fit, unless the damage is mended.
func (s damaged) check(dir string, write, mended bool, possible [][]answer) error {
	db, err := engine.Open(dir, &engine.Options{Keys: s.key, ReadOnly: !write, GraphMin: 8, Workers: 1})
	if err != nil {
		return nil
	}
	got := readAll(db)
	if err := s.checkReceipts(db); err != nil && !mended {
		return errors.Join(err, db.Close())
	}
	wrote := false
	if write {
		wrote = writeMore(db)
	}
	if err := db.Close(); mended {
		return nil
	} else if err != nil {
		return fmt.Errorf("close: %w", err)
	}
	if err := fits(got, possible); err != nil || !write {
		return err
	}
	// The store was accepted, so what it is now must be accepted again.
	db, err = engine.Open(dir, &engine.Options{Keys: s.key, ReadOnly: true})
	if err != nil {
		return fmt.Errorf("opened, written to, and not opened again: %w", err)
	}
	defer db.Close() // nothing is lost by it
	if !wrote {
		return fits(readAll(db), possible)
	}
	c, err := db.Default().Collection(ctx, "flat")
	if err != nil {
		return err
	}
	got2, err := get(c, engine.Selection{IDs: []string{added.ID}}, engine.IncludeAll)
	if err != nil || len(got2) != 1 || got2[0] != text(added) {
		return fmt.Errorf("the record that was added is %q: %w", got2, err)
	}
	return nil
}

var added = engine.Record{ID: "added", Embedding: []float32{1, 2, 3}, Metadata: engine.Metadata{"added": filter.Bool(true)}}

func writeMore(db *engine.DB) bool {
	c, err := db.Default().Collection(ctx, "flat")
	return err == nil && c.Add(ctx, added) == nil
}

// answer is what a read said.
type answer struct {
	read, says string
	err        error
}

// fits tells whether the answers without an error are those of one of the
// possible transcripts.
func fits(got []answer, possible [][]answer) error {
	var first error
	for _, want := range possible {
		err := func() error {
			if want == nil {
				return errors.New("opened, and should not have been")
			}
			if len(got) != len(want) && got[len(got)-1].err == nil {
				return fmt.Errorf("%d answers, want %d", len(got), len(want))
			}
			for i, a := range got {
				if a.err == nil && (a.says != want[i].says || a.read != want[i].read) {
					return fmt.Errorf("%s: %s\nwant %s: %s", a.read, a.says, want[i].read, want[i].says)
				}
			}
			return nil
		}()
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// readAll reads all there is in all ways there are.
func readAll(db *engine.DB) (out []answer) {
	var names []string
	for info, err := range db.Default().Collections(ctx) {
		if err != nil {
			return append(out, answer{err: err})
		}
		names = append(names, fmt.Sprintf("%s %d %v %v", info.Name, info.Dimension, info.Spec, info.Keys))
	}
	slices.Sort(names)
	out = append(out, answer{"collections", strings.Join(names, "\n"), nil})
	for _, name := range []string{"flat", "graph"} {
		c, err := db.Default().Collection(ctx, name)
		out = append(out, answer{"collection " + name, fmt.Sprint(err), nil})
		if err == nil {
			out = append(out, readCollection(name, c)...)
		}
	}
	return out
}

func readCollection(name string, c *engine.Collection) (out []answer) {
	n, err := c.Count(ctx)
	out = append(out, answer{name + " count", fmt.Sprint(n), err})
	q := make([]float32, c.Info().Dimension)
	for j := range q {
		q[j] = float32(j%3) - 1
	}
	for i, sel := range selections() {
		got, err := get(c, sel, engine.IncludeAll)
		out = append(out, answer{fmt.Sprint(name, " get ", i), strings.Join(got, "\n"), err})
		for _, exact := range []bool{true, false} {
			ms, err := c.Query(ctx, q, 40, &engine.QueryOptions{IDs: sel.IDs, Where: sel.Where, Exact: exact, Include: engine.IncludeAll})
			var says []string
			for _, m := range ms {
				says = append(says, fmt.Sprint(m.Distance, text(m.Record)))
			}
			out = append(out, answer{fmt.Sprint(name, " query ", i, exact), strings.Join(says, "\n"), err})
		}
		// Only so narrow a walk is cheaper than a scan of so few rows. A
		// damaged graph may be replaced by the scan, which finds better ones.
		ms, err := c.Query(ctx, q, 1, &engine.QueryOptions{IDs: sel.IDs, Where: sel.Where, EF: 1})
		out = append(out, answer{fmt.Sprint(name, " walk ", i), fmt.Sprint(len(ms)), err})
	}
	return out
}

func selections() []engine.Selection {
	regex, err := filter.DocumentRegex("b.*wn|fü")
	if err != nil {
		panic(err) // a constant
	}
	return []engine.Selection{
		{},
		{IDs: []string{"id-1", "id-7", "id-43", "none", "id-50"}},
		{Where: filter.Eq("i", filter.Int(2))},
		{Where: filter.And(filter.Gte("f", filter.Float(0.5)), filter.Ne("s", filter.String("a")))},
		{Where: filter.Or(filter.DocumentContains("quick"), filter.Contains("ls", filter.String("x")))},
		{Where: regex},
	}
}

func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// damaged is a store before the damage.
type damaged struct {
	key     engine.OperatorKey // nil: it is plain
	files   image
	names   []string
	tail    string     // the file of the log that is appended to
	cuts    [][]answer // what is read when only so many frames of the tail are there; the last is all
	want    map[string]*model
	history map[string]bool // every record as it ever was, as texts
	public  []byte          // by which receipts are verified
}

// possible are the transcripts that fit the file after the damage.
//
// What is behind the first wrong byte of the tail may be missing, unless a
// whole frame follows the damage: then it is no torn end. The beginning
// of a file is never torn. Nothing tells a last file that was taken away from
// one that was never begun.
func (s damaged) possible(name string, im image) [][]answer {
	all := s.cuts[len(s.cuts)-1:]
	if name != s.tail {
		return all
	}
	was, is := s.files[name], im[name]
	if _, there := im[name]; !there {
		return s.cuts
	}
	good := 0
	for good < min(len(was), len(is)) && was[good] == is[good] {
		good++
	}
	if good < logPrelude(was) {
		return all
	}
	kept := 0
	for _, fr := range logFrames(was) {
		if fr.end <= good {
			kept++
		} else if fr.begin > good && fr.end <= len(is) && bytes.Equal(was[fr.begin:fr.end], is[fr.begin:fr.end]) {
			return all
		}
	}
	return s.cuts[kept:]
}

// finish reads what each cut of the tail says, and compares the whole with
// what was written.
func (s damaged) finish(f *testing.F) damaged {
	for name := range s.files {
		if strings.HasSuffix(name, ".wal") {
			s.tail = max(s.tail, name)
		}
		if !strings.Contains(name, "/") { // a lock, and what is held in reserve: nobody reads them
			delete(s.files, name)
			continue
		}
		s.names = append(s.names, name)
	}
	slices.Sort(s.names)
	ends := []int{logPrelude(s.files[s.tail])}
	for _, fr := range logFrames(s.files[s.tail]) {
		ends = append(ends, fr.end)
	}
	for i, end := range ends {
		dir := scratch(f)
		place(f, dir, damage{file: s.tail, how: truncate, offset: uint32(end)}.apply(s.files))
		if i == len(ends)-1 {
			place(f, dir, s.files)
		}
		db, err := engine.Open(dir, &engine.Options{Keys: s.key, ReadOnly: true})
		if i < len(ends)-1 && err != nil {
			s.cuts = append(s.cuts, nil) // the checkpoint knows that the log went on
			continue
		}
		must(f, err)
		s.cuts = append(s.cuts, readAll(db))
		for name, m := range s.want {
			c, err := db.Default().Collection(ctx, name)
			must(f, err)
			got, err := get(c, engine.Selection{}, engine.IncludeAll)
			must(f, err)
			if d := differ(got, texts(m.records)); i == len(ends)-1 && d != "" {
				f.Fatalf("before any damage: %s: %s", name, d)
			}
		}
		must(f, db.Close())
	}
	return s
}

// build fills a store: two collections, each with rows in segments with and
// without a graph, changed and dead ones, and rows that only the log has. An
// encrypted one has receipts, too.
func (s *damaged) build(f *testing.F, dir string) *engine.DB {
	opts := &engine.Options{Keys: s.key, GraphMin: 16, Workers: 1}
	db, err := engine.Open(dir, opts)
	must(f, err)
	want := map[string]*model{"flat": {metric: engine.L2}, "graph": {metric: engine.Cosine}}
	s.want, s.history = want, map[string]bool{}
	if s.key != nil {
		s.public, err = db.PublicKey()
		must(f, err)
		_, err = db.Default().Create(ctx, "gone", engine.Spec{})
		must(f, err)
		must(f, db.Default().Delete(ctx, "gone"))
		must(f, db.EraseNow(ctx, nil))
	}
	dims := map[string]int{"flat": 3, "graph": 17}
	for _, name := range []string{"flat", "graph"} {
		_, err := db.Default().Create(ctx, name, engine.Spec{Metric: want[name].metric, M: 4,
			Metadata: engine.Metadata{"k": filter.String(name)}, Extension: []byte("{}")})
		must(f, err)
	}
	each := func(from, to int) {
		for _, name := range []string{"flat", "graph"} {
			c, err := db.Default().Collection(ctx, name)
			must(f, err)
			var recs []engine.Record
			for i := from; i < to; i++ {
				r := whereRecord(i)
				r.Embedding = make([]float32, dims[name])
				for j := range r.Embedding {
					r.Embedding[j] = float32((i*7+j*j*3+i*j)%23) - 11
				}
				if i%5 == 0 {
					r.URI = engine.Optional(fmt.Sprint("file:///", i))
				}
				recs = append(recs, r)
			}
			must(f, c.Add(ctx, recs...))
			want[name].add(recs...)
			s.remember(want[name])
			gone := engine.Selection{IDs: []string{fmt.Sprint("id-", from+2), fmt.Sprint("id-", from-3)}}
			_, err = c.Delete(ctx, gone)
			must(f, err)
			want[name].delete(gone)
			s.remember(want[name])
			r := engine.Record{ID: fmt.Sprint("id-", from-5), Metadata: engine.Metadata{"i": filter.Int(77)}}
			must(f, c.Update(ctx, r))
			want[name].update(r)
			s.remember(want[name])
		}
	}
	each(0, 40)
	must(f, db.Close())
	db, err = engine.Open(dir, opts)
	must(f, err)
	each(40, 46)
	must(f, db.Flush(ctx))
	each(46, 52)
	return db
}

func (s *damaged) remember(m *model) {
	for _, r := range m.records {
		s.history[text(r)] = true
	}
}

// checkReceipts wants every receipt that can be read to be one that the store signed.
func (s damaged) checkReceipts(db *engine.DB) error {
	if s.key == nil {
		return nil
	}
	for r, err := range db.Receipts(ctx) {
		if err != nil {
			continue
		}
		if err := r.Verify(s.public); err != nil {
			return err
		}
	}
	return nil
}

// crashedStore is what a power cut leaves: much is in the log alone.
func crashedStore(f *testing.F, key engine.OperatorKey) damaged {
	dir, s := scratch(f), damaged{key: key}
	db := s.build(f, dir)
	s.files = files(f, dir)
	s = s.finish(f)
	must(f, db.Close())
	return s
}

// closedStore has everything in segments.
func closedStore(f *testing.F, key engine.OperatorKey) damaged {
	dir, s := scratch(f), damaged{key: key}
	must(f, s.build(f, dir).Close())
	s.files = files(f, dir)
	return s.finish(f)
}
