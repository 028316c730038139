package engine

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/klauspost/compress/zstd"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

var canarySeeds = flag.Int("canary.seeds", 3, "seeds of TestCanaries")

// A cage knows canaries: texts and vectors of which each is written once and
// looks like nothing else. It finds them in bytes, in every form in which a
// program may have put them there.
type cage struct {
	*rand.Rand
	forms map[[8]byte][]form // by their first bytes
	begin [1 << 16]bool      // first two bytes of any
}

type form struct {
	kind, form string
	bytes      []byte
}

func newCage(seed uint64) *cage {
	return &cage{Rand: rand.New(rand.NewPCG(seed, 23)), forms: map[[8]byte][]form{}}
}

func (c *cage) learn(kind, name string, b []byte) {
	k := [8]byte(b)
	c.forms[k] = append(c.forms[k], form{kind, name, b})
	c.begin[binary.LittleEndian.Uint16(b)] = true
}

// learnAll learns bytes as they are and as text.
func (c *cage) learnAll(kind string, b []byte) {
	c.learn(kind, "raw", b)
	c.learn(kind, "hex", []byte(hex.EncodeToString(b)))
	c.learn(kind, "HEX", []byte(strings.ToUpper(hex.EncodeToString(b))))
	for skip := range 3 { // wherever in the encoded bytes they begin
		whole := b[skip : skip+(len(b)-skip)/3*3]
		c.learn(kind, "base64", []byte(base64.StdEncoding.EncodeToString(whole)))
		c.learn(kind, "base64url", []byte(base64.URLEncoding.EncodeToString(whole)))
	}
}

// text is a canary of 16 letters.
func (c *cage) text(kind string) string {
	b := make([]byte, 16)
	for i := range b {
		b[i] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[c.IntN(52)]
	}
	c.learnAll(kind, b)
	little, big := []byte(nil), []byte(nil)
	for _, u := range utf16.Encode([]rune(string(b))) {
		little, big = binary.LittleEndian.AppendUint16(little, u), binary.BigEndian.AppendUint16(big, u)
	}
	c.learn(kind, "UTF-16LE", little)
	c.learn(kind, "UTF-16BE", big)
	return string(b)
}

// vector is a canary of eight floats.
func (c *cage) vector() []float32 {
	v := make([]float32, 8)
	var single, swapped, double []byte
	for i := range v {
		v[i] = c.Float32()*2 - 1
		single = binary.LittleEndian.AppendUint32(single, math.Float32bits(v[i]))
		swapped = binary.BigEndian.AppendUint32(swapped, math.Float32bits(v[i]))
		double = binary.LittleEndian.AppendUint64(double, math.Float64bits(float64(v[i])))
	}
	for at := 0; at < 32; at += 16 { // either half
		c.learnAll("vector", single[at:at+16])
		c.learn("vector", "big endian", swapped[at:at+16])
		c.learn("vector", "float64", double[2*at:2*at+32])
	}
	c.learn("vector", "decimal", fmt.Appendf(nil, "%s,%s", number(v[0]), number(v[1])))
	c.learn("vector", "decimal", fmt.Appendf(nil, "%s %s", number(v[0]), number(v[1])))
	return v
}

func number(f float32) string { return strconv.FormatFloat(float64(f), 'g', -1, 32) }

// find says which canaries are in b: kind and form, and where the first is.
func (c *cage) find(b []byte, found map[string]int) {
	for i := 0; i+8 <= len(b); i++ {
		if !c.begin[binary.LittleEndian.Uint16(b[i:])] {
			continue
		}
		for _, f := range c.forms[[8]byte(b[i:])] {
			if bytes.HasPrefix(b[i:], f.bytes) {
				found[f.kind+" "+f.form]++
			}
		}
	}
}

