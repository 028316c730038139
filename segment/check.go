package segment

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/hnsw"
	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/kernel"
)

// sectionTitles are for those who read findings.
var sectionTitles = map[uint16]string{
	sectionVectors: "vectors", sectionNorms: "norms", sectionOrders: "orders",
	sectionIDEnds: "id ends", sectionIDs: "ids", sectionIDTable: "id table",
	sectionMetadataEnds: "metadata ends", sectionMetadata: "metadata",
	sectionDocumentEnds: "document ends", sectionDocumentBlocks: "document blocks", sectionDocuments: "documents",
	sectionURIEnds: "uri ends", sectionURIBlocks: "uri blocks", sectionURIs: "uris",
	sectionFilter: "filter index", sectionGraph: "graph", sectionProperties: "properties", sectionBytes: "vectors in bytes",
}

// SectionName is what a section of that kind holds, in words.
func SectionName(kind uint16) string {
	if name, ok := sectionTitles[kind]; ok {
		return name
	}
	return fmt.Sprintf("section %d", kind)
}

// Finding is something wrong in a segment.
type Finding struct {
	Section uint16 // 0: the file as a whole
	Err     error  // a disk.CorruptError
	// Index says that nothing is lost: what is damaged can be made again
	// from the other sections.
	Index bool
}

// maxFindings is how many findings of one kind a section is told of.
const maxFindings = 20

// checker is one run of Check.
type checker struct {
	r     *Reader
	ctx   context.Context
	tell  func(Finding)
	spans map[int64]bool // offsets of blocks that were told of
	told  map[uint16]int
	whole bool // no section that rows are read from has a damaged block
}

// Check reads every byte of the file and then what the bytes say, and goes on
// after damage: found is told of all that is wrong, step of the bytes that
// were read. Rows are decoded, each id is looked up, each vector searched for
// by itself, norms, filter index and graph compared with what they were made of.
// The error is the context's, or that of a file that cannot be read at all.
func (r *Reader) Check(ctx context.Context, step func(bytes int64), found func(Finding)) error {
	c := &checker{r: r, ctx: ctx, tell: found, spans: map[int64]bool{}, told: map[uint16]int{}, whole: true}
	err := r.unlessClosed(func() error { // looks at no memory that may be evicted
		return r.file.Check(ctx, step, c.block)
	})
	if err == nil {
		err = r.guard(c.content)
	}
	if errors.Is(err, disk.ErrCorrupt) { // cut while it was read
		found(Finding{Err: err})
		return nil
	}
	return err
}

