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

	"github.com/chromad/chromad/hnsw"
	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// int8Rows are rows whose vectors are of integers from -128 to 127, orders from
// first on.
func int8Rows(rng *rand.Rand, n, dim int, first uint64) []Row {
	rows := randomRows(rng, n, dim)
	centre := make([]float64, dim)
	for i := range rows {
		if i%100 == 0 {
			for j := range centre {
				centre[j] = 40 * rng.NormFloat64()
			}
		}
		for j := range rows[i].Vector {
			rows[i].Vector[j] = float32(int(max(-128, min(127, centre[j]+15*rng.NormFloat64()))))
		}
		rows[i].Order += first
		rows[i].ID = string(rune('a'+first%26)) + rows[i].ID
	}
	return rows
}

func bytesSpec(n uint64, m kernel.Metric) Spec {
	spec := testSpec(n, 70, m)
	spec.GraphMin, spec.Graph.Bits = 1, 2
	return spec
}

// sameWithBytes compares what searches find in bytes with what they find in
// float32.
func sameWithBytes(t *testing.T, r *Reader, rows []Row) {
	t.Helper()
	if r.bytes == nil {
		t.Fatal("no bytes")
	}
	ctx := context.Background()
	for i, k := range []int{1, 10, 40, len(rows)} {
		for _, exact := range []bool{false, true} {
			q := Query{Vector: rows[i*7].Vector, K: k, EF: 50, Exact: exact}
			got, err := r.Search(ctx, q, nil)
			if err != nil {
				t.Fatal(err)
			}
			if want, err := r.guarded(ctx, &q, nil, false); err != nil || !slices.Equal(got, want) {
				t.Fatalf("%v instead of %v, %v", got, want, err)
			}
		}
	}
	if err := r.Degraded(); err != nil {
		t.Error(err)
	}
}