// findZstd looks into every frame of Zstandard that may begin in b.
func (c *cage) findZstd(t testing.TB, b []byte, found map[string]int) {
	t.Helper()
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(8<<20))
	check(t, err)
	defer d.Close()
	inside := map[string]int{}
	for {
		i := bytes.Index(b, []byte{0x28, 0xb5, 0x2f, 0xfd})
		if i < 0 {
			break
		}
		b = b[i:]
		// What follows the frame is an error, and the frame is there before it.
		plain, _ := d.DecodeAll(b[:min(len(b), 1<<20)], nil)
		c.find(plain, inside)
		b = b[4:]
	}
	for k, n := range inside {
		found[k+" in zstd"] += n
	}
}

// watcher keeps every byte that is written to any file, by the name that the
// file had.
type watcher map[string][]byte

func (w watcher) on(fs *faultfs.FS) {
	fs.Written(func(name string, p []byte) { w[name] = append(w[name], p...) })
}

func (w watcher) find(t testing.TB, c *cage) map[string]int {
	t.Helper()
	found := map[string]int{}
	for name, b := range w {
		c.find([]byte(name), found)
		c.find(b, found)
		c.findZstd(t, b, found)
	}
	return found
}

// aviary is a store that is filled with canaries, and mistreated.
type aviary struct {
	t    *testing.T
	r    *rand.Rand
	cage *cage
	fs   *faultfs.FS
	key  OperatorKey
	db   *DB
	live []string // ids
	in   [3]string
}

func (a *aviary) open() {
	a.t.Helper()
	a.db = openOn(a.t, a.fs, Options{
		Keys: a.key, GraphMin: 40, Workers: 1, MemtableRows: 90, OpenSegments: 2,
		LogLimit: 100 << 10, SegmentMemory: 64 << 10,
	})
}

func (a *aviary) collection() *Collection {
	a.t.Helper()
	c, err := a.db.Namespace(a.in[0], a.in[1]).Collection(a.t.Context(), a.in[2])
	check(a.t, err)
	return c
}

// make names everything that has a name.
func (a *aviary) make() {
	a.t.Helper()
	ctx, c := a.t.Context(), a.cage
	a.in = [3]string{c.text("tenant"), c.text("database"), c.text("collection name")}
	check(a.t, a.db.CreateTenant(ctx, a.in[0]))
	check(a.t, a.db.SetTenantResource(ctx, a.in[0], c.text("resource")))
	_, err := a.db.CreateDatabase(ctx, a.in[0], a.in[1])
	check(a.t, err)
	_, err = a.db.Namespace(a.in[0], a.in[1]).Create(ctx, a.in[2], Spec{
		Metadata:  Metadata{c.text("collection metadata"): filter.String(c.text("collection metadata"))},
		Extension: []byte(c.text("extension")),
	})
	check(a.t, err)
}

func (a *aviary) record(id string) Record {
	c := a.cage
	key := c.text("metadata key")
	return Record{
		ID: id, Embedding: c.vector(),
		Metadata: Metadata{key: filter.String(c.text("metadata value")), "list": filter.Strings(c.text("metadata value"), "x")},
		// Compressed, a canary alone would be as it is.
		Document: Optional(strings.Repeat("the document is ", 20) + c.text("document")),
		URI:      Optional("file:///" + c.text("uri")),
	}
}

// batch writes some records in one of the three ways.
func (a *aviary) batch(n int) error {
	var recs []Record
	kind := a.r.IntN(3)
	for range n {
		id := a.cage.text("id")
		if len(a.live) > 0 && kind != 0 && a.r.IntN(2) == 0 {
			id = a.live[a.r.IntN(len(a.live))]
		}
		recs = append(recs, a.record(id))
		a.live = append(a.live, id)
	}
	switch c := a.collection(); kind {
	case 0:
		return c.Add(a.t.Context(), recs...)
	case 1:
		return c.Upsert(a.t.Context(), recs...)
	default:
		return errors.Join(c.Upsert(a.t.Context(), recs[:n/2+1]...), c.Update(a.t.Context(), recs...))
	}
}

// cut cuts power in the middle of something.
func (a *aviary) cut() {
	a.t.Helper()
	a.fs.CrashAt(a.fs.Ops() + a.r.IntN(40))
	for range 3 {
		_ = a.batch(3)
		_ = a.db.Flush(a.t.Context())
	}
	a.db.Close()
	a.fs = a.fs.Crash(a.r)
	a.open()
}

