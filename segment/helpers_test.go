package segment

import (
	"bytes"
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cespare/xxhash/v2"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/hnsw"
	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// gcm is a small real sealer: AES-GCM whose nonce is the block number, so
// that equal files have equal bytes.
type gcm struct{ aead cipher.AEAD }

func newGCM(t testing.TB) testKeys {
	t.Helper()
	b, err := aes.NewCipher(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	a, err := cipher.NewGCM(b)
	if err != nil {
		t.Fatal(err)
	}
	return gcm{a}
}

func (g gcm) split(at seal.Address) (nonce, data []byte) {
	data, _ = at.AppendBinary(nil)
	nonce = binary.LittleEndian.AppendUint64(nil, at.Block)
	return append(nonce, 0, 0, 0, 0), data
}

func (g gcm) Seal(dst, block []byte, at seal.Address, more []byte) ([]byte, error) {
	nonce, data := g.split(at)
	return g.aead.Seal(dst, nonce, block, append(data, more...)), nil
}

func (g gcm) Open(dst, stored []byte, at seal.Address, more []byte) ([]byte, error) {
	nonce, data := g.split(at)
	return g.aead.Open(dst, nonce, stored, append(data, more...))
}

func (g gcm) Overhead() int { return g.aead.Overhead() }
func (g gcm) KeyID() uint32 { return 9 }

// Writer and Reader make the sealer keys of its own.
func (g gcm) Writer(seal.Address) (seal.Sealer, error) { return g, nil }

func (g gcm) Reader(_ seal.Address, key uint32) (seal.Sealer, error) {
	if key != g.KeyID() {
		return nil, seal.ErrKey
	}
	return g, nil
}

// testKeys are keys that have one sealer, which is themselves.
type testKeys interface {
	seal.Keys
	seal.Sealer
}

func tempFS(t testing.TB) (*vfs.Root, string) {
	t.Helper()
	dir := t.TempDir()
	r, err := vfs.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r, dir
}

func testID(b byte) (id seal.ID) {
	for i := range id {
		id[i] = b
	}
	return id
}

// testSpec is segment number n with a small graph.
func testSpec(n uint64, dim int, m kernel.Metric) Spec {
	file := testID(byte(n))
	binary.LittleEndian.PutUint64(file[:], n)
	return Spec{
		Store: testID(1), Collection: testID(2), Number: n, File: file, Dim: dim, Metric: m,
		Graph: hnsw.Params{M: 8, EFConstruction: 40, Workers: 1}, GraphMin: 1 << 30,
	}
}

func ptr[T any](v T) *T { return &v }

func each(rows []Row) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for _, r := range rows {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// mapping adds rows to a builder whose graph is built over the mapped file.
func mapping(rows []Row) func(*builder) error {
	return func(b *builder) error {
		b.keep = 0
		for _, row := range rows {
			if err := b.add(row, filter.AppendMetadata(nil, row.Metadata)); err != nil {
				return err
			}
		}
		return nil
	}
}

var words = strings.Fields("alpha bravo charlie delta echo foxtrot Grüße 水 golf hotel india juliett kilo lima")

func randomText(rng *rand.Rand, n int) string {
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(words[rng.IntN(len(words))])
		b.WriteByte(' ')
	}
	return b.String()
}

// randomMetadata has now and then a key of every kind.
func randomMetadata(rng *rand.Rand, i int) filter.Metadata {
	m := filter.Metadata{}
	some := func(key string, v filter.Value) {
		if rng.IntN(3) == 0 {
			m[key] = v
		}
	}
	some("number", filter.Int(int64(i%17)))
	some("share", filter.Float(rng.NormFloat64()))
	some("name", filter.String(words[rng.IntN(len(words))]))
	some("flag", filter.Bool(rng.IntN(2) == 0))
	some("tags", filter.Strings(words[rng.IntN(len(words))], "x"))
	some("sizes", filter.Ints(int64(i), -1, math.MaxInt64))
	some("parts", filter.Floats(0.5, math.Inf(1)))
	some("bits", filter.Bools(true, false))
	return m
}

// randomRows has documents and URIs that are missing, empty, short and (a few)
// longer than a text block.
func randomRows(rng *rand.Rand, n, dim int) []Row {
	rows := make([]Row, n)
	order := rng.Uint64N(100)
	for i := range rows {
		order += 1 + rng.Uint64N(5)
		v := make([]float32, dim)
		for j := range v {
			v[j] = float32(rng.NormFloat64())
		}
		row := Row{Order: order, ID: fmt.Sprintf("id-%d", order), Vector: v, Metadata: randomMetadata(rng, i)}
		switch rng.IntN(5) {
		case 0:
		case 1:
			row.Document = ptr("")
		default:
			row.Document = ptr(randomText(rng, rng.IntN(300)))
		}
		if rng.IntN(100) == 0 {
			row.Document = ptr(randomText(rng, textBlock+rng.IntN(2*textBlock)))
		}
		if rng.IntN(4) == 0 {
			row.URI = ptr("file:///" + row.ID)
		}
		rows[i] = row
	}
	return rows
}

func mustWrite(t testing.TB, fs vfs.FS, s testKeys, spec Spec, rows []Row) Info {
	t.Helper()
	info, err := Write(context.Background(), fs, s, spec, each(rows))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func mustOpen(t testing.TB, fs vfs.FS, s testKeys, spec Spec, want Info) *Reader {
	t.Helper()
	r, err := Open(fs, s, spec, want)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// written makes a segment and opens it.
func written(t testing.TB, spec Spec, rows []Row) *Reader {
	t.Helper()
	fs, _ := tempFS(t)
	info := mustWrite(t, fs, seal.Plain(), spec, rows)
	return mustOpen(t, fs, seal.Plain(), spec, info)
}

// differs compares everything that r says with rows.
func differs(r *Reader, rows []Row) error {
	if r.Rows() != len(rows) {
		return fmt.Errorf("%d rows instead of %d", r.Rows(), len(rows))
	}
	for i, want := range rows {
		if err := rowDiffers(r, uint32(i), want); err != nil {
			return fmt.Errorf("row %d (%s): %w", i, want.ID, err)
		}
	}
	return nil
}

func rowDiffers(r *Reader, row uint32, want Row) error {
	id, err := r.ID(row)
	if err != nil || id != want.ID {
		return fmt.Errorf("id %q: %w", id, wrong(err))
	}
	at, found, err := r.Lookup(want.ID)
	if err != nil || !found || at != row {
		return fmt.Errorf("lookup %d, %v: %w", at, found, wrong(err))
	}
	order, err := r.Order(row)
	if err != nil || order != want.Order {
		return fmt.Errorf("order %d: %w", order, wrong(err))
	}
	at, found, err = r.FindOrder(want.Order)
	if err != nil || !found || at != row {
		return fmt.Errorf("find order %d, %v: %w", at, found, wrong(err))
	}
	v, err := r.Vector(row)
	if err != nil || !slices.EqualFunc(v, want.Vector, sameBits) {
		return fmt.Errorf("vector %v: %w", v, wrong(err))
	}
	m, err := r.Metadata(row)
	if err != nil || !m.Equal(want.Metadata) {
		return fmt.Errorf("metadata %v: %w", m, wrong(err))
	}
	doc, ok, err := r.Document(row)
	if err != nil || !sameText(doc, ok, want.Document) {
		return fmt.Errorf("document %.40q, %v: %w", doc, ok, wrong(err))
	}
	uri, ok, err := r.URI(row)
	if err != nil || !sameText(uri, ok, want.URI) {
		return fmt.Errorf("uri %.40q, %v: %w", uri, ok, wrong(err))
	}
	return nil
}

var errWrong = fmt.Errorf("wrong data")

// wrong is err, or that the data is wrong although there is none.
func wrong(err error) error {
	if err == nil {
		return errWrong
	}
	return err
}

func sameBits(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }

func sameText(got string, ok bool, want *string) bool {
	return ok == (want != nil) && (want == nil || got == *want)
}

// nearest is the answer to a query by comparing everything.
func nearest(rows []Row, m kernel.Metric, q []float32, k int, allowed *roaring.Bitmap) []hnsw.Neighbor {
	var all []hnsw.Neighbor
	for i, r := range rows {
		if allowed == nil || allowed.Contains(uint32(i)) {
			all = append(all, hnsw.Neighbor{Row: uint32(i), Distance: kernel.Distance(m, q, r.Vector)})
		}
	}
	slices.SortFunc(all, func(a, b hnsw.Neighbor) int {
		switch {
		case a.Distance < b.Distance:
			return -1
		case a.Distance > b.Distance:
			return 1
		}
		return int(a.Row) - int(b.Row)
	})
	return all[:min(k, len(all))]
}

// repair makes the checksums of a file right again after its bytes were
// changed, so that the decoders behind them are reached. It reports whether
// the file still has the shape of one.
func repair(file []byte) bool {
	n := uint64(len(file))
	if n < disk.HeaderSize+16+32 {
		return false
	}
	le := binary.LittleEndian
	sumAt := disk.HeaderSize - 8
	le.PutUint64(file[sumAt:], xxhash.Sum64(file[:sumAt]))
	h, err := disk.DecodeHeader(file)
	if err != nil {
		return false
	}
	at := le.Uint64(file[n-32:])
	if at < disk.HeaderSize || at > n-48 {
		return false
	}
	table := file[at : n-32]
	sections, over := uint64(le.Uint32(table)), uint64(le.Uint32(table[4:]))
	if sections > uint64(len(table)-16)/32 || over != 0 {
		return false
	}
	sums := table[16+32*sections:]
	for i := range sections {
		e := table[16+32*i:]
		size, length, off, first := uint64(le.Uint32(e[4:])), le.Uint64(e[8:]), le.Uint64(e[16:]), le.Uint64(e[24:])
		if size == 0 || off > at || length > at-off {
			return false
		}
		for b := uint64(0); b*size < length; b++ {
			if first+b >= uint64(len(sums)/8) {
				return false
			}
			block := file[off+b*size : off+min((b+1)*size, length)]
			le.PutUint64(sums[(first+b)*8:], seal.Sum(block, h.Address(first+b)))
		}
	}
	d := xxhash.New()
	d.Write(file[:disk.HeaderSize])
	d.Write(table)
	le.PutUint64(file[n-16:], d.Sum64())
	return true
}

// content is the bytes of a file.
func content(t testing.TB, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, n)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// holding is a file system that has b as segment number n and nothing else.
func holding(t testing.TB, n uint64, b []byte) *faultfs.FS {
	t.Helper()
	fs := faultfs.New(1)
	if err := fs.Mkdir("seg"); err != nil {
		t.Fatal(err)
	}
	f, err := fs.Create(Name(n))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return fs
}

// readAll asks r for everything it has.
func readAll(r *Reader) error {
	var first error
	note := func(err error) {
		if first == nil {
			first = err
		}
	}
	for row := range uint32(r.Rows()) {
		id, err := r.ID(row)
		note(err)
		_, _, err = r.Lookup(id)
		note(err)
		_, err = r.Order(row)
		note(err)
		_, err = r.Vector(row)
		note(err)
		_, err = r.Metadata(row)
		note(err)
		_, _, err = r.Document(row)
		note(err)
		_, _, err = r.URI(row)
		note(err)
	}
	_, _, err := r.Lookup("absent")
	note(err)
	_, _, err = r.FindOrder(7)
	note(err)
	ctx := context.Background()
	for _, e := range testFilters() {
		_, err := r.Filter(ctx, e)
		note(err)
	}
	q := make([]float32, r.Dim())
	q[0] = 1
	for _, exact := range []bool{true, false} {
		_, err = r.Search(ctx, Query{Vector: q, K: 5, EF: 20, Exact: exact}, nil)
		note(err)
	}
	some := roaring.BitmapOf(0)
	_, err = r.Search(ctx, Query{Vector: q, K: 5, Allowed: some}, nil)
	note(err)
	return first
}

// testFilters ask every part of the filter index.
func testFilters() []*filter.Expr {
	regex, err := filter.DocumentRegex("br[aou]+vo")
	if err != nil {
		panic(err)
	}
	return []*filter.Expr{
		nil,
		filter.Eq("number", filter.Int(3)),
		filter.Ne("flag", filter.Bool(true)),
		filter.Gt("share", filter.Float(0.3)),
		filter.Lte("number", filter.Int(9)),
		filter.In("name", filter.String("alpha"), filter.String("水")),
		filter.Contains("tags", filter.String("echo")),
		filter.DocumentContains("delta"),
		filter.DocumentNotContains("delta"),
		regex,
		filter.And(filter.Eq("flag", filter.Bool(true)), filter.DocumentContains("lima")),
		filter.Or(filter.Eq("number", filter.Int(1)), filter.Eq("name", filter.String("kilo"))),
	}
}

// verify is the first finding of a check.
func verify(ctx context.Context, r *Reader) error {
	var first error
	err := r.Check(ctx, func(int64) {}, func(f Finding) { first = cmp.Or(first, f.Err) })
	return cmp.Or(first, err)
}
