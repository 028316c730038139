package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// The attacker of these tests writes to the disk as he likes and has no key.
// Checksums have none either, so he makes them all right.

// reheaded gives a file of sections another header, and makes the checksums of
// header and footer fit.
func reheaded(b []byte, h disk.Header) []byte {
	b = slices.Clone(b)
	head, _ := h.AppendBinary(nil)
	copy(b, head)
	foot := len(b) - 32
	at := binary.LittleEndian.Uint64(b[foot:])
	binary.LittleEndian.PutUint64(b[foot+16:], xxhash.Sum64(slices.Concat(b[:disk.HeaderSize], b[at:foot])))
	return b
}

// replaced returns a copy of the disk with other bytes in a file.
func replaced(t testing.TB, fs *faultfs.FS, name string, b []byte) *faultfs.FS {
	t.Helper()
	left := fs.Clone()
	check(t, left.Damage(name, func([]byte) []byte { return b }))
	return left
}

// village is two stores under one operator's key, with two tenants that have two
// collections of the same names and records each. Only the vectors say whose
// they are. from is the number of the first vector.
func village(t testing.TB, from int) (*faultfs.FS, map[[2]string]model) {
	t.Helper()
	ctx := t.Context()
	fs, all := faultfs.New(1), map[[2]string]model{}
	db := openOn(t, fs, Options{Keys: operator("a"), GraphMin: 1 << 20, Workers: 1})
	db.jobs.stop()
	for _, tenant := range []string{"left", "right"} {
		check(t, db.CreateTenant(ctx, tenant))
		_, err := db.CreateDatabase(ctx, tenant, "db")
		check(t, err)
		m := model{}
		for _, name := range []string{"c", "d"} {
			c, err := db.Namespace(tenant, "db").Create(ctx, name, Spec{})
			check(t, err)
			m[name] = &modelCollection{}
			for half := range 2 {
				var recs []Record
				for i := range 3 {
					from++
					recs = append(recs, Record{ID: fmt.Sprint(half, i), Embedding: []float32{float32(from)}, Document: Optional("text")})
				}
				check(t, c.Upsert(ctx, recs...))
				m[name].write(writeUpsert, recs)
				check(t, db.Flush(ctx))
			}
		}
		all[[2]string{tenant, "db"}] = m
	}
	check(t, db.writeCheckpoint(ctx))
	check(t, db.log.Rotate())
	left := fs.Clone()
	db.Close()
	return left, all
}

// visit reads everything: how many collections were refused, and an error when
// something else than what was written came out.
func visit(ctx context.Context, fs *faultfs.FS, all map[[2]string]model) (refused int, err error) {
	db, err := Open("", &Options{Keys: operator("a"), ReadOnly: true, fs: fs})
	if err != nil {
		if refusal(err) {
			return 4, nil
		}
		return 0, err
	}
	defer db.Close()
	for in, m := range all {
		for name, want := range m {
			c, err := db.Namespace(in[0], in[1]).Collection(ctx, name)
			if err != nil {
				return refused, err
			}
			d, err := want.diff(ctx, c)
			if err == nil && d == "" {
				err = want.findAll(ctx, c)
			}
			switch {
			case refusal(err):
				refused++
			case err != nil || d != "":
				return refused, fmt.Errorf("%s of %s: %s %w", name, in[0], d, err)
			}
		}
	}
	return refused, nil
}

// TestSwappedFiles puts every file of sections in the place of every other one: of
// the same collection, of another collection, tenant and store, as it is and
// under the header that belongs there. Neither the engine takes it, nor would
// a reader that knows nothing of the file but its name and header.
func TestSwappedFiles(t *testing.T) {
	heavy(t)
	fs, all := village(t, 0)
	other, _ := village(t, 100)
	if n, err := visit(t.Context(), fs, all); n != 0 || err != nil {
		t.Fatalf("untouched: %d refused, %v", n, err)
	}
	db := openOn(t, fs.Clone(), Options{Keys: operator("a")})
	t.Cleanup(func() { db.Close() })
	tried := 0
	for _, to := range fs.Files() {
		if !strings.HasPrefix(to, segmentDir+"/") && !strings.HasPrefix(to, checkpointDir+"/") {
			continue
		}
		right := content(t, fs, to)
		h, err := disk.DecodeHeader(right)
		check(t, err)
		for _, source := range []*faultfs.FS{fs, other} {
			for _, from := range source.Files() {
				if strings.HasPrefix(from, "log/") || !strings.Contains(from, "/") || source == fs && from == to {
					continue
				}
				b := content(t, source, from)
				was, err := disk.DecodeHeader(b)
				check(t, err)
				number := was
				number.Number = h.Number
				sameKey := h
				sameKey.KeyID = was.KeyID
				for how, forged := range map[string][]byte{
					"as it is": b, "with its number": reheaded(b, number), "with its header": reheaded(b, h),
					"with its header but the key": reheaded(b, sameKey), "the blocks under its table": blended(right, b),
				} {
					if bytes.Equal(forged, right) {
						continue
					}
					tried++
					what := fmt.Sprintf("%s in the place of %s, %s", from, to, how)
					left := replaced(t, fs, to, forged)
					if n, err := visit(t.Context(), left, all); err != nil || n == 0 {
						t.Errorf("%s: %d refused, %v", what, n, err)
					}
					f, err := disk.OpenFile(left, to, h, disk.Info{}, db.keys)
					if err == nil && how == "the blocks under its table" {
						err = errors.Join(f.Verify(t.Context()), f.Close())
					}
					if !refusal(err) {
						t.Errorf("%s, for who knows no root: %v", what, err)
					}
				}
			}
		}
	}
	if tried < 500 {
		t.Errorf("%d files were put in each other's place", tried)
	}
}