// content checks what the bytes say.
func (c *checker) content() error {
	for _, part := range []func() error{c.texts, c.rows, c.table, c.filter, c.graph} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

// pause lets go of the file for a moment, so that those who want memory back
// and those who search need not wait until all is checked: what was read of
// vectors, ids, metadata or texts may be gone afterwards.
func (c *checker) pause() error {
	c.r.file.Free()
	c.r.file.Hold()
	return c.ctx.Err()
}

func (c *checker) block(d disk.Damage) {
	if e, ok := errors.AsType[*disk.CorruptError](d.Err); ok {
		c.spans[e.Offset] = true
	}
	if !remakable(d.Section) && d.Section != 0 {
		c.whole = false
	}
	c.told[d.Section] = maxFindings // what follows from a damaged block is no news
	c.tell(Finding{Section: d.Section, Err: d.Err, Index: remakable(d.Section)})
}

// remakable sections can be made again from the others.
func remakable(kind uint16) bool {
	return kind == sectionGraph || kind == sectionFilter || kind == sectionIDTable || kind == sectionNorms || kind == sectionBytes
}

// about tells of a finding of decoding, unless a damaged block explains it.
// What is not damage is returned.
func (c *checker) about(kind uint16, err error) error {
	if err == nil || !errors.Is(err, disk.ErrCorrupt) {
		return err
	}
	if e, ok := errors.AsType[*disk.CorruptError](err); ok && c.spans[e.Offset] {
		return nil
	}
	if c.told[kind]++; c.told[kind] <= maxFindings {
		c.tell(Finding{Section: kind, Err: c.r.named(err), Index: remakable(kind)})
	}
	return nil
}

func (c *checker) texts() error {
	return errors.Join(c.about(sectionDocumentEnds, c.r.textSize(&c.r.documents)),
		c.about(sectionURIEnds, c.r.textSize(&c.r.uris)))
}

// textSize compares the ends of texts with the size that the file was opened
// with.
func (r *Reader) textSize(t *text) error {
	if t.ends == nil {
		return nil
	}
	size, err := textEnd(t.ends, r.rows)
	if err == nil && size != t.size {
		err = damaged(t.ends, 0, "%d bytes of text, not %d", size, t.size)
	}
	return err
}

// rows decodes each row.
func (c *checker) rows() error {
	r := c.r
	last, known := uint64(0), false
	for row := range r.rows {
		if row%checkEvery == 0 {
			if err := c.pause(); err != nil {
				return err
			}
		}
		order, err := r.order(row)
		if err == nil {
			if known && order <= last || row == 0 && order != r.minOrder || row == r.rows-1 && order != r.maxOrder {
				err = damaged(r.orders, int(row)*8, "row %d has order %d after %d, of %d to %d", row, order, last, r.minOrder, r.maxOrder)
			}
			last, known = order, true
		}
		if err := c.about(sectionOrders, err); err != nil {
			return err
		}
		_, err = r.decodeMetadata(row)
		if err := c.about(sectionMetadata, err); err != nil {
			return err
		}
		_, _, err = r.documents.at(row)
		if err := c.about(sectionDocuments, err); err != nil {
			return err
		}
		_, _, err = r.uris.at(row)
		if err := c.about(sectionURIs, err); err != nil {
			return err
		}
		if err := c.vector(row); err != nil {
			return err
		}
	}
	return nil
}

// vector looks at the numbers of a row, and at its norm.
func (c *checker) vector(row uint32) error {
	r := c.r
	v, err := r.vector(row)
	if err != nil {
		return c.about(sectionVectors, err)
	}
	for i, x := range v {
		if math.Float32bits(x)&0x7f800000 == 0x7f800000 {
			return c.about(sectionVectors, damaged(r.vectors, (int(row)*r.stride+i)*4, "row %d has the component %v", row, x))
		}
	}
	if err := c.inBytes(row, v); err != nil || r.metric != kernel.Cosine {
		return err
	}
	b, err := r.norms.Bytes(int(row)*4, 4)
	if err == nil {
		// Processors may round sums in different orders.
		got, want := float64(floats(b)[0]), float64(kernel.InvNorm(v))
		if !(math.Abs(got-want) <= 1e-3*math.Abs(want)) {
			err = damaged(r.norms, int(row)*4, "row %d has 1/length %v, not %v", row, got, want)
		}
	}
	return c.about(sectionNorms, err)
}

// inBytes compares the vector of a row with its bytes.
func (c *checker) inBytes(row uint32, v []float32) error {
	r := c.r
	if r.bytes == nil {
		if row > 0 {
			return nil
		}
		return c.about(sectionBytes, r.badBytes.get()) // their number
	}
	base, err := r.base()
	if err != nil {
		return c.about(sectionBytes, err)
	}
	stride := kernel.ByteStride(r.dim)
	at := int(row) * stride
	b, err := r.bytes.Bytes(at, stride)
	for i := 0; i < len(v) && err == nil; i++ {
		if got := base + float32(b[i]); math.Float32bits(got) != math.Float32bits(v[i]) {
			err = damaged(r.bytes, at+i, "row %d has the component %v, not %v", row, got, v[i])
		}
	}
	return c.about(sectionBytes, err)
}

// table looks up each id in the table of the file, and counts its slots.
func (c *checker) table() error {
	r := c.r
	for row := range r.rows {
		if row%checkEvery == 0 {
			if err := c.pause(); err != nil {
				return err
			}
		}
		id, err := r.ids.at(row)
		if err != nil {
			if err := c.about(sectionIDs, err); err != nil {
				return err
			}
			continue
		}
		found, ok, err := r.probe(nil, string(id))
		if err == nil && (!ok || found != row) {
			err = damaged(r.table, 0, "id %q of row %d leads to row %d (found: %v)", id, row, found, ok)
		}
		if err := c.about(sectionIDTable, err); err != nil {
			return err
		}
	}
	b, err := r.table.Bytes(0, r.table.Len())
	if err != nil {
		return c.about(sectionIDTable, err)
	}
	taken := uint32(0)
	for ; len(b) > 0; b = b[4:] {
		taken += min(binary.LittleEndian.Uint32(b), 1)
	}
	if taken != r.rows {
		return c.about(sectionIDTable, damaged(r.table, 0, "%d slots are taken, by %d rows", taken, r.rows))
	}
	return nil
}

// filter makes the index anew: it must have the bytes of the one that is there.
func (c *checker) filter() error {
	r := c.r
	if c.told[sectionFilter] > 0 || !c.whole {
		return nil // there is nothing to compare it with
	}
	s, ok := r.file.Section(sectionFilter)
	if !ok {
		return c.about(sectionFilter, &disk.CorruptError{Err: errors.New("no filter index")})
	}
	b := filter.NewBuilder()
	for row := range r.rows {
		if row%checkEvery == 0 {
			if err := c.pause(); err != nil {
				return err
			}
		}
		m, err := r.decodeMetadata(row)
		if err != nil {
			return nil // told before
		}
		doc, err := r.documents.pointer(row)
		if err != nil {
			return nil
		}
		b.Add(row, m, doc)
	}
	want, err := b.Finish()
	if err != nil {
		return fmt.Errorf("filter index: %w", err)
	}
	got, err := s.Bytes(0, s.Len())
	if err == nil && !bytes.Equal(got, want) {
		err = damaged(s, 0, "the index does not agree with metadata and documents")
	}
	return c.about(sectionFilter, err)
}

const (
	// The graph is walked as a query does, then wider, then all of it for so
	// many rows as miss then. The builder links every node, so all are found.
	searchWide = 1000
	searchAll  = 64
)

// graph decodes the graph and searches for each row by its own vector: codes
// that are not those of the vectors lead elsewhere.
func (c *checker) graph() error {
	r := c.r
	g, err := r.mappedGraph()
	section, _ := r.file.Section(sectionGraph)
	if err == nil && g != nil {
		if err = g.Check(); err != nil {
			err = damaged(section, 0, "%w", err)
		}
	}
	if err != nil || g == nil || !c.whole || r.metric == kernel.IP { // by the inner product others may be nearer
		return c.about(sectionGraph, err)
	}
	v, err := r.matrix()
	if err != nil {
		return nil // told before
	}
	v.Touch = r.touch // even if all is there now, see pause
	f := &finder{g: g, v: v}
	thorough := searchAll
	for row := range r.rows {
		if row%checkEvery == 0 {
			if err := c.pause(); err != nil {
				return err
			}
		}
		q, err := r.vector(row)
		if err != nil {
			return nil
		}
		if f.finds(q, defaultEF) || f.finds(q, searchWide) || thorough == 0 {
			continue
		}
		if thorough--; f.finds(q, int(r.rows)) {
			continue
		}
		err = damaged(section, 0, "row %d is not found by its own vector", row)
		if err := c.about(sectionGraph, err); err != nil {
			return err
		}
	}
	return nil
}

// finder searches a graph for vectors that are in it.
type finder struct {
	g    *hnsw.Graph
	v    hnsw.Vectors
	s    hnsw.Scratch
	hits []hnsw.Neighbor
}

// finds tells whether a walk of width ef comes to q, or to its equal.
func (f *finder) finds(q []float32, ef int) bool {
	own := float32(0)
	if f.v.Metric == kernel.Cosine {
		inv := kernel.InvNorm(q)
		own = 1 - kernel.Dot(q, q)*inv*inv + 1e-5
	}
	var err error
	f.hits, err = f.g.Search(f.hits[:0], f.v, hnsw.Query{Vector: q, K: 1, EF: ef}, &f.s)
	return err == nil && len(f.hits) == 1 && f.hits[0].Distance <= own
}
