package segment

import (
	"context"
	"errors"
	"fmt"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/hnsw"
	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
	"github.com/klauspost/compress/zstd"
)

// keepVectors is how many bytes of vectors are kept in memory for the graph.
// Beyond, the graph is built over the file that is being written, mapped. The
// vectors of an encrypted file are always kept: nobody can map those, and a
// build comes back to each so often that decrypting on demand would end with
// all of them in memory too.
const keepVectors = 64 << 20

// checkEvery is how many rows are added between two looks at the context.
const checkEvery = 256

// builder writes one file: the vectors as they come, everything else when
// the last row is there.
type builder struct {
	spec   Spec
	out    *disk.Writer
	sealed bool
	stride int

	rows               int
	minOrder, maxOrder uint64
	buf                []byte      // one row of the vectors section
	vectors            []float32   // nil once there are too many
	own                *vfs.Memory // where they are, when not on the heap
	free               func()      // gives their bytes back to spec.Memory
	keep               int         // how many bytes of them are not too many
	spilled            bool
	invNorms           []float32 // cosine only
	fit                hnsw.ByteFit

	norms, orders   spool
	ids             columnWriter
	hashes          []uint64
	seed            uint64
	metadata        columnWriter
	documents, uris textWriter
	zstd            *zstd.Encoder // of both
	filter          *filter.Builder
}

// graphBuilder makes a graph of vectors.
type graphBuilder func(context.Context, hnsw.Vectors, hnsw.Params) (*hnsw.Graph, error)