// blended is a file with the bytes of another one between header and table, as
// many as fit.
func blended(right, b []byte) []byte {
	out := slices.Clone(right)
	at := binary.LittleEndian.Uint64(right[len(right)-32:])
	end := binary.LittleEndian.Uint64(b[len(b)-32:])
	copy(out[disk.HeaderSize:at], b[disk.HeaderSize:end])
	return out
}

const blocks, blockSize = 20, 8<<10 + 28

func block(b []byte, i int) []byte { return b[disk.HeaderSize+i*blockSize:][:blockSize] }

// refusedBlocks wants the blocks in which a file differs from the right one to be
// refused, and the others given out.
func refusedBlocks(t *testing.T, what string, keys seal.Keys, h disk.Header, right, b []byte) {
	t.Helper()
	fs := faultfs.New(1)
	put(t, fs, "f", b)
	f, err := disk.OpenFile(fs, "f", h, disk.Info{}, keys)
	if err != nil {
		t.Errorf("%s: open: %v", what, err)
		return
	}
	section, _ := f.Section(f.Parts()[0].Kind)
	bad := 0
	for i := range blocks {
		_, err := section.Bytes(i*8<<10, 8<<10)
		if same := bytes.Equal(block(b, i), block(right, i)); same != (err == nil) || !same && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: block %d: %v", what, i, err)
		}
		if err != nil {
			bad++
		}
	}
	if bad == 0 {
		t.Errorf("%s: nothing was changed", what)
	}
	check(t, f.Close())
}

// TestSwappedBlocks: in a file of 20 blocks each pair is swapped, each block put
// in the place of each, dropped, and all turned round. Even somebody who could
// write the table, and with it the checksums, would be found out by the seals.
func TestSwappedBlocks(t *testing.T) {
	heavy(t)
	ctx := t.Context()
	fs := faultfs.New(1)
	db := openOn(t, fs, Options{Keys: operator("a"), GraphMin: 1 << 20, Workers: 1})
	db.jobs.stop()
	c := newCollection(t, db, "c")
	var recs []Record
	for i := range 20 * 8 { // of 1 KiB, eight in a block of 8 KiB
		v := make([]float32, 256)
		v[0] = float32(i)
		recs = append(recs, Record{ID: fmt.Sprint(i), Embedding: v})
	}
	check(t, c.Add(ctx, recs...))
	check(t, db.Flush(ctx))
	name := segmentDir + "/" + fmt.Sprintf("%016x%s", c.manifest.segments[0].info.Number, segmentSuffix)
	left := fs.Clone()
	t.Cleanup(func() { db.Close() })
	right := content(t, left, name)
	h, err := disk.DecodeHeader(right)
	check(t, err)
	s, err := db.keys.Reader(h.Address(0), h.KeyID)
	check(t, err)
	at := binary.LittleEndian.Uint64(right[len(right)-32:])
	table, err := s.Open(nil, right[at:len(right)-32], h.Address(1<<63), right[:disk.HeaderSize])
	check(t, err)
	sections := int(binary.LittleEndian.Uint32(table))
	if size, n := binary.LittleEndian.Uint32(table[20:]), binary.LittleEndian.Uint64(table[24:]); size != 8<<10 || n != blocks*8<<10 {
		t.Fatalf("vectors are %d bytes in blocks of %d", n, size)
	}
	try := func(what string, change func(b []byte)) {
		t.Helper()
		b := slices.Clone(right)
		change(b)
		refusedBlocks(t, what+", as it is", db.keys, h, right, b)
		forged := slices.Clone(table) // with the key, only here
		for i := range blocks {
			binary.LittleEndian.PutUint64(forged[16+32*sections+8*i:], seal.Sum(block(b, i), h.Address(uint64(i))))
		}
		stored, err := s.Seal(nil, forged, h.Address(1<<63), b[:disk.HeaderSize])
		check(t, err)
		copy(b[at:], stored)
		refusedBlocks(t, what+", checksums too", db.keys, h, right, reheaded(b, h))
	}
	for i := range blocks {
		for j := range blocks {
			if i == j {
				continue
			}
			if i < j {
				try(fmt.Sprintf("%d and %d swapped", i, j), func(b []byte) {
					copy(block(b, i), block(right, j))
					copy(block(b, j), block(right, i))
				})
			}
			try(fmt.Sprintf("%d in the place of %d", i, j), func(b []byte) { copy(block(b, j), block(right, i)) })
		}
		try(fmt.Sprintf("%d dropped", i), func(b []byte) {
			copy(b[disk.HeaderSize+i*blockSize:][:(blocks-1-i)*blockSize], right[disk.HeaderSize+(i+1)*blockSize:])
			clear(block(b, blocks-1))
		})
	}
	try("turned round", func(b []byte) {
		for i := range blocks {
			copy(block(b, i), block(right, blocks-1-i))
		}
	})
}
