package quant

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"testing"

	"github.com/chromad/chromad/internal/kernel"
)

func TestBinary(t *testing.T) {
	rows := manifold(300, 70, 20, 61)
	for _, m := range metrics {
		set := encodeRows(t, rows, Options{Metric: m, Dim: 70, Seed: 1 << 63})
		b, err := set.AppendBinary([]byte("before"))
		if err != nil {
			t.Fatal(err)
		}
		if b = b[6:]; len(b) != set.EncodedLen() {
			t.Fatalf("%v: %d bytes, want %d", m, len(b), set.EncodedLen())
		}
		c, n, err := Decode(append(b, "behind"...))
		if err != nil || n != len(b) {
			t.Fatalf("%v: %d of %d bytes, %v", m, n, len(b), err)
		}
		again := (&coded{Codec: c, t: t, dim: 70, rows: rows}).encodeWith(c)
		if !bytes.Equal(again.codes.Data, set.codes.Data) || !slices.Equal(again.codes.Meta, set.codes.Meta) {
			t.Errorf("%v: the decoded codec writes other codes", m)
		}
		var p, q Query
		set.Aim(&p, set.row(5))
		c.Aim(&q, set.row(5))
		if !slices.Equal(p.Codes, q.Codes) || p.Mul != q.Mul || p.Sub != q.Sub || p.Offset != q.Offset || p.Factor != q.Factor || p.Slack != q.Slack {
			t.Errorf("%v: the decoded codec aims otherwise", m)
		}
		for cut := range b {
			if _, _, err := Decode(b[:cut]); err == nil {
				t.Fatalf("%v: %d of %d bytes are enough", m, cut, len(b))
			}
		}
	}
}

// TestLeftOut: numbers that would begin a block of their own are left out of
// codes of 2 bits, when they are few; codes that have them are read as ever.
func TestLeftOut(t *testing.T) {
	for _, c := range []struct{ dim, bits, stride, version int }{
		{784, 2, 192, codedVersion}, {784, 4, 448, wholeVersion}, {784, 8, 832, wholeVersion},
		{264, 2, 64, codedVersion}, {265, 2, 128, wholeVersion}, {768, 2, 192, wholeVersion}, {7, 2, 64, wholeVersion},
	} {
		rows := manifold(300, c.dim, 20, 61)
		set := encodeRows(t, rows, Options{Dim: c.dim, Bits: c.bits, Seed: 5})
		b, _ := set.AppendBinary(nil)
		if set.Stride() != c.stride || int(b[0]) != c.version {
			t.Errorf("%d numbers of %d bits: %d bytes, version %d", c.dim, c.bits, set.Stride(), b[0])
		}
		other := slices.Clone(b)
		other[0] = wholeVersion + codedVersion - b[0]
		whole, _, err := Decode(other)
		if (err == nil) != (c.version == codedVersion) {
			t.Fatalf("%d numbers of %d bits: the other version is read: %v", c.dim, c.bits, err)
		}
		if err != nil {
			continue
		}
		if want := (c.dim + 255) / 256 * 64; whole.Stride() != want {
			t.Errorf("%d numbers of %d bits: all of them in %d bytes, want %d", c.dim, c.bits, whole.Stride(), want)
		}
		again := (&coded{Codec: whole, t: t, dim: c.dim, rows: rows}).encodeWith(whole)
		var q Query
		again.Aim(&q, again.row(5))
		if d := q.Distance(again.keys(&q)[5]); math.Abs(float64(d)) > 3*float64(q.Slack*again.codes.Meta[5].B) {
			t.Errorf("%d numbers: a row is %v from itself", c.dim, d)
		}
		if back, _ := whole.AppendBinary(nil); !bytes.Equal(back, other) {
			t.Errorf("%d numbers: the version changed", c.dim)
		}
	}
}

