package segment

import (
	"context"
	"encoding/binary"
	"math"
	"unsafe"

	"github.com/chromad/chromad/hnsw"
	"github.com/chromad/chromad/internal/kernel"
)

// floats is the little-endian numbers in b. Where the machine has their byte
// order, which is nearly everywhere, they alias b.
func floats(b []byte) []float32 {
	n := len(b) / 4
	if n == 0 {
		return nil
	}
	if aliased(b) {
		return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), n)
	}
	v := make([]float32, n)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[i*4:]))
	}
	return v
}

// aliased reports whether floats aliases b.
func aliased(b []byte) bool {
	return binary.NativeEndian.Uint16([]byte{1, 0}) == 1 && uintptr(unsafe.Pointer(unsafe.SliceData(b)))%4 == 0
}

// prefetch asks for the two cache lines from a place of a section's Map on. What is
// there is not looked at, so it need not be verified.
func prefetch(b []byte, at int) {
	if at < len(b) {
		kernel.Prefetch(unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(b[at&^3:]))), (len(b)-at&^3)/4))
	}
}

// appendFloats appends v, little endian.
func appendFloats(b []byte, v []float32) []byte {
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

// vector is the vector of row, aliasing the file's memory.
func (r *Reader) vector(row uint32) ([]float32, error) {
	size := r.stride * 4
	b, err := r.vectors.Bytes(int(row)*size, size)
	if err != nil {
		return nil, err
	}
	return floats(b)[:r.dim:r.dim], nil
}

// matrix is all vectors, of which those that nobody has looked at yet are
// verified, and decrypted, when a search comes to them: the first query of a
// segment waits for what it reads and not for the whole of it. It is for one
// search, under the guard.
func (r *Reader) matrix() (hnsw.Vectors, error) {
	v := hnsw.Vectors{Metric: r.metric, Rows: int(r.rows), Dim: r.dim, Stride: r.stride}
	b, err := r.vectors.Map()
	if err != nil {
		return v, err
	}
	if !aliased(b) {
		return r.copied.get(context.Background(), r.copyMatrix)
	}
	v.Data = floats(b)
	if !r.vectors.Whole() {
		v.Touch = r.touch
	}
	return v, r.addNorms(&v)
}

// searched is matrix for a search of g, or of all rows when g is nil: in bytes
// if they are there and may be used.
func (r *Reader) searched(g *hnsw.Graph, inBytes bool) (hnsw.Vectors, error) {
	if !inBytes || g != nil && !g.HasCodes() {
		return r.matrix()
	}
	v := hnsw.Vectors{Metric: r.metric, Rows: int(r.rows), Dim: r.dim}
	b, err := r.bytes.Map()
	if err != nil {
		return v, err
	}
	stride := kernel.ByteStride(r.dim)
	v.Bytes = kernel.ByteRows{Data: b[:v.Rows*stride], Stride: stride}
	if v.Bytes.Base, err = r.base(); err != nil {
		return v, err
	}
	if !r.bytes.Whole() {
		v.Touch = r.touchBytes
	}
	return v, r.addNorms(&v)
}

// baseSize is what follows the rows in bytes.
const baseSize = 4

// openBytes looks for the vectors in bytes.
func (r *Reader) openBytes() {
	s, ok := r.file.Section(sectionBytes)
	if !ok {
		return
	}
	stride := kernel.ByteStride(r.dim)
	if want := int(r.rows)*stride + baseSize; s.Len() != want {
		r.badBytes.set(r.named(damaged(s, 0, "section %d has %d bytes, not %d", s.Kind(), s.Len(), want)))
		return
	}
	r.bytes = s
	r.touchBytes = func(rows []uint32) error { return s.Touch(rows, stride) }
}

// base is what a byte of 0 stands for.
func (r *Reader) base() (float32, error) {
	at := r.bytes.Len() - baseSize
	b, err := r.bytes.Bytes(at, baseSize)
	if err != nil {
		return 0, err
	}
	base := math.Float32frombits(binary.LittleEndian.Uint32(b))
	if !hnsw.IsByteBase(base) {
		return 0, damaged(r.bytes, at, "bytes from %v on", base)
	}
	return base, nil
}

// addNorms adds what the cosine needs.
func (r *Reader) addNorms(v *hnsw.Vectors) error {
	if r.metric == kernel.Cosine {
		b, err := r.norms.Bytes(0, r.norms.Len())
		if err != nil {
			return err
		}
		v.InvNorms = floats(b)
	}
	return nil
}

// copyMatrix is the matrix where the machine cannot use the file's bytes.
func (r *Reader) copyMatrix() (hnsw.Vectors, error) {
	v := hnsw.Vectors{Metric: r.metric, Rows: int(r.rows), Dim: r.dim, Stride: r.stride}
	b, err := r.vectors.Bytes(0, r.vectors.Len())
	if err != nil {
		return v, err
	}
	v.Data = floats(b)
	return v, r.addNorms(&v)
}
