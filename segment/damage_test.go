package segment

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/hnsw"
	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// victim is a small segment with everything in it.
type victim struct {
	sealer testKeys
	spec   Spec
	rows   []Row
	info   Info
	bytes  []byte
}

func newVictim(t testing.TB, s testKeys) *victim {
	t.Helper()
	rng := rand.New(rand.NewPCG(4, 4))
	v := &victim{sealer: s, spec: testSpec(5, 3, kernel.Cosine), rows: randomRows(rng, 24, 3)}
	v.rows[3].Document = ptr("delta bravo alpha")
	v.spec.GraphMin = 1
	fs := faultfs.New(1)
	v.info = mustWrite(t, fs, s, v.spec, v.rows)
	v.bytes = content(t, fs, Name(5))
	return v
}

// judge opens a damaged copy and reads everything. Only damage may be reported, and
// what is served without an error must be right. It returns what
// Open and Check say.
func (v *victim) judge(t testing.TB, damaged []byte) error {
	t.Helper()
	r, err := Open(holding(t, 5, damaged), v.sealer, v.spec, v.info)
	if err != nil {
		return about(t, err)
	}
	defer r.Close()
	for i, row := range v.rows {
		if err := rowDiffers(r, uint32(i), row); errors.Is(err, errWrong) {
			t.Fatalf("row %d: %v", i, err)
		} else {
			about(t, err)
		}
	}
	for _, e := range testFilters() {
		got, err := r.Filter(context.Background(), e)
		if about(t, err) != nil {
			continue
		}
		for i, row := range v.rows {
			if got.Contains(uint32(i)) != e.Match(row.Metadata, row.Document) {
				t.Fatalf("row %d: the filter is wrong", i)
			}
		}
	}
	q := Query{Vector: []float32{1, 2, 3}, K: 4}
	got, err := r.Search(context.Background(), q, nil)
	want := nearest(v.rows, kernel.Cosine, q.Vector, q.K, nil)
	if about(t, err) == nil && !slices.EqualFunc(got, want, func(a, b hnsw.Neighbor) bool { return a.Row == b.Row }) {
		t.Fatalf("found %v instead of %v", got, want)
	}
	return about(t, verify(context.Background(), r))
}