// Vectors of integers are written in bytes too, by every way that a segment is
// made, and searches that end there read no others.
func TestBytes(t *testing.T) {
	ctx := context.Background()
	for _, keys := range []testKeys{seal.Plain(), newGCM(t)} {
		for _, m := range []kernel.Metric{kernel.L2, kernel.Cosine, kernel.IP} {
			if keys.Overhead() > 0 && m != kernel.Cosine {
				continue
			}
			rng := rand.New(rand.NewPCG(61, uint64(m)))
			first, second := int8Rows(rng, 600, 70, 0), int8Rows(rng, 250, 70, 1<<20)
			spec := bytesSpec(1, m)
			fs := faultfs.New(1)
			info := mustWrite(t, fs, keys, spec, first)
			r := mustOpen(t, fs, keys, spec, info)
			if want := len(first)*128 + 4; r.bytes == nil || r.bytes.Len() != want {
				t.Fatalf("key %d, %v: not %d bytes", keys.KeyID(), m, want)
			}
			if err := r.guard(func() error {
				base, err := r.base()
				if base != -128 {
					t.Errorf("bytes from %v on", base)
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
			sameWithBytes(t, r, first)
			if err := errors.Join(differs(r, first), verify(ctx, r)); err != nil {
				t.Fatal(err)
			}

			other := bytesSpec(2, m)
			r2 := mustOpen(t, fs, keys, other, mustWrite(t, fs, keys, other, second))
			merged := bytesSpec(3, m)
			info, err := Merge(ctx, fs, keys, merged, []Input{{r, nil}, {r2, nil}})
			if err != nil {
				t.Fatal(err)
			}
			r3 := mustOpen(t, fs, keys, merged, info)
			all := slices.Concat(first, second)
			sameWithBytes(t, r3, all)
			copied := bytesSpec(4, m)
			if info, err = Copy(ctx, fs, keys, copied, r3); err != nil {
				t.Fatal(err)
			}
			r4 := mustOpen(t, fs, keys, copied, info)
			sameWithBytes(t, r4, all)
			if err := errors.Join(differs(r4, all), verify(ctx, r3), verify(ctx, r4)); err != nil {
				t.Fatal(err)
			}

			// One number that is no integer, and there are none.
			second[7].Vector[3] += 0.5
			fractional := bytesSpec(5, m)
			r5 := mustOpen(t, fs, keys, fractional, mustWrite(t, fs, keys, fractional, second))
			mixed := bytesSpec(6, m)
			if info, err = Merge(ctx, fs, keys, mixed, []Input{{r, nil}, {r5, nil}}); err != nil {
				t.Fatal(err)
			}
			r6 := mustOpen(t, fs, keys, mixed, info)
			if r5.bytes != nil || r6.bytes != nil {
				t.Fatal("bytes of fractions")
			}
			if err := differs(r6, slices.Concat(first, second)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Graphs over the vectors themselves, and segments without one, have no bytes.
func TestNoBytes(t *testing.T) {
	rows := int8Rows(rand.New(rand.NewPCG(62, 1)), 300, 70, 0)
	for name, change := range map[string]func(*Spec){
		"plain":    func(s *Spec) { s.Graph.Bits = 32 },
		"no graph": func(s *Spec) { s.GraphMin = 1000 },
	} {
		spec := bytesSpec(1, kernel.L2)
		change(&spec)
		if r := written(t, spec, rows); r.bytes != nil {
			t.Error(name)
		}
	}
}

// A large segment is built over its mapped file, and its bytes are made there.
func TestBytesOfMapped(t *testing.T) {
	rows := int8Rows(rand.New(rand.NewPCG(63, 1)), 600, 70, 0)
	spec := bytesSpec(1, kernel.L2)
	fs, _ := tempFS(t)
	info, err := create(context.Background(), fs, seal.Plain(), spec, mapping(rows), hnsw.Build)
	if err != nil {
		t.Fatal(err)
	}
	r := mustOpen(t, fs, seal.Plain(), spec, info)
	sameWithBytes(t, r, rows)
	if err := verify(context.Background(), r); err != nil {
		t.Fatal(err)
	}
}

// Searches in bytes do not read the vectors: damage there is met by others.
func TestBytesAreReadInstead(t *testing.T) {
	rows := int8Rows(rand.New(rand.NewPCG(64, 1)), 600, 70, 0)
	spec := bytesSpec(1, kernel.L2)
	fs := faultfs.New(1)
	mustWrite(t, fs, seal.Plain(), spec, rows)
	b := content(t, fs, Name(1))
	at := sectionAt(t, b, sectionVectors)
	for i := range len(rows) * 80 * 4 / blockRows {
		b[at+i*blockRows]++
	}
	r := mustOpen(t, holding(t, 1, b), seal.Plain(), spec, Info{})
	if err := answersExactly(r, rows, kernel.L2, Query{Vector: rows[5].Vector, K: 20}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Vector(5); !errors.Is(err, disk.ErrCorrupt) {
		t.Errorf("the vector: %v", err)
	}
	if err := r.Degraded(); err != nil {
		t.Errorf("degraded: %v", err)
	}
}

// Damage in the bytes costs time and nothing else: whoever meets it says so, and a
// merge makes them anew.
func TestDamagedBytes(t *testing.T) {
	ctx := context.Background()
	rows := int8Rows(rand.New(rand.NewPCG(65, 1)), 600, 70, 0)
	spec := bytesSpec(1, kernel.Cosine)
	size := len(rows)*128 + 4
	written := map[bool]*faultfs.FS{}
	for _, keys := range []testKeys{seal.Plain(), newGCM(t)} {
		fs := faultfs.New(1)
		mustWrite(t, fs, keys, spec, rows)
		written[keys.Overhead() > 0] = fs
	}
	for name, tc := range map[string]struct {
		keys   testKeys
		change func(section []byte)
		repair bool // the checksums
	}{
		"one block":           {seal.Plain(), func(b []byte) { b[0]++ }, false},
		"many blocks":         {seal.Plain(), flipBlocks, false},
		"many blocks, sealed": {newGCM(t), flipBlocks, false},
		"the base":            {seal.Plain(), func(b []byte) { b[size-1]++ }, false},
		"a base of no number": {seal.Plain(), func(b []byte) {
			binary.LittleEndian.PutUint32(b[size-4:], math.Float32bits(float32(math.NaN())))
		}, true},
	} {
		fs := written[tc.keys.Overhead() > 0]
		b := content(t, fs, Name(1))
		whole := bytes.Clone(b)
		tc.change(b[sectionAtParts(t, fs, tc.keys, spec, sectionBytes):])
		if bytes.Equal(b, whole) || tc.repair && !repair(b) {
			t.Fatalf("%s: not changed, or not a file", name)
		}
		fs = holding(t, 1, b)
		r := mustOpen(t, fs, tc.keys, spec, Info{})
		if r.Degraded() != nil {
			t.Errorf("%s: before it is met: %v", name, r.Degraded())
		}
		for i := range 3 {
			asked := 0
			q := Query{Vector: rows[i].Vector, K: 20, EF: 800, Late: func() (float32, bool) { asked++; return 0, false }}
			if err := answersExactly(r, rows, kernel.Cosine, q); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if asked > 1 {
				t.Errorf("%s: asked %d times for a bound", name, asked)
			}
		}
		if err := r.Degraded(); !errors.Is(err, disk.ErrCorrupt) {
			t.Errorf("%s: degraded: %v", name, err)
		}
		found := 0
		err := r.Check(ctx, func(int64) {}, func(f Finding) {
			if found++; f.Section != sectionBytes || !f.Index {
				t.Errorf("%s: %+v", name, f)
			}
		})
		if err != nil || found == 0 {
			t.Errorf("%s: %d findings, %v", name, found, err)
		}
		again := bytesSpec(2, kernel.Cosine)
		info, err := Merge(ctx, fs, tc.keys, again, []Input{{r, nil}})
		if err != nil {
			t.Fatal(err)
		}
		r = mustOpen(t, fs, tc.keys, again, info)
		sameWithBytes(t, r, rows)
		if err := verify(ctx, r); err != nil {
			t.Errorf("%s: merged: %v", name, err)
		}
	}
	// Another number of bytes.
	b := content(t, written[false], Name(1))
	le := binary.LittleEndian
	for e := b[le.Uint64(b[len(b)-32:])+16:]; ; e = e[32:] {
		if le.Uint16(e) == sectionBytes {
			le.PutUint64(e[8:], uint64(size+4)) // which the padding has room for
			break
		}
	}
	if !repair(b) {
		t.Fatal("not a file")
	}
	r := mustOpen(t, holding(t, 1, b), seal.Plain(), spec, Info{})
	if err := answersExactly(r, rows, kernel.Cosine, Query{Vector: rows[5].Vector, K: 20, EF: 800}); err != nil || r.Degraded() == nil {
		t.Errorf("another number of bytes: %v, degraded: %v", err, r.Degraded())
	}
	if err := verify(ctx, r); !errors.Is(err, disk.ErrCorrupt) {
		t.Errorf("another number of bytes: %v", err)
	}
	// Bytes that say something else, in blocks that are whole.
	b = content(t, written[false], Name(1))
	b[sectionAt(t, b, sectionBytes)+128*9+69]++
	if !repair(b) {
		t.Fatal("not a file")
	}
	r = mustOpen(t, holding(t, 1, b), seal.Plain(), spec, Info{})
	if err := verify(ctx, r); !errors.Is(err, disk.ErrCorrupt) {
		t.Errorf("other bytes: %v", err)
	}
}

func flipBlocks(b []byte) {
	for i := range 9 {
		b[i*blockRows] ^= 1
	}
}

// sectionAtParts is sectionAt of a file that may be sealed.
func sectionAtParts(t *testing.T, fs *faultfs.FS, keys testKeys, spec Spec, kind uint16) int {
	t.Helper()
	r, err := Open(fs, keys, spec, Info{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, p := range r.file.Parts() {
		if p.Kind == kind {
			return int(p.Offset)
		}
	}
	t.Fatalf("no section %d", kind)
	return 0
}