// create writes the file of spec: add gives the builder its rows, build makes
// the graph when there are enough of them.
func create(ctx context.Context, fs vfs.FS, keys seal.Keys, spec Spec, add func(*builder) error,
	build graphBuilder) (Info, error) {
	if err := spec.check(); err != nil {
		return Info{}, fmt.Errorf("write %s: %w", Name(spec.Number), err)
	}
	var b *builder
	defer func() { b.close() }()
	info, err := disk.WriteFile(fs, Name(spec.Number), spec.header(), keys, func(w *disk.Writer) (err error) {
		if b, err = newBuilder(w, spec, w.Sealed()); err != nil {
			return err
		}
		if err := w.Section(sectionVectors, blockRows); err != nil {
			return err
		}
		if err := add(b); err != nil {
			return err
		}
		if b.rows == 0 {
			return ErrEmpty
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		return b.finish(ctx, build)
	})
	if err != nil {
		return Info{}, err
	}
	return Info{
		Number: spec.Number, File: spec.File, Rows: uint32(b.rows),
		MinOrder: b.minOrder, MaxOrder: b.maxOrder, Info: info,
	}, nil
}

func newBuilder(w *disk.Writer, spec Spec, sealed bool) (*builder, error) {
	enc, err := spec.Cache.encoder()
	if err != nil {
		return nil, err
	}
	return &builder{
		spec: spec, out: w, sealed: sealed, stride: stride(spec.Dim), zstd: enc,
		keep: keepVectors, seed: hashSeed(spec.File), filter: filter.NewBuilder(),
		documents: textWriter{zstd: enc}, uris: textWriter{zstd: enc},
	}, nil
}

// clash is what is wrong with rows that exclude each other.
type clash string

func (c clash) Error() string { return string(c) }

// add appends a row. metadata is row.Metadata, encoded. Nothing of row is
// kept.
func (b *builder) add(row Row, metadata []byte) error {
	switch {
	case len(row.Vector) != b.spec.Dim:
		return fmt.Errorf("row %d has %d dimensions instead of %d", b.rows, len(row.Vector), b.spec.Dim)
	case b.rows == maxRows:
		return fmt.Errorf("more than %d rows", maxRows)
	case b.rows > 0 && row.Order <= b.maxOrder:
		return clash(fmt.Sprintf("row %d has order %d, the one before %d", b.rows, row.Order, b.maxOrder))
	}
	if b.rows == 0 {
		b.minOrder = row.Order
	}
	b.maxOrder = row.Order
	if err := b.addVector(row.Vector); err != nil {
		return err
	}
	b.orders.uint64(row.Order)
	b.ids.add([]byte(row.ID))
	b.hashes = append(b.hashes, hashID(b.seed, row.ID))
	b.metadata.add(metadata)
	b.documents.add(row.Document)
	b.uris.add(row.URI)
	b.filter.Add(uint32(b.rows), row.Metadata, row.Document)
	b.rows++
	return nil
}

func (b *builder) addVector(v []float32) error {
	b.fit.Add(v)
	b.buf = appendFloats(b.buf[:0], v)
	b.buf = append(b.buf, make([]byte, b.stride*4-len(b.buf))...)
	if _, err := b.out.Write(b.buf); err != nil {
		return err
	}
	if !b.spilled {
		b.vectors = append(b.vectors, v...)
		b.vectors = append(b.vectors, make([]float32, b.stride-len(v))...)
		if !b.sealed && len(b.vectors)*4 > b.keep {
			b.vectors, b.spilled = nil, true
		}
	}
	if b.spec.Metric == kernel.Cosine {
		inv := []float32{kernel.InvNorm(v)}
		b.invNorms = append(b.invNorms, inv...)
		b.norms.Write(appendFloats(b.buf[:0], inv))
	}
	return nil
}

// finish writes all sections but the vectors, which are written. The graph
// is last because it takes memory, which the others have then given back.
func (b *builder) finish(ctx context.Context, build graphBuilder) error {
	p := properties{
		dim: b.spec.Dim, metric: b.spec.Metric, rows: uint32(b.rows),
		minOrder: b.minOrder, maxOrder: b.maxOrder,
		documents: b.documents.size, uris: b.uris.size,
	}
	if err := b.finishRows(); err != nil {
		return err
	}
	if b.rows >= b.spec.graphMin() {
		p.m, p.efConstruction = uint32(b.spec.Graph.M), uint32(b.spec.Graph.EFConstruction)
		p.seed = b.spec.Graph.Seed
		if err := b.finishGraph(ctx, build); err != nil {
			return err
		}
	}
	return b.section(sectionProperties, blockProbe, p.append(nil))
}

func (b *builder) finishRows() error {
	if b.spec.Metric == kernel.Cosine {
		if err := b.out.Section(sectionNorms, blockProbe); err != nil {
			return err
		}
		if err := b.norms.flushTo(b.out); err != nil {
			return err
		}
	}
	if err := b.out.Section(sectionOrders, blockProbe); err != nil {
		return err
	}
	if err := b.orders.flushTo(b.out); err != nil {
		return err
	}
	if err := b.finishIDs(); err != nil {
		return err
	}
	if err := b.metadata.flush(b.out, sectionMetadataEnds, sectionMetadata); err != nil {
		return err
	}
	if err := b.documents.flush(b.out, sectionDocumentEnds, sectionDocumentBlocks, sectionDocuments); err != nil {
		return err
	}
	if err := b.uris.flush(b.out, sectionURIEnds, sectionURIBlocks, sectionURIs); err != nil {
		return err
	}
	index, err := b.filter.Finish()
	if err != nil {
		return fmt.Errorf("filter index: %w", err)
	}
	b.filter = nil
	return b.section(sectionFilter, blockText, index)
}

func (b *builder) finishIDs() error {
	table, err := buildTable(&b.ids, b.hashes)
	if err != nil {
		return err
	}
	b.hashes = nil
	if err := b.ids.flush(b.out, sectionIDEnds, sectionIDs); err != nil {
		return err
	}
	return writeTable(b.out, table)
}

func (b *builder) finishGraph(ctx context.Context, build graphBuilder) error {
	v := hnsw.Vectors{
		Metric: b.spec.Metric, Data: b.vectors, Rows: b.rows, Dim: b.spec.Dim,
		Stride: b.stride, InvNorms: b.invNorms,
	}
	build = b.withBytes(build)
	var g *hnsw.Graph
	var err error
	if b.spilled {
		g, err = b.buildMapped(ctx, v, build)
	} else {
		g, err = build(ctx, v, b.spec.Graph)
	}
	if err := b.close(); err != nil {
		return err
	}
	if err != nil {
		return fmt.Errorf("graph: %w", err)
	}
	encoded, err := g.AppendBinary(nil)
	if err != nil {
		return fmt.Errorf("graph: %w", err)
	}
	return b.section(sectionGraph, blockGraph, encoded)
}

// withBytes is build, and the vectors in bytes while they can be read.
func (b *builder) withBytes(build graphBuilder) graphBuilder {
	return func(ctx context.Context, v hnsw.Vectors, p hnsw.Params) (*hnsw.Graph, error) {
		g, err := build(ctx, v, p)
		if err == nil {
			err = b.finishBytes(ctx, v, g)
		}
		return g, err
	}
}

// finishBytes writes the vectors once more, in bytes, if nothing is lost by that
// and searches are going to look at vectors last.
func (b *builder) finishBytes(ctx context.Context, v hnsw.Vectors, g *hnsw.Graph) error {
	m, ok := b.fit.Rows(v.Dim)
	if !ok || !g.HasCodes() {
		return nil
	}
	if err := b.out.Section(sectionBytes, blockRows); err != nil {
		return err
	}
	var buf []byte
	for row := range v.Rows {
		if row%checkEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		buf = hnsw.AppendRow(buf[:0], &m, v.Data[row*v.Stride:][:v.Dim])
		if _, err := b.out.Write(buf); err != nil {
			return err
		}
	}
	_, err := b.out.Write(appendFloats(nil, []float32{m.Base}))
	return err
}

var errCut = errors.New("the file was truncated while it was being written")

// buildMapped builds over the vectors in the file that is being written. Should
// somebody truncate it, every goroutine of the build meets a fault: the first
// ends the build.
func (b *builder) buildMapped(ctx context.Context, v hnsw.Vectors, build graphBuilder) (g *hnsw.Graph, err error) {
	mapping, bytes, err := b.out.MapSection(sectionVectors)
	if err != nil {
		return nil, err
	}
	v.Data = floats(bytes)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p := b.spec.Graph
	p.Guard = func(work func()) {
		if disk.Faults("", bytes, func() error { work(); return nil }) != nil {
			cancel(errCut)
		}
	}
	p.Guard(func() { g, err = build(ctx, v, p) })
	// A build that the fault ended returned nothing; ctx may have ended before.
	if context.Cause(ctx) == errCut || g == nil && err == nil {
		err = errCut
	}
	return g, joinClose(err, mapping)
}

// close lets go of the vectors and the encoder. Closing again does nothing.
func (b *builder) close() (err error) {
	if b == nil {
		return nil
	}
	b.vectors = nil
	b.spec.Cache.giveBack(b.zstd)
	b.zstd = nil
	if b.own != nil {
		err = b.own.Close()
		b.own = nil
	}
	if b.free != nil {
		b.free()
		b.free = nil
	}
	return err
}

func (b *builder) section(kind uint16, blockSize int, p []byte) error {
	if err := b.out.Section(kind, blockSize); err != nil {
		return err
	}
	_, err := b.out.Write(p)
	return err
}
