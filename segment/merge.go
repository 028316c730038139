package segment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/hnsw"
	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
)

// Input is a segment to merge and which of its rows are dead (nil: none).
type Input struct {
	Reader *Reader
	Dead   *roaring.Bitmap
}

// Merge makes one segment of the live rows of several, in the order of their
// records. It is what Write is in all else; ErrEmpty when no row is alive,
// before anything is written. The inputs stay open meanwhile. Two live rows of one order or one id are
// disk.ErrCorrupt: the inputs are not of one state of the collection.
//
// Links of the graphs among the inputs are kept, or tell what is near (hnsw.Join), which is
// cheaper than building a graph.
func Merge(ctx context.Context, fs vfs.FS, keys seal.Keys, spec Spec, in []Input) (Info, error) {
	m, err := newMerger(spec, in)
	if err != nil {
		return Info{}, fmt.Errorf("write %s: %w", Name(spec.Number), err)
	}
	spec.Graph.Seed = spec.seed()
	info, err := create(ctx, fs, keys, spec, func(b *builder) error {
		if err := b.reserve(m.live); err != nil {
			return err
		}
		return m.rows(ctx, b)
	}, m.graph)
	if _, is := errors.AsType[clash](err); is {
		err = &disk.CorruptError{File: in[0].Reader.name, Err: err}
	}
	return info, err
}

// reserve makes room for the vectors of n rows, if they are going to be kept:
// once, outside the heap when they are decrypted ones, and counted. Those of
// the inputs are read row by row, so that their readers may evict them.
func (b *builder) reserve(n int) error {
	size := n * b.stride * 4
	if n < b.spec.graphMin() || !b.sealed && size > b.keep {
		b.spilled = true // nobody will ask for them, or the file is mapped
		return nil
	}
	b.free = b.spec.Memory.Reserve(int64(size))
	if !b.sealed {
		b.vectors = slices.Grow(b.vectors, n*b.stride)
		return nil
	}
	memory, err := vfs.Anonymous(size)
	if err != nil {
		return err
	}
	memory.Fill()
	b.own, b.vectors = memory, floats(memory.Bytes())[:0]
	return nil
}

// merger takes the rows of its inputs in turn.
type merger struct {
	sources []*source
	live    int
}

// source is an input and how far it has been read.
type source struct {
	Input
	live  int
	row   uint32   // next live row, Rows at the end
	order uint64   // its order
	moved []uint32 // of each row, what it became; nil: its graph is of no use
}

func newMerger(spec Spec, in []Input) (*merger, error) {
	m := &merger{}
	for _, input := range in {
		r := input.Reader
		if r.dim != spec.Dim || r.metric != spec.Metric {
			return nil, fmt.Errorf("%s has dimension %d and metric %v, not %d and %v", r.name, r.dim, r.metric, spec.Dim, spec.Metric)
		}
		s := &source{Input: input, live: int(r.rows)}
		if s.Dead != nil {
			s.live -= int(s.Dead.Rank(r.rows - 1))
		}
		m.sources = append(m.sources, s)
		m.live += s.live
	}
	switch {
	case m.live == 0:
		return nil, ErrEmpty
	case m.live > maxRows:
		return nil, fmt.Errorf("%d rows, more than %d", m.live, maxRows)
	}
	for _, s := range m.sources {
		// A graph that has lost most of its rows is no shortcut.
		if _, ok := s.Reader.file.Section(sectionGraph); ok && s.live > int(s.Reader.rows)/2 && m.live >= spec.graphMin() {
			s.moved = slices.Repeat([]uint32{hnsw.NoRow}, int(s.Reader.rows))
		}
	}
	return m, nil
}

// rows adds all live rows to b.
func (m *merger) rows(ctx context.Context, b *builder) error {
	for _, s := range m.sources {
		if err := s.seek(0); err != nil {
			return err
		}
	}
	for {
		if b.rows%checkEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		var next *source
		for _, s := range m.sources {
			if s.row < s.Reader.rows && (next == nil || s.order < next.order) {
				next = s
			}
		}
		if next == nil {
			return nil
		}
		if next.moved != nil {
			next.moved[next.row] = uint32(b.rows)
		}
		if err := next.copyTo(b); err != nil {
			return err
		}
		if err := next.seek(next.row + 1); err != nil {
			return err
		}
	}
}

// seek goes to the first live row at row or after it.
func (s *source) seek(row uint32) (err error) {
	for row < s.Reader.rows && s.Dead != nil && s.Dead.Contains(row) {
		row++
	}
	if s.row = row; row < s.Reader.rows {
		s.order, err = s.Reader.Order(row)
	}
	return err
}

// copyTo adds the row to b, its metadata as the bytes they are.
func (s *source) copyTo(b *builder) error {
	r := s.Reader
	var written error // b's own error does not get the name of the input
	err := r.at(s.row, func() error {
		id, err := r.ids.at(s.row)
		if err != nil {
			return err
		}
		row := Row{Order: s.order, ID: string(id)}
		if row.Vector, err = r.vector(s.row); err != nil {
			return err
		}
		encoded, err := r.metadata.at(s.row)
		if err != nil {
			return err
		}
		if row.Metadata, err = r.decodeMetadata(s.row); err != nil {
			return err
		}
		if row.Document, err = r.documents.pointer(s.row); err != nil {
			return err
		}
		if row.URI, err = r.uris.pointer(s.row); err != nil {
			return err
		}
		written = b.add(row, encoded)
		return nil
	})
	return errors.Join(err, written)
}

// graph of the merged vectors.
func (m *merger) graph(ctx context.Context, v hnsw.Vectors, p hnsw.Params) (*hnsw.Graph, error) {
	var parts []hnsw.Part
	for _, s := range m.sources {
		if s.moved != nil {
			parts = append(parts, hnsw.Part{Rows: s.moved, Graph: func() (*hnsw.Graph, error) {
				g, err := s.Reader.ownGraph()
				if errors.Is(err, disk.ErrCorrupt) {
					return nil, nil // no loss: it can be made again from the vectors
				}
				return g, err
			}})
		}
	}
	return hnsw.Join(ctx, parts, v, p)
}

// ownGraph is the graph in memory that no guard covers: those who join it to others
// read it on goroutines of their own. What searches use is such memory
// already, or its bytes are copied.
func (r *Reader) ownGraph() (g *hnsw.Graph, err error) {
	err = r.guard(func() error {
		if h, done, err := r.graph.peek(); done && h.own {
			g = h.graph
			return err
		}
		s, ok := r.file.Section(sectionGraph)
		if !ok {
			return damaged(r.vectors, 0, "no graph")
		}
		b, err := s.Bytes(0, s.Len())
		if err == nil {
			g, err = r.decodeGraph(s, bytes.Clone(b))
		}
		return err
	})
	return g, err
}

// pointer is at with a nil for a row that has no text.
func (t *text) pointer(row uint32) (*string, error) {
	v, ok, err := t.at(row)
	if err != nil || !ok {
		return nil, err
	}
	return &v, nil
}
