package quant

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/chromad/chromad/internal/kernel"
)

// The bytes of a codec, little endian:
//
//	offset size field
//	0      1    version   1; 2 where the last numbers of a point are not in its code
//	1      1    metric    0 l2, 1 cosine, 2 ip
//	2      1    bits      2, 4 or 8
//	3      1    unit      binary logarithm, signed
//	4      4    dim
//	8      8    seed
//	16     4    row       noise of the grid, float32
//	20     4    query     noise of a query's rounding, float32
//	24     4*d  mean      float32
//
// The signs of the rotation are numbers of splitmix64 from the seed on.
const (
	wholeVersion = 1
	codedVersion = 2
	headerBytes  = 24
)

// EncodedLen is the number of bytes that AppendBinary writes.
func (c *Codec) EncodedLen() int { return headerBytes + 4*c.dim }

// AppendBinary appends the bytes of the codec to b. The error is always nil.
func (c *Codec) AppendBinary(b []byte) ([]byte, error) {
	b = slices.Grow(b, c.EncodedLen())
	version := byte(wholeVersion)
	if c.coded() < c.dim {
		version = codedVersion
	}
	b = append(b, version, byte(c.metric), byte(c.bits), byte(int8(math.Ilogb(float64(c.unit)))))
	b = binary.LittleEndian.AppendUint32(b, uint32(c.dim))
	b = binary.LittleEndian.AppendUint64(b, c.seed)
	for _, x := range append([]float32{c.noise.row, c.noise.query}, c.mean...) {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b, nil
}

// Decode reads a codec from the beginning of b and returns the number of its
// bytes. No bytes make it panic, or make a codec whose estimates for finite
// vectors are not numbers.
func Decode(b []byte) (*Codec, int, error) {
	c, err := decode(b)
	if err != nil {
		return nil, 0, fmt.Errorf("codec: %w", err)
	}
	return c, c.EncodedLen(), nil
}

func decode(b []byte) (*Codec, error) {
	if len(b) < headerBytes {
		return nil, fmt.Errorf("%d bytes", len(b))
	}
	metric, bits, unit := kernel.Metric(b[1]), int(b[2]), int(int8(b[3]))
	dim := binary.LittleEndian.Uint32(b[4:])
	switch {
	case b[0] != wholeVersion && b[0] != codedVersion:
		return nil, fmt.Errorf("version %d", b[0])
	case metric > kernel.IP:
		return nil, fmt.Errorf("unknown metric %d", metric)
	case !slices.Contains(widths[:], bits):
		return nil, fmt.Errorf("%d bits a number", bits)
	case unit < -maxLogU || unit > maxLogU || metric == kernel.Cosine && unit != 0:
		return nil, fmt.Errorf("unit 2^%d", unit)
	case dim < 1 || dim > maxDim:
		return nil, fmt.Errorf("vectors of %d numbers", dim)
	case int64(len(b)) < headerBytes+4*int64(dim):
		return nil, fmt.Errorf("%d bytes for vectors of %d numbers", len(b), dim)
	}
	c := newCodec(Options{Metric: metric, Dim: int(dim), Bits: bits, Seed: binary.LittleEndian.Uint64(b[8:])})
	if c.whole = b[0] == wholeVersion; !c.whole && c.coded() == c.dim {
		return nil, fmt.Errorf("version %d for %d numbers of %d bits", b[0], dim, bits)
	}
	c.unit = float32(math.Ldexp(1, unit))
	float := func(at int) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(b[at:])) }
	c.noise = noise{row: float(16), query: float(20)}
	if !(c.noise.row >= 0 && c.noise.row <= maxNoise && c.noise.query >= 0 && c.noise.query <= maxNoise) {
		return nil, errors.New("noise is not a number in range")
	}
	for i := range c.mean {
		c.mean[i] = float(headerBytes + 4*i)
	}
	return c, c.checkMean()
}

// checkMean rejects a mean that is not of points in code space.
func (c *Codec) checkMean() error {
	if !(kernel.Dot(c.mean, c.mean) <= farthest*farthest) {
		return errors.New("mean out of range")
	}
	return nil
}
