package hnsw

import (
	"fmt"

	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/quant"
)

// attach trains a codec for the vectors and encodes all of them: a search
// walks over codes and looks at few rows only. A graph of no rows, or of rows
// of no numbers, gets none.
func (b *builder) attach() error {
	g, v := b.g, &b.v
	if v.Rows == 0 || v.Dim == 0 {
		return nil
	}
	if b.p.Bits == plainBits {
		g.plain = true
		g.setLong()
		return nil
	}
	codec, err := quant.Train(v.Rows, func(i int) []float32 { return v.row(uint32(i)) },
		quant.Options{Metric: v.Metric, Dim: v.Dim, Bits: b.p.Bits, Seed: b.p.Seed})
	if err != nil {
		return fmt.Errorf("train codes: %w", err)
	}
	stride := codec.Stride()
	codes := kernel.Codes{Data: make([]byte, v.Rows*stride), Meta: make([]kernel.Meta, v.Rows), Bits: codec.Bits(), Stride: stride}
	err = b.each(v.Rows, func(w *worker, i int) {
		w.point = codec.Point(w.point[:0], v.row(uint32(i)))
		codes.Meta[i] = codec.Encode(codes.Data[i*stride:][:stride], w.point)
	})
	if err != nil {
		return err
	}
	g.codec, g.codes = codec, codes
	g.setCoarsest()
	g.setLong()
	return nil
}
