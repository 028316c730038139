package hnsw

import (
	"fmt"

	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/quant"
)

// widestCode is the most bits of a number in a code.
const widestCode = 8

// attach trains a codec for the vectors and encodes all of them: a search
// walks over codes and looks at few rows only. Where codes of one width do not
// tell near rows apart the next is tried, and then none: searches walk over the
// vectors. A graph of no rows, or of rows of no numbers, gets no codec.
func (b *builder) attach() error {
	g, v := b.g, &b.v
	if v.Rows == 0 || v.Dim == 0 {
		return nil
	}
	for bits := b.p.Bits; bits <= widestCode; {
		if err := b.encode(bits); err != nil {
			return err
		}
		if b.p.Bits != 0 || b.telling() {
			g.setCoarsest()
			g.setFirst()
			return nil
		}
		bits = 2 * g.codes.Bits
		g.codec, g.codes = nil, kernel.Codes{} // not beside the next ones
	}
	g.plain = true
	g.setFirst()
	return nil
}

// encode trains a codec of a width, 0: of the fewest bits that seem enough, and
// encodes all rows.
func (b *builder) encode(bits int) error {
	g, v := b.g, &b.v
	codec, err := quant.Train(v.Rows, func(i int) []float32 { return v.row(uint32(i)) },
		quant.Options{Metric: v.Metric, Dim: v.Dim, Bits: bits, Seed: b.p.Seed})
	if err != nil {
		return fmt.Errorf("train codes: %w", err)
	}
	stride := codec.Stride()
	codes := kernel.Codes{Data: make([]byte, v.Rows*stride), Meta: make([]kernel.Meta, v.Rows), Bits: codec.Bits(), Stride: stride}
	err = b.each(v.Rows, func(w *worker, i int) {
		w.point = codec.Point(w.point[:0], v.row(uint32(i)))
		codes.Meta[i] = codec.Encode(codes.Data[i*stride:][:stride], w.point)
	})
	g.codec, g.codes = codec, codes
	return err
}