// refused has the disk refuse what is written, for want of room or for good,
// whole or after a part of it.
func (a *aviary) refused() {
	a.t.Helper()
	for _, rule := range []faultfs.Rule{
		{Op: faultfs.OpWrite, Path: "log/*", Fault: faultfs.Short, Err: vfs.ErrNoSpace},
		{Op: faultfs.OpWrite, Path: "log/*", Fault: faultfs.Fail, Err: vfs.ErrNoSpace},
		{Op: faultfs.OpWrite, Path: "tmp/*", Fault: faultfs.Short, Err: vfs.ErrNoSpace},
		{Op: faultfs.OpWrite, Path: "tmp/*", Nth: a.r.IntN(4), Fault: faultfs.Fail},
		{Op: faultfs.OpSync, Nth: a.r.IntN(3), Fault: faultfs.Fail},
		{Op: faultfs.OpWrite, Path: "log/*", Fault: faultfs.Short, Err: errors.New("input/output error")},
	} {
		in := a.fs.Inject(rule)
		_ = a.batch(4)
		_ = a.db.Flush(a.t.Context())
		in.Remove()
		if a.db.Err() != nil {
			a.db.Close()
			a.fs = a.fs.Crash(a.r)
			a.open()
		}
	}
	// A full disk takes deletions only until its reserve is there again.
	a.db.Close()
	a.open()
}

// rewrapOn is RewrapKeys on a disk of a test's.
func rewrapOn(ctx context.Context, fs *faultfs.FS, now, next OperatorKey) error {
	in, err := prepare("", &Options{fs: fs})
	if err != nil {
		return err
	}
	return errors.Join(in.db.rewrap(ctx, now, next), in.close())
}

// rewrap puts the store under the next operator's key.
func (a *aviary) rewrap(next OperatorKey) {
	a.t.Helper()
	check(a.t, a.db.Close())
	if a.key != nil {
		check(a.t, rewrapOn(context.Background(), a.fs, a.key, next))
		a.key = next
	}
	a.open()
}

// live lets the store see a thousand records and everything that can happen.
func (a *aviary) life() {
	a.t.Helper()
	ctx := a.t.Context()
	for n := 0; n < 1000; n += 40 {
		check(a.t, a.batch(40))
		switch n / 40 % 8 {
		case 0:
			check(a.t, a.db.Flush(ctx))
		case 1:
			_, err := a.collection().Delete(ctx, Selection{IDs: []string{a.live[a.r.IntN(len(a.live))], a.cage.text("id")}})
			check(a.t, err)
		case 2:
			check(a.t, a.db.Compact(ctx))
		case 3:
			check(a.t, a.db.writeCheckpoint(ctx))
		case 4:
			check(a.t, rotateIfKeyed(ctx, a.db))
		case 5:
			a.cut()
		case 6:
			a.refused()
		case 7:
			a.rewrap(operator(fmt.Sprint("next", n)))
		}
	}
	_, err := a.collection().Query(ctx, a.cage.vector(), 5, &QueryOptions{Where: filter.DocumentContains(a.cage.text("document"))})
	check(a.t, err)
	name := a.cage.text("collection name")
	check(a.t, a.collection().Modify(ctx, Change{Name: &name, Metadata: &Metadata{"k": filter.String(a.cage.text("collection metadata"))}}))
	a.in[2] = name
	check(a.t, a.batch(3))
	check(a.t, a.db.Close())
	a.open()
	check(a.t, a.batch(3))
	check(a.t, a.db.Namespace(a.in[0], a.in[1]).Delete(ctx, name))
	check(a.t, a.db.Close())
}

