package segment

import (
	"encoding/binary"
	"math"
	"unsafe"

	"github.com/RoaringBitmap/roaring/v2"

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
	p := unsafe.Pointer(unsafe.SliceData(b))
	if littleEndian() && uintptr(p)%4 == 0 {
		return unsafe.Slice((*float32)(p), n)
	}
	v := make([]float32, n)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[i*4:]))
	}
	return v
}

func littleEndian() bool {
	return binary.NativeEndian.Uint16([]byte{1, 0}) == 1
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

// matrix is all vectors. Every block of them is verified, once.
func (r *Reader) matrix() (hnsw.Vectors, error) {
	return r.all.get(func() (hnsw.Vectors, error) {
		v := hnsw.Vectors{Metric: r.metric, Rows: int(r.rows), Dim: r.dim, Stride: r.stride}
		b, err := r.vectors.Bytes(0, r.vectors.Len())
		if err != nil {
			return v, err
		}
		v.Data = floats(b)
		if r.metric == kernel.Cosine {
			if b, err = r.norms.Bytes(0, r.norms.Len()); err != nil {
				return v, err
			}
			v.InvNorms = floats(b)
		}
		return v, nil
	})
}

// only is the matrix with the allowed rows verified and no others: a filter
// that leaves little of a segment does not wait until the whole of it has been
// read. What is not allowed must not be looked at.
func (r *Reader) only(allowed *roaring.Bitmap) (hnsw.Vectors, error) {
	if v, done, err := r.all.peek(); done || !littleEndian() {
		if !done {
			return r.matrix()
		}
		return v, err
	}
	v := hnsw.Vectors{Metric: r.metric, Rows: int(r.rows), Dim: r.dim, Stride: r.stride}
	size := r.stride * 4
	for it := allowed.Iterator(); it.HasNext(); {
		row := int(it.Next())
		b, err := r.vectors.Bytes(row*size, size)
		if err != nil {
			return v, err
		}
		if v.Data == nil {
			v.Data = around(b, row*size, r.vectors.Len())
		}
		if r.metric != kernel.Cosine {
			continue
		}
		if b, err = r.norms.Bytes(row*4, 4); err != nil {
			return v, err
		}
		if v.InvNorms == nil {
			v.InvNorms = around(b, row*4, r.norms.Len())
		}
	}
	return v, nil
}

// around is the size bytes of the section in which b stands at off. A section
// is one run of memory, of which verifying hands out pieces.
func around(b []byte, off, size int) []float32 {
	start := unsafe.Add(unsafe.Pointer(unsafe.SliceData(b)), -off)
	return unsafe.Slice((*float32)(start), size/4)
}