func TestUndamaged(t *testing.T) {
	for _, s := range []testKeys{seal.Plain(), newGCM(t)} {
		v := newVictim(t, s)
		if err := v.judge(t, v.bytes); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBitFlips(t *testing.T) {
	for _, s := range []testKeys{seal.Plain(), newGCM(t)} {
		v := newVictim(t, s)
		rng := rand.New(rand.NewPCG(5, 5))
		step := 1
		if s.Overhead() > 0 {
			step = 7 // the content is the same, and opening blocks takes time
		}
		if testing.Short() {
			step = 50
		}
		for i := 0; i < len(v.bytes); i += step {
			b := bytes.Clone(v.bytes)
			bit := rng.IntN(8)
			b[i] ^= 1 << bit
			if v.judge(t, b) == nil {
				t.Fatalf("key %d: bit %d of byte %d: not found", s.KeyID(), bit, i)
			}
		}
	}
}

func TestSectors(t *testing.T) {
	v := newVictim(t, seal.Plain())
	rng := rand.New(rand.NewPCG(6, 6))
	for range 300 {
		b := bytes.Clone(v.bytes)
		n := min(512, len(b)-512)
		at, other := rng.IntN(len(b)/512-1)*512, rng.IntN(len(b)/512-1)*512
		switch rng.IntN(3) {
		case 0:
			clear(b[at : at+n])
		case 1:
			for i := range n {
				b[at+i] = 0xff
			}
		case 2:
			copy(b[at:at+n], v.bytes[other:])
			copy(b[other:other+n], v.bytes[at:])
		}
		if !bytes.Equal(b, v.bytes) && v.judge(t, b) == nil {
			t.Fatalf("sectors %d and %d: not found", at, other)
		}
	}
}

func TestLengths(t *testing.T) {
	v := newVictim(t, seal.Plain())
	for n := 0; n < len(v.bytes); n += 1 + n/100 {
		if _, err := Open(holding(t, 5, v.bytes[:n]), v.sealer, v.spec, v.info); !errors.Is(err, disk.ErrCorrupt) {
			t.Fatalf("%d of %d bytes: %v", n, len(v.bytes), err)
		}
		// Without knowing the length beforehand, too.
		if _, err := Open(holding(t, 5, v.bytes[:n]), v.sealer, v.spec, Info{}); !errors.Is(err, disk.ErrCorrupt) {
			t.Fatalf("%d of %d bytes: %v", n, len(v.bytes), err)
		}
	}
	for _, more := range []string{"\x00", strings.Repeat("x", 4096)} {
		if _, err := Open(holding(t, 5, append(bytes.Clone(v.bytes), more...)), v.sealer, v.spec, v.info); !errors.Is(err, disk.ErrCorrupt) {
			t.Fatal(err)
		}
	}
	if _, err := Open(faultfs.New(1), v.sealer, v.spec, v.info); !errors.Is(err, disk.ErrCorrupt) {
		t.Fatalf("no file: %v", err)
	}
}

// A whole, undamaged file is refused where another one is meant.
func TestSwapped(t *testing.T) {
	v := newVictim(t, seal.Plain())
	for name, change := range map[string]func(*Spec, *Info){
		"store":       func(s *Spec, i *Info) { s.Store[3]++ },
		"collection":  func(s *Spec, i *Info) { s.Collection[3]++ },
		"file":        func(s *Spec, i *Info) { s.File[3]++; i.File[3]++ },
		"number":      func(s *Spec, i *Info) { s.Number++; i.Number++ },
		"dimension":   func(s *Spec, i *Info) { s.Dim++ },
		"metric":      func(s *Spec, i *Info) { s.Metric = kernel.L2 },
		"rows":        func(s *Spec, i *Info) { i.Rows++ },
		"first order": func(s *Spec, i *Info) { i.MinOrder++ },
		"last order":  func(s *Spec, i *Info) { i.MaxOrder++ },
		"root":        func(s *Spec, i *Info) { i.Root++ },
		"length":      func(s *Spec, i *Info) { i.Length++ },
	} {
		spec, info := v.spec, v.info
		change(&spec, &info)
		if _, err := Open(holding(t, spec.Number, v.bytes), v.sealer, spec, info); !errors.Is(err, disk.ErrCorrupt) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	spec := v.spec
	spec.Number++
	if _, err := Open(holding(t, spec.Number, v.bytes), v.sealer, spec, v.info); err == nil {
		t.Error("asked for number 6 with what is known of number 5")
	}
	if _, err := Open(holding(t, 5, v.bytes), newGCM(t), v.spec, v.info); !errors.Is(err, disk.ErrKey) {
		t.Errorf("a file that is not encrypted: %v", err)
	}
}

// A damaged graph costs speed and nothing else, and a merge makes it anew.
func TestDamagedGraph(t *testing.T) {
	for _, checksummed := range []bool{false, true} { // damage that only decoding the graph finds
		fs := faultfs.New(1)
		rows := randomRows(rand.New(rand.NewPCG(7, 7)), 300, 4)
		spec := testSpec(1, 4, kernel.L2)
		spec.GraphMin = 1
		mustWrite(t, fs, seal.Plain(), spec, rows)
		b := content(t, fs, Name(1))
		at := sectionAt(t, b, sectionGraph)
		clear(b[at : at+64])
		if checksummed && !repair(b) {
			t.Fatal("not a file")
		}
		fs = holding(t, 1, b)
		r := mustOpen(t, fs, seal.Plain(), spec, Info{})
		if r.Degraded() != nil {
			t.Fatalf("found before it was looked at: %v", r.Degraded())
		}
		q := Query{Vector: rows[5].Vector, K: 20}
		if err := answersExactly(r, rows, kernel.L2, q); err != nil {
			t.Fatal(err)
		}
		if err := r.Degraded(); !errors.Is(err, disk.ErrCorrupt) || !strings.Contains(err.Error(), Name(1)) {
			t.Fatalf("degraded: %v", err)
		}
		if err := verify(context.Background(), r); !errors.Is(err, disk.ErrCorrupt) {
			t.Fatalf("verify: %v", err)
		}
		again := testSpec(2, 4, kernel.L2)
		again.GraphMin = 1
		info, err := Merge(context.Background(), fs, seal.Plain(), again, []Input{{r, nil}})
		if err != nil {
			t.Fatal(err)
		}
		whole := mustOpen(t, fs, seal.Plain(), again, info)
		if err := differs(whole, rows); err != nil {
			t.Fatal(err)
		}
		if err := verify(context.Background(), whole); err != nil {
			t.Fatal(err)
		}
	}
}

// Damage among the vectors is met by those who look there, and by no one else.
func TestDamageContained(t *testing.T) {
	rows := randomRows(rand.New(rand.NewPCG(11, 11)), 3000, 16)
	fs := faultfs.New(1)
	spec := testSpec(1, 16, kernel.Cosine)
	info := mustWrite(t, fs, seal.Plain(), spec, rows)
	err := fs.Damage(Name(1), func(b []byte) []byte {
		b[sectionAt(t, b, sectionVectors)+2500*64]++ // the third block
		return b
	})
	if err != nil {
		t.Fatal(err)
	}
	r := mustOpen(t, fs, seal.Plain(), spec, info)
	q := Query{Vector: rows[0].Vector, K: 5, Allowed: roaring.BitmapOf(3, 77, 1200, 1300, 1400, 1500)}
	if err := answersExactly(r, rows, kernel.Cosine, q); err != nil {
		t.Fatal(err)
	}
	q.Allowed.Add(2500)
	if _, err := r.Search(context.Background(), q, nil); !errors.Is(err, disk.ErrCorrupt) {
		t.Errorf("a damaged row is allowed: %v", err)
	}
	q.Allowed = nil
	if _, err := r.Search(context.Background(), q, nil); !errors.Is(err, disk.ErrCorrupt) {
		t.Errorf("all rows are allowed: %v", err)
	}
	if _, err := r.Vector(2500); !errors.Is(err, disk.ErrCorrupt) {
		t.Error(err)
	}
	if _, _, err := r.Document(2500); err != nil {
		t.Error(err)
	}
}

// sectionAt is where a section begins in the file.
func sectionAt(t testing.TB, file []byte, kind uint16) int {
	t.Helper()
	le := binary.LittleEndian
	table := file[le.Uint64(file[len(file)-32:]):]
	for i := range int(le.Uint32(table)) {
		if e := table[16+32*i:]; le.Uint16(e) == kind {
			return int(le.Uint64(e[16:]))
		}
	}
	t.Fatalf("no section %d", kind)
	return 0
}

// A file that is truncated while it is mapped gives errors, and the process
// lives. What was read before may be served, what is served is right.
func TestTruncatedUnderReader(t *testing.T) {
	rows := randomRows(rand.New(rand.NewPCG(8, 8)), 3000, 16)
	for _, s := range []testKeys{seal.Plain(), newGCM(t)} {
		for _, warm := range []bool{false, true} {
			fs, dir := tempFS(t)
			spec := testSpec(1, 16, kernel.Cosine)
			spec.GraphMin, spec.Graph.EFConstruction = 1, 10
			info := mustWrite(t, fs, s, spec, rows)
			r := mustOpen(t, fs, s, spec, info)
			if warm {
				if err := readAll(r); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Truncate(filepath.Join(dir, Name(1)), 4096); err != nil {
				t.Fatal(err)
			}
			check := func(what string, err error) {
				if err != nil && !errors.Is(err, disk.ErrCorrupt) {
					t.Errorf("%s: %v", what, err)
				}
				if err == nil && s.Overhead() == 0 {
					t.Errorf("%s: no error", what) // every one of these reads beyond the first page
				}
			}
			check("search", func() error {
				_, err := r.Search(context.Background(), Query{Vector: rows[0].Vector, K: 5}, nil)
				return err
			}())
			check("filter", func() error { _, err := r.Filter(context.Background(), testFilters()[1]); return err }())
			check("lookup", func() error { _, _, err := r.Lookup(rows[2999].ID); return err }())
			check("id", func() error { _, err := r.ID(2999); return err }())
			check("metadata", func() error { _, err := r.Metadata(2000); return err }())
			check("document", func() error { _, _, err := r.documents.stubbornly(r); return err }())
			if err := verify(context.Background(), r); !errors.Is(err, disk.ErrCorrupt) {
				t.Errorf("verify: %v", err)
			}
			_, err := Merge(context.Background(), fs, s, testSpec(2, 16, kernel.Cosine), []Input{{r, nil}})
			check("merge", err)
		}
	}
}

// stubbornly reads every document: a few blocks may be cached.
func (t *text) stubbornly(r *Reader) (string, bool, error) {
	for row := range uint32(r.Rows()) {
		if _, _, err := r.Document(row); err != nil {
			return "", false, err
		}
	}
	return "", false, nil
}

// The k-th read or mapping of an open fails, or has a bit turned.
func TestOpenFaults(t *testing.T) {
	v := newVictim(t, seal.Plain())
	for _, op := range []faultfs.Op{faultfs.OpOpen, faultfs.OpStat, faultfs.OpMap, faultfs.OpRead} {
		for n := 0; ; n++ {
			fs := holding(t, 5, v.bytes)
			rule := fs.Inject(faultfs.Rule{Op: op, Nth: n})
			r, err := Open(fs, v.sealer, v.spec, v.info)
			if rule.Fired() == 0 {
				r.Close()
				break
			}
			if err == nil {
				t.Errorf("%v %d failed unnoticed", op, n)
			}
			if fs.Handles() != 0 {
				t.Errorf("%v %d failed: %d handles are open", op, n, fs.Handles())
			}
		}
	}
}

// mutate changes a few bytes of the file's sections to what is most likely to
// confuse a decoder.
func mutate(rng *rand.Rand, b []byte) {
	end := int(binary.LittleEndian.Uint64(b[len(b)-32:]))
	for range 1 + rng.IntN(3) {
		at := disk.HeaderSize + rng.IntN(end-disk.HeaderSize)
		switch rng.IntN(4) {
		case 0:
			b[at] ^= 1 << rng.IntN(8)
		case 1:
			b[at] = byte(rng.Uint32())
		case 2:
			at &^= 7
			binary.LittleEndian.PutUint64(b[at:], []uint64{0, 1, 1 << 31, 1<<32 - 1, 1 << 62, 1<<64 - 1}[rng.IntN(6)])
		case 3:
			at &^= 3
			binary.LittleEndian.PutUint32(b[at:], []uint32{0, 1, 1 << 31, 1<<32 - 1, 24, 25}[rng.IntN(6)])
		}
	}
}

// Files whose checksums are right and whose content is not: errors about the
// content, no panics.
func TestHostile(t *testing.T) {
	v := newVictim(t, seal.Plain())
	rng := rand.New(rand.NewPCG(9, 9))
	rounds := 3000
	if testing.Short() {
		rounds = 300
	}
	found := 0
	for range rounds {
		b := bytes.Clone(v.bytes)
		mutate(rng, b)
		if !repair(b) {
			t.Fatal("not a file")
		}
		if err := hostile(t, b); err != nil {
			found++
		}
	}
	if found < rounds/10 {
		t.Errorf("only %d of %d changes were noticed", found, rounds)
	}
}

// hostile opens and reads everything in a file of unknown content. Whatever it
// finds must be about damage.
func hostile(t testing.TB, b []byte) error {
	t.Helper()
	h, err := disk.DecodeHeader(b)
	if err != nil {
		return err
	}
	spec := Spec{Store: h.Store, Collection: h.Collection, Number: h.Number, File: h.File}
	r, err := Open(holding(t, h.Number, b), seal.Plain(), spec, Info{})
	if err != nil {
		return about(t, err)
	}
	defer r.Close()
	err = about(t, readAll(r))
	return errors.Join(err, about(t, verify(context.Background(), r)))
}

// about fails for an error that is not about damage, and returns it.
func about(t testing.TB, err error) error {
	t.Helper()
	if err != nil && !errors.Is(err, disk.ErrCorrupt) && !errors.Is(err, disk.ErrFormat) && !errors.Is(err, disk.ErrKey) {
		t.Fatalf("not about damage: %v", err)
	}
	return err
}

// What only Check can know: content that can be decoded and contradicts itself.
func TestCheckFinds(t *testing.T) {
	v := newVictim(t, seal.Plain())
	le := binary.LittleEndian
	last := len(v.rows) - 1
	for name, c := range map[string]struct {
		kind   uint16
		change func(section []byte)
	}{
		"an id that is not in the table": {sectionIDTable, func(b []byte) {
			for i := 0; ; i += 4 {
				if le.Uint32(b[i:]) != 0 {
					le.PutUint32(b[i:], 0)
					return
				}
			}
		}},
		"two ids that are one": {sectionIDs, func(b []byte) {
			copy(b[len(v.rows[0].ID):], b[:len(v.rows[0].ID)])
		}},
		"orders that do not ascend": {sectionOrders, func(b []byte) { copy(b[16:24], b[8:16]) }},
		"another first order":       {sectionOrders, func(b []byte) { le.PutUint64(b, v.rows[0].Order-1) }},
		"another last order":        {sectionOrders, func(b []byte) { le.PutUint64(b[last*8:], v.rows[last].Order+1) }},
		"less text than there is":   {sectionDocumentEnds, func(b []byte) { copy(b[last*8:], b[(last-1)*8:last*8]) }},
	} {
		b := bytes.Clone(v.bytes)
		c.change(b[sectionAt(t, b, c.kind):])
		if bytes.Equal(b, v.bytes) || !repair(b) {
			t.Fatalf("%s: not changed, or not a file", name)
		}
		r := mustOpen(t, holding(t, 5, b), seal.Plain(), v.spec, Info{})
		if err := verify(context.Background(), r); !errors.Is(err, disk.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzOpen reads everything out of files whose checksums have been made right.
func FuzzOpen(f *testing.F) {
	v := newVictim(f, seal.Plain())
	f.Add(v.bytes)
	rng := rand.New(rand.NewPCG(10, 10))
	for range 20 {
		b := bytes.Clone(v.bytes)
		mutate(rng, b)
		f.Add(b)
	}
	fs := faultfs.New(1)
	spec := testSpec(6, 1, kernel.L2)
	mustWrite(f, fs, seal.Plain(), spec, oddRows(1)[:1])
	f.Add(content(f, fs, Name(6)))
	spec = testSpec(7, 3, kernel.L2)
	spec.GraphMin, spec.Graph.Bits = 1, 32 // a graph without codes
	mustWrite(f, fs, seal.Plain(), spec, v.rows)
	f.Add(content(f, fs, Name(7)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<20 {
			return
		}
		if b = bytes.Clone(b); !repair(b) { // what is given is not ours to change
			return
		}
		_ = hostile(t, b)
	})
}
