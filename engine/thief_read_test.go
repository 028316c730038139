package engine

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// housed is an encrypted store with every kind of file, of two generations of
// keys, as it is while somebody has it open.
func housed(t testing.TB) (*faultfs.FS, model) {
	t.Helper()
	ctx := t.Context()
	fs, m := aStore(t, operator("a"))
	db := openOn(t, fs, Options{Keys: operator("a"), GraphMin: 4, Workers: 1})
	db.jobs.stop()
	check(t, db.RotateKeys(ctx, nil))
	recs := []Record{{ID: "late", Embedding: []float32{7}, Document: Optional("in the log")}}
	check(t, collection(t, db, "c0").Upsert(ctx, recs...))
	m["c0"].write(writeUpsert, recs)
	_, err := collection(t, db, "c1").Delete(ctx, Selection{IDs: []string{"2"}})
	check(t, err)
	m["c1"].delete(func(r Record) bool { return r.ID == "2" })
	left := fs.Clone()
	db.Close()
	return left, m
}

// The page says what of an encrypted store is sealed, what it is bound to and
// what can be seen without a key. Whoever goes by the page opens everything,
// and no byte of any file is something that it does not name.
func TestSecurityPage(t *testing.T) {
	fs, _ := housed(t)
	sealed, clear := map[string]bool{}, map[string]bool{"LOCK": true} // no file on this disk
	for _, p := range newThief(t, fs, operator("a")).read() {
		switch {
		case p.sealed && p.plain == nil:
			t.Errorf("%s: nothing opens %s", p.file, p.what)
		case p.sealed:
			sealed[p.what] = true
		default:
			clear[p.what] = true
		}
	}
	for marker, found := range map[string]map[string]bool{"associated data": sealed, "in the clear": clear} {
		var named []string
		for _, row := range pageTable(t, securityPage, marker) {
			named = append(named, row[0])
		}
		slices.Sort(named)
		if got := sortedKeys(found); !slices.Equal(got, named) {
			t.Errorf("table %q names %q, a store has %q", marker, named, got)
		}
	}
}

// Without the operator's key there is no other way in than the pages say.
func TestThiefWithoutKey(t *testing.T) {
	fs, _ := housed(t)
	for _, p := range newThief(t, fs, nil).read() {
		if p.sealed && p.plain != nil {
			t.Errorf("%s: %s is open", p.file, p.what)
		}
	}
}

// What is encrypted looks like chance: the bytes of all values are equally
// frequent, in every file that is large enough to tell.
func TestBytesAreEven(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1) // no run may differ: one in a million would fail
	ctx := t.Context()
	fs := faultfs.New(1)
	db := openOn(t, fs, Options{Keys: operator("a"), Workers: 1, GraphMin: 1 << 20})
	db.jobs.stop()
	c := newCollection(t, db, "c")
	text := strings.Repeat("the same again. ", 200)
	for i := range 20 {
		var recs []Record
		for j := range 50 {
			recs = append(recs, Record{ID: fmt.Sprint(i, " ", j), Embedding: make([]float32, 512), Document: &text})
		}
		check(t, c.Add(ctx, recs...))
	}
	log := fs.Clone()
	check(t, db.Flush(ctx))
	left := fs.Clone()
	db.Close()
	for _, fs := range []*faultfs.FS{log, left} {
		counts, sizes := map[string]*[256]int{}, map[string]int{}
		for _, p := range newThief(t, fs, operator("a")).read() {
			if !p.sealed || p.what == "entry" {
				continue
			}
			if counts[p.file] == nil {
				counts[p.file] = new([256]int)
			}
			for _, b := range p.stored {
				counts[p.file][b]++
			}
			sizes[p.file] += len(p.stored)
		}
		large := 0
		for name, n := range counts {
			if sizes[name] < 1<<20 {
				continue
			}
			large++
			if p := chance(n, sizes[name]); p < 1e-6 || p > 1-1e-6 {
				t.Errorf("%s: bytes are as uneven with probability %g", name, p)
			}
		}
		if large == 0 {
			t.Errorf("no file of a MiB: %v", sizes)
		}
	}
}

// chance is how likely bytes of chance are at least as uneven: chi-square with
// 255 degrees of freedom, by the approximation of Wilson and Hilferty (1931).
func chance(counts *[256]int, n int) float64 {
	want, chi := float64(n)/256, 0.0
	for _, c := range counts {
		chi += (float64(c) - want) * (float64(c) - want) / want
	}
	const k = 255
	z := (math.Cbrt(chi/k) - (1 - 2.0/(9*k))) / math.Sqrt(2.0/(9*k))
	return math.Erfc(z/math.Sqrt2) / 2
}

