package engine

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

var tamperAll = flag.Bool("tamper.all", false, "TestTamper flips every bit")

// tiny is an encrypted store of a few files, closed: what it holds is in one
// segment and a checkpoint, and the log has an entry behind it.
func tiny(t testing.TB) (*faultfs.FS, model) {
	t.Helper()
	ctx := t.Context()
	fs, m := faultfs.New(1), model{"c": {}}
	db := openOn(t, fs, Options{Keys: operator("a"), GraphMin: 4, Workers: 1})
	db.jobs.stop()
	c := newCollection(t, db, "c")
	for i := range 6 {
		recs := []Record{{ID: fmt.Sprint(i), Embedding: []float32{float32(i)}, Document: Optional("text"), Metadata: exampleMetadata(), URI: Optional("uri")}}
		check(t, c.Add(ctx, recs...))
		m["c"].write(writeAdd, recs)
		if i == 3 {
			check(t, db.Flush(ctx))
		}
	}
	check(t, db.writeCheckpoint(ctx))
	left := fs.Clone()
	db.Close()
	return left, m
}

// TestTamper flips bits of every file of an encrypted store, plainly, and with the
// checksums of header and footer made to fit. Each is refused by reads, or by
// Check where reads go on without an index, or is a byte that says nothing (noise of the
// reserve, padding, the block size of a file of keys, which has one block). What refuses a sealed byte is a checksum, a root or the
// seal: no decoder has seen anything that was decrypted.
func TestTamper(t *testing.T) {
	heavy(t)
	fs, m := tiny(t)
	r := rand.New(rand.NewPCG(1, 31))
	th := newThief(t, fs, operator("a"))
	pieces := th.read()
	flips, by := 0, map[string]int{}
	offsets := map[string]int{}
	for _, p := range pieces {
		if p.what == "entry" {
			continue // inside of a frame
		}
		name := p.file
		base := pieceAt(t, fs, p, offsets)
		silent := p.what == "RESERVE" || p.what == "padding" || p.what == "table"
		share := 1
		if !*tamperAll {
			share = max(1, 8*len(p.stored)/40) // about so many bits of each piece
		}
		for bit := r.IntN(share); bit < 8*len(p.stored); bit += 1 + r.IntN(2*share-1) {
			for _, fitting := range []bool{false, true} {
				hit := fs.Clone()
				check(t, hit.Damage(name, func(b []byte) []byte {
					b[base+bit/8] ^= 1 << (bit % 8)
					if fitting && !strings.HasPrefix(name, "log/") {
						b = resummed(b)
					}
					return b
				}))
				if slices.Equal(content(t, hit, name), content(t, fs, name)) {
					continue // a checksum that was made to fit again
				}
				refused, torn, err := judge(t.Context(), hit, operator("a"), m, m)
				if !refused && !silent && err == nil { // an index of which reads go on without
					refused, err = found(hit, operator("a"))
				}
				if err != nil || torn || !refused && !silent {
					t.Errorf("%s: %s, bit %d (checksums fit: %v): refused %v, torn %v, %v", name, p.what, bit, fitting, refused, torn, err)
					continue
				}
				flips++
				if err := refusalOf(t.Context(), hit); err != nil && p.sealed {
					by[guard(err)]++
				}
			}
		}
	}
	t.Logf("%d flips, those of what is sealed refused by %v", flips, by)
	for g := range by {
		if !slices.Contains([]string{"seal", "checksum", "root", "frame"}, g) {
			t.Errorf("what is sealed was refused by %q", g)
		}
	}
	if flips < 300 || by["seal"] == 0 || by["checksum"] == 0 {
		t.Errorf("%d flips, refused by %v", flips, by)
	}
}

// pieceAt is where a piece lies in its file; pieces of one file are disjoint,
// and equal ones are taken in order.
func pieceAt(t testing.TB, fs *faultfs.FS, p piece, after map[string]int) int {
	t.Helper()
	if len(p.stored) == 0 {
		return 0
	}
	b := content(t, fs, p.file)
	key := p.file + string(p.stored)
	at := strings.Index(string(b[after[key]:]), string(p.stored)) + after[key]
	after[key] = at + 1
	return at
}

// resummed makes the checksums of header and footer fit, if the footer still
// points into the file.
func resummed(b []byte) []byte {
	foot := len(b) - 32
	binary.LittleEndian.PutUint64(b[disk.HeaderSize-8:], xxhash.Sum64(b[:disk.HeaderSize-8]))
	if at := binary.LittleEndian.Uint64(b[foot:]); at < uint64(foot) {
		binary.LittleEndian.PutUint64(b[foot+16:], xxhash.Sum64(slices.Concat(b[:disk.HeaderSize], b[at:foot])))
	}
	return b
}

// refusalOf is the first error that somebody meets who reads everything.
func refusalOf(ctx context.Context, fs *faultfs.FS) error {
	db, err := Open("", &Options{Keys: operator("a"), ReadOnly: true, fs: fs})
	if err != nil {
		return err
	}
	defer db.Close()
	c, err := db.Default().Collection(ctx, "c")
	if err == nil {
		err = drain(c.Get(ctx, Selection{}, IncludeAll))
	}
	if err == nil {
		_, err = c.Query(ctx, []float32{1}, 9, nil)
	}
	return err
}

// guard is what stood before the decoders: what an error says, by a word of it.
func guard(err error) string {
	for _, g := range [][2]string{
		{"authentication failed", "seal"}, {"does not open", "seal"}, {"checksum", "checksum"}, {"root ", "root"}, {"version", "header"},
		{"magic", "header"}, {"instead of", "header"}, {"kind", "header"}, {"reserved", "header"}, {"table at", "footer"},
		{"no generation", "header"}, {"has no key", "header"}, {"not encrypted", "header"}, {"log ends before", "frame"},
	} {
		if strings.Contains(fmt.Sprint(err), g[0]) {
			return g[1]
		}
	}
	return fmt.Sprint(err)
}
