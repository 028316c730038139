package segment

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// findings is what Check tells of a file that can be opened.
func findings(t testing.TB, v *victim, b []byte, want Info) []Finding {
	t.Helper()
	r := mustOpen(t, holding(t, 5, b), v.sealer, v.spec, want)
	defer r.Close()
	var out []Finding
	if err := r.Check(t.Context(), func(int64) {}, func(f Finding) { out = append(out, f) }); err != nil {
		t.Fatal(err)
	}
	return out
}

// Every section is named when a byte of it is damaged, and nothing else is.
func TestCheckNamesSections(t *testing.T) {
	for _, keys := range []testKeys{seal.Plain(), newGCM(t)} {
		v := newVictim(t, keys)
		if f := findings(t, v, v.bytes, v.info); len(f) != 0 {
			t.Fatalf("a whole file: %v", f)
		}
		whole := mustOpen(t, holding(t, 5, v.bytes), keys, v.spec, v.info)
		parts := whole.file.Parts()
		whole.Close()
		for _, p := range parts {
			if p.Kind == sectionProperties {
				continue // It cannot be opened then.
			}
			b := bytes.Clone(v.bytes)
			b[p.Offset+p.Length/2] ^= 1
			f := findings(t, v, b, v.info)
			if len(f) != 1 || f[0].Section != p.Kind || !errors.Is(f[0].Err, disk.ErrCorrupt) || f[0].Index != remakable(p.Kind) {
				t.Errorf("key %d, %s: %v", keys.KeyID(), SectionName(p.Kind), f)
			}
		}
	}
}

// What has right checksums and contradicts itself is found, all of it.
func TestCheckContradictions(t *testing.T) {
	le := binary.LittleEndian
	v := newVictim(t, seal.Plain())
	last := len(v.rows) - 1
	for name, c := range map[string]struct {
		kind   uint16
		change func(section []byte)
	}{
		"a vector of no number": {sectionVectors, func(b []byte) { le.PutUint32(b, math.Float32bits(float32(math.NaN()))) }},
		"another norm":          {sectionNorms, func(b []byte) { le.PutUint32(b, math.Float32bits(77)) }},
		"orders":                {sectionOrders, func(b []byte) { copy(b[16:24], b[8:16]) }},
		"a last order":          {sectionOrders, func(b []byte) { le.PutUint64(b[last*8:], v.rows[last].Order+1) }},
		"an id twice":           {sectionIDs, func(b []byte) { copy(b[len(v.rows[0].ID):], b[:len(v.rows[0].ID)]) }},
		"a slot too many": {sectionIDTable, func(b []byte) {
			for i := 0; ; i += 4 {
				if le.Uint32(b[i:]) == 0 {
					le.PutUint32(b[i:], 1)
					return
				}
			}
		}},
		"other metadata": {sectionMetadata, func(b []byte) { // of one length, so that it still decodes
			i := bytes.Index(b, []byte("name"))
			copy(b[i:], "nama")
		}},
		"a graph of zeros":     {sectionGraph, func(b []byte) { clear(b[:64]) }},
		"a graph of version 1": {sectionGraph, func(b []byte) { le.PutUint32(b, 1) }},
	} {
		b := bytes.Clone(v.bytes)
		c.change(b[sectionAt(t, b, c.kind):])
		if bytes.Equal(b, v.bytes) || !repair(b) {
			t.Fatalf("%s: not changed, or not a file", name)
		}
		f := findings(t, v, b, Info{})
		want := c.kind
		switch c.kind {
		case sectionMetadata:
			want = sectionFilter // of the two it is the index that can be made again
		case sectionIDs:
			want = sectionIDTable
		}
		if !slices.ContainsFunc(f, func(f Finding) bool { return f.Section == want }) {
			t.Errorf("%s: %v", name, f)
		}
	}
}

// Codes that are not those of the vectors, in a file whose checksums are right,
// are damage of the index: it can be made again.
func TestCheckCodes(t *testing.T) {
	rows := randomRows(rand.New(rand.NewPCG(9, 8)), 400, 4)
	spec := testSpec(5, 4, kernel.Cosine)
	spec.GraphMin = 1
	fs := faultfs.New(1)
	mustWrite(t, fs, seal.Plain(), spec, rows)
	b := content(t, fs, Name(5))
	graph := b[sectionAt(t, b, sectionGraph):]
	codec := int(binary.LittleEndian.Uint32(graph[24:]))
	codes := graph[(64+codec+63)&^63:][:len(rows)*64]
	copy(codes, slices.Concat(codes[len(codes)/2:], codes[:len(codes)/2]))
	if !repair(b) {
		t.Fatal("not a file")
	}
	v := &victim{sealer: seal.Plain(), spec: spec}
	f := findings(t, v, b, Info{})
	if len(f) == 0 || slices.ContainsFunc(f, func(f Finding) bool { return f.Section != sectionGraph || !f.Index }) {
		t.Errorf("%v", f)
	}
}

// Damage in an index changes no answer, and who meets it says so.
func TestDegraded(t *testing.T) {
	rows := randomRows(rand.New(rand.NewPCG(8, 8)), 700, 4)
	spec := testSpec(5, 4, kernel.L2)
	for _, checksummed := range []bool{false, true} { // damage that only decoding finds
		for _, kind := range []uint16{sectionFilter, sectionIDTable} {
			if checksummed && kind == sectionIDTable {
				continue // A slot with a right checksum is believed.
			}
			fs := faultfs.New(1)
			mustWrite(t, fs, seal.Plain(), spec, rows)
			b := content(t, fs, Name(5))
			at := sectionAt(t, b, kind)
			for i := range 64 {
				b[at+i] = 0xff
			}
			if checksummed && !repair(b) {
				t.Fatal("not a file")
			}
			r := mustOpen(t, holding(t, 5, b), seal.Plain(), spec, Info{})
			for i, row := range rows {
				if at, ok, err := r.Lookup(row.ID); err != nil || !ok || at != uint32(i) {
					t.Fatalf("%s: lookup of row %d: %d, %v, %v", SectionName(kind), i, at, ok, err)
				}
			}
			if _, ok, err := r.Lookup("nobody's"); ok || err != nil {
				t.Fatalf("an unknown id: %v, %v", ok, err)
			}
			for _, e := range testFilters() {
				got, err := r.Filter(context.Background(), e)
				if err != nil {
					t.Fatal(err)
				}
				for i, row := range rows {
					if got.Contains(uint32(i)) != e.Match(row.Metadata, row.Document) {
						t.Fatalf("row %d: the filter is wrong", i)
					}
				}
			}
			if !errors.Is(r.Degraded(), disk.ErrCorrupt) {
				t.Errorf("%s, checksums right %v: degraded: %v", SectionName(kind), checksummed, r.Degraded())
			}
			again := testSpec(6, 4, kernel.L2)
			out := holding(t, 5, b)
			info, err := Merge(context.Background(), out, seal.Plain(), again, []Input{{r, nil}})
			if err != nil {
				t.Fatal(err)
			}
			whole := mustOpen(t, out, seal.Plain(), again, info)
			if err := errors.Join(differs(whole, rows), verify(context.Background(), whole), whole.Degraded()); err != nil {
				t.Error(err)
			}
		}
	}
}