// TestCanaries: nothing of what is stored in an encrypted store is ever
// written to a file in a form that anybody could read, be the file removed a
// moment later. The same life of a plain store shows that every kind of canary
// would be found.
func TestCanaries(t *testing.T) {
	heavy(t)
	kinds := []string{
		"collection metadata", "collection name", "database", "document", "extension", "id",
		"metadata key", "metadata value", "resource", "tenant", "uri", "vector",
	}
	for seed := range uint64(*canarySeeds) {
		for _, how := range []string{"plain", "encrypted", "converted"} {
			if how == "plain" && seed > 0 {
				continue // once is enough to know that we are not blind
			}
			a := &aviary{t: t, r: rand.New(rand.NewPCG(seed, 29)), cage: newCage(seed), fs: faultfs.New(seed)}
			w := watcher{}
			if how != "converted" {
				w.on(a.fs)
			}
			if how == "encrypted" {
				a.key = operator("a")
			}
			a.open()
			a.make()
			check(t, a.batch(50))
			if how == "converted" {
				a.convert(w)
			}
			a.life()
			found := w.find(t, a.cage)
			if how != "plain" {
				if len(found) > 0 {
					t.Errorf("seed %d, %s: found %v", seed, how, found)
				}
				left := watcher(map[string][]byte{})
				for _, name := range a.fs.Files() {
					left[name] = content(t, a.fs, name)
				}
				if found := left.find(t, a.cage); len(found) > 0 {
					t.Errorf("seed %d, %s: left on the disk %v", seed, how, found)
				}
				continue
			}
			missed := slices.DeleteFunc(slices.Clone(kinds), func(kind string) bool { return found[kind+" raw"] > 0 })
			if len(missed) > 0 || found["document raw in zstd"] == 0 || found["uri raw in zstd"] == 0 {
				t.Errorf("seed %d: a plain store shows no %q; found %v", seed, missed, found)
			}
		}
	}
}

// convert leaves the store plain, with records in segments and the log, and
// encrypts it: cut short at first. From there on w sees what is written.
func (a *aviary) convert(w watcher) {
	a.t.Helper()
	ctx := a.t.Context()
	check(a.t, a.db.Flush(ctx))
	check(a.t, a.batch(30))
	left := a.fs.Clone()
	a.db.Close()
	a.fs, a.key = left, operator("a")
	w.on(a.fs)
	for k := range 4 {
		a.fs.CrashAt(a.fs.Ops() + 10 + 15*k)
		_ = Encrypt(ctx, "", &Options{Keys: a.key, fs: a.fs, reserve: testReserve, GraphMin: 40}, nil)
		a.fs = a.fs.Crash(a.r)
	}
	check(a.t, Encrypt(ctx, "", &Options{Keys: a.key, fs: a.fs, reserve: testReserve, GraphMin: 40}, nil))
	a.open()
}

// TestCage: a canary is found in each of its forms, behind any number of bytes.
func TestCage(t *testing.T) {
	c := newCage(1)
	text, v := c.text("text"), c.vector()
	var single, double []byte
	for _, f := range v {
		single = binary.LittleEndian.AppendUint32(single, math.Float32bits(f))
		double = binary.LittleEndian.AppendUint64(double, math.Float64bits(float64(f)))
	}
	enc, err := zstd.NewWriter(nil)
	check(t, err)
	for want, b := range map[string][]byte{
		"text raw": []byte(text), "text UTF-16LE": append(bytes.Join(bytes.Split([]byte(text), nil), []byte{0}), 0),
		"vector raw": single, "vector float64": double, "vector decimal": fmt.Append(nil, v[:2]),
		"text raw in zstd": enc.EncodeAll([]byte(strings.Repeat("x", 999)+text), nil),
	} {
		for front := range 9 {
			found := map[string]int{}
			all := slices.Concat(make([]byte, front), b, []byte("!!"))
			c.find(all, found)
			c.findZstd(t, all, found)
			if found[want] == 0 {
				t.Errorf("%s behind %d bytes: %v", want, front, found)
			}
		}
	}
	for front := range 9 {
		found := map[string]int{}
		all := slices.Concat(make([]byte, front), []byte(text+"!!"))
		c.find([]byte(base64.StdEncoding.EncodeToString(all)), found)
		c.find([]byte(hex.EncodeToString(single)), found)
		if found["text base64"] == 0 || found["vector hex"] == 0 {
			t.Errorf("base64 or hex behind %d bytes: %v", front, found)
		}
	}
}