// The measure sees what is not chance.
func TestUnevenBytes(t *testing.T) {
	var even, text, xor [256]int
	for i := range 1 << 20 {
		even[i%256]++
		text["the same again. "[i%16]]++
		xor[byte(i*i>>7)]++
	}
	for name, n := range map[string]*[256]int{"too even": &even, "text": &text, "squares": &xor} {
		if p := chance(n, 1<<20); p > 1e-6 && p < 1-1e-6 {
			t.Errorf("%s: probability %g", name, p)
		}
	}
}

// nonceSeen collects what each key sealed: a nonce that a key has used twice gives
// away both blocks, and the key of the tags.
type nonceSeen struct {
	used map[[12 + 32]byte]string
	most map[string]int // blocks by file
	n    int
}

func (s *nonceSeen) add(t testing.TB, p piece) {
	t.Helper()
	if p.key == nil || len(p.stored) < 28 {
		return
	}
	k := [12 + 32]byte(slices.Concat(p.stored[:12], p.key))
	at := fmt.Sprintf("%s with the tag %x", p.what, p.stored[len(p.stored)-16:])
	if was := s.used[k]; was != "" && was != at {
		t.Errorf("a nonce was used twice: by %s and by %s", was, at)
	}
	s.used[k] = at
	s.n++
	s.most[p.file]++
}

var nonceFrames = flag.Int("nonce.frames", 20000, "entries that TestNonces logs")

// Everything that one store ever sealed, the frames that a full disk had cut
// off again among it, has a nonce of its own.
func TestNonces(t *testing.T) {
	ctx := t.Context()
	fs := faultfs.New(1)
	written := map[string][]byte{}
	cut, again := 0, 0
	fs.Written(func(name string, p []byte) { written[name] = append(written[name], p...) })
	seen := &nonceSeen{used: map[[44]byte]string{}, most: map[string]int{}}
	opened := 0
	for n := 0; n < rounds(*nonceFrames); opened++ {
		db := openOn(t, fs, Options{Keys: operator("a"), GraphMin: 8, Workers: 1, MemtableRows: 700, LogLimit: 1 << 20})
		c, _, err := db.Default().GetOrCreate(ctx, "c", Spec{})
		check(t, err)
		for i := range 4000 {
			if i%200 == 7 { // a frame is written in part, is cut off, and another takes its place
				rule := fs.Inject(faultfs.Rule{Op: faultfs.OpWrite, Path: "log/*.wal", Fault: faultfs.Short})
				err := c.Upsert(ctx, rec(fmt.Sprint(i%900), float32(i)))
				rule.Remove()
				if err != nil { // else it went into a new file
					cut++
				}
			}
			err := c.Upsert(ctx, rec(fmt.Sprint(i%900), float32(i+1)))
			for errors.Is(err, ErrDiskFull) { // until the reserve is there again
				runtime.Gosched()
				err = c.Upsert(ctx, rec(fmt.Sprint(i%900), float32(i+1)))
			}
			check(t, err)
			n++
		}
		check(t, db.Flush(ctx))
		if opened == 1 {
			check(t, db.RotateKeys(ctx, nil))
		}
		left := fs.Clone()
		db.Close()
		for _, p := range newThief(t, left, operator("a")).read() {
			seen.add(t, p)
		}
		again += seenFrames(t, seen, written)
		clear(written)
	}
	if seen.n < rounds(*nonceFrames) || cut == 0 || again < cut*9/10 { // a file may end there, or the half of a frame be all head
		t.Errorf("%d blocks of %d files; of %d frames that were cut off %d were seen", seen.n, len(seen.most), cut, again)
	}
}

// seenFrames looks at all frames that were ever written to files of the log,
// whole or not: frames begin where a head stands. It returns how many took the
// place of another one. A file has one key, so its header stands for that.
func seenFrames(t testing.TB, seen *nonceSeen, written map[string][]byte) (again int) {
	t.Helper()
	for name, b := range written {
		name, ok := strings.CutSuffix(name, ".tmp") // so it is called until it has a header
		if !ok || !strings.HasPrefix(name, "log/") || len(b) < disk.HeaderSize {
			continue
		}
		key := sha256.Sum256(b[:disk.HeaderSize])
		b = slices.Concat(b, written[name+".wal"])
		for at, last := disk.HeaderSize, uint64(0); ; at += 48 {
			i := bytes.Index(b[at:], []byte("CHWF"))
			if i < 0 || at+i+48+28 > len(b) {
				break
			}
			at += i
			size := min(int(binary.LittleEndian.Uint32(b[at+4:])), len(b)-at-48)
			seen.add(t, piece{what: "frame", file: name, stored: b[at+48:][:size], key: key[:]})
			index := binary.LittleEndian.Uint64(b[at+8:])
			if index <= last {
				again++
			}
			last = index
		}
	}
	return again
}
