package segment

import (
	"context"
	"errors"
	"io"
	"iter"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/hnsw"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
)

// Row is a record on its way into a segment.
type Row struct {
	Order    uint64 // creation number of the record: survives its updates
	ID       string
	Vector   []float32
	Metadata filter.Metadata
	Document *string // nil: none, which is not the same as empty
	URI      *string
}

// Write makes a segment of rows, which come in ascending order and with ids
// that differ. The file is whole and durable when Write returns, and absent
// after an error, ErrEmpty included. Equal rows and an equal spec give equal
// bytes, whatever Spec.Graph.Workers is.
//
// Memory holds everything but the vectors: ids, metadata and compressed
// documents, the filter index, and up to 64 MiB of vectors. An encrypted file
// that is to have a graph has all its vectors in memory until that is built.
func Write(ctx context.Context, fs vfs.FS, keys seal.Keys, spec Spec, rows iter.Seq2[Row, error]) (Info, error) {
	var encoded []byte
	add := func(b *builder) error {
		for row, err := range rows {
			if err != nil {
				return err
			}
			if b.rows%checkEvery == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			encoded = filter.AppendMetadata(encoded[:0], row.Metadata)
			if err := b.add(row, encoded); err != nil {
				return err
			}
		}
		return nil
	}
	spec.Graph.Seed = spec.seed()
	return create(ctx, fs, keys, spec, add, hnsw.Build)
}

// seed of the graph: the segment's number, unless one was chosen, so that
// two segments do not draw the same levels.
func (s Spec) seed() uint64 {
	if s.Graph.Seed != 0 {
		return s.Graph.Seed
	}
	return s.Number
}

func joinClose(err error, c io.Closer) error { return errors.Join(err, c.Close()) }