// TestLeftOutAll: of a row whose numbers are all among those left out, or nearly, the
// estimates are numbers, and no farther off than they say.
func TestLeftOutAll(t *testing.T) {
	const dim = 520
	rows := manifold(300, dim, 20, 64)
	set := encodeRows(t, rows, Options{Dim: dim, Bits: 2, Seed: 1})
	code := make([]byte, set.Stride())
	for _, rest := range []float32{0, 1e-30, 1e-9, 1e-4} {
		y := make([]float32, dim)
		y[515] = 0.5
		for i := range y[:512] {
			y[i] = rest
		}
		m := set.Encode(code, y)
		if !finites(m.A, m.B) || m.B <= 0 || m.B > 1 {
			t.Errorf("beside %v: %v", rest, m)
		}
	}
}

func TestBinaryDamage(t *testing.T) {
	set := encodeRows(t, manifold(300, 70, 20, 62), Options{Metric: kernel.Cosine, Dim: 70, Seed: 7})
	good, _ := set.AppendBinary(nil)
	word := func(at int, x float32) func(b []byte) {
		return func(b []byte) { binary.LittleEndian.PutUint32(b[at:], math.Float32bits(x)) }
	}
	for name, damage := range map[string]func(b []byte){
		"version":       func(b []byte) { b[0] = 2 },
		"metric":        func(b []byte) { b[1] = 3 },
		"bits":          func(b []byte) { b[2] = 3 },
		"unit":          func(b []byte) { b[3] = 1 }, // cosine has none
		"unit far":      func(b []byte) { b[1], b[3] = 0, 64 },
		"dim 0":         func(b []byte) { clear(b[4:8]) },
		"dim":           func(b []byte) { b[6] = 1; b[7] = 1 },
		"dim more":      func(b []byte) { b[4]++ },
		"row noise":     word(16, float32(math.NaN())),
		"row negative":  word(16, -1),
		"query noise":   word(20, float32(math.Inf(1))),
		"mean":          word(headerBytes+8, float32(math.NaN())),
		"mean far":      word(headerBytes, 1e19),
		"mean infinite": word(headerBytes, float32(math.Inf(-1))),
	} {
		b := slices.Clone(good)
		damage(b)
		if c, _, err := Decode(b); err == nil {
			t.Errorf("%s: %v", name, c)
		}
	}
}

// FuzzDecode wants estimates that are numbers from every codec that Decode
// accepts, for rows and queries of any length.
func FuzzDecode(f *testing.F) {
	for _, m := range metrics {
		set := encodeRows(f, manifold(50, 5, 3, 63), Options{Metric: m, Dim: 5, Seed: 7})
		b, _ := set.AppendBinary(nil)
		f.Add(b, float32(1), float32(1))
		f.Add(b, float32(1e38), float32(-1e38))
		f.Add(b, float32(1e-40), float32(0))
	}
	some := encodeRows(f, manifold(50, 264, 3, 63), Options{Dim: 264, Bits: 2, Seed: 7}) // not all numbers are in a code
	b, _ := some.AppendBinary(nil)
	f.Add(b, float32(1), float32(-3))
	f.Fuzz(func(t *testing.T, b []byte, first, second float32) {
		c, n, err := Decode(b)
		if err != nil {
			return
		}
		again, _ := c.AppendBinary(nil)
		if !bytes.Equal(again, b[:n]) {
			t.Fatalf("% x became % x", b[:n], again)
		}
		if !finites(first, second) {
			return
		}
		rows := make([]float32, 3*c.dim)
		for i := range rows {
			rows[i] = []float32{first, second, 1}[i*i%7%3]
		}
		set := (&coded{Codec: c, t: t, dim: c.dim, rows: rows}).encodeWith(c)
		var q Query
		for i := range 3 {
			c.Aim(&q, set.row(i))
			keys := set.keys(&q)
			if len(keys) != 3 || !finites(keys...) || !finites(q.Slack, q.Factor, q.Offset) {
				t.Fatalf("row %d of %v: keys %v, query %v %v %v", i, rows, keys, q.Slack, q.Factor, q.Offset)
			}
		}
	})
}
