package quant

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/chromad/chromad/internal/kernel"
)

var metrics = []kernel.Metric{kernel.L2, kernel.Cosine, kernel.IP}

// A coded is a matrix in codes.
type coded struct {
	*Codec
	t     testing.TB
	dim   int
	rows  []float32
	codes kernel.Codes
}

func (c *coded) row(i int) []float32 { return c.rows[i*c.dim : (i+1)*c.dim] }

func encodeRows(t testing.TB, rows []float32, o Options) *coded {
	t.Helper()
	c := &coded{t: t, dim: o.Dim, rows: rows}
	n := len(rows) / o.Dim
	codec, err := Train(n, c.row, o)
	if err != nil {
		t.Fatal(err)
	}
	c.Codec = codec
	return c.encodeWith(codec)
}

func (c *coded) encodeWith(codec *Codec) *coded {
	n := len(c.rows) / c.dim
	c.codes = kernel.Codes{Bits: codec.Bits(), Stride: codec.Stride(), Data: make([]byte, n*codec.Stride()), Meta: make([]kernel.Meta, n)}
	var y []float32
	for i := range n {
		y = codec.Point(y, c.row(i))
		c.codes.Meta[i] = codec.Encode(c.codes.Data[i*c.codes.Stride:][:c.codes.Stride], y)
	}
	return c
}

// keys returns the keys of all rows as a search works them out.
func (c *coded) keys(q *Query) []float32 {
	n := len(c.codes.Meta)
	var hop kernel.Hop
	hop.Aim(&c.codes, q.Codes, q.Mul, q.Sub, make([]uint64, (n+63)/64))
	out := make([]float32, 0, n)
	for i := range n {
		hop.Add(uint32(i))
		if hop.Room() == 0 || i == n-1 {
			keys, _ := hop.Score(float32(math.Inf(1)))
			out = append(out, keys...)
		}
	}
	if len(out) != n {
		c.t.Fatalf("%v, %d numbers of %d bits: %d of %d keys are numbers", c.metric, c.dim, c.bits, len(out), n)
	}
	return out
}

// exact is the distance that users see, in numbers that do not overflow.
func exact(m kernel.Metric, a, b []float32) float64 {
	var dot, aa, bb, l2 float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		dot, aa, bb, l2 = dot+x*y, aa+x*x, bb+y*y, l2+(x-y)*(x-y)
	}
	switch {
	case m == kernel.L2:
		return l2
	case m == kernel.IP:
		return 1 - dot
	case aa == 0 || bb == 0:
		return 1
	}
	return 1 - dot/math.Sqrt(aa)/math.Sqrt(bb)
}

// quality is how estimates compare with distances.
type quality struct {
	at20, at40  float64 // of the nearest 10, how many are among the best estimates
	bias        float64 // mean error, in sigmas
	sigma, near float64 // root mean square error in sigmas; that of the nearest 40 at their distance
	beyond3     float64 // errors of the nearest 40 beyond three sigmas
}

func (c *coded) quality(queries [][]float32) (s quality) {
	var q Query
	count, countNear := 0.0, 0.0
	for _, x := range queries {
		c.Aim(&q, x)
		keys := c.keys(&q)
		n := len(keys)
		true64, byTrue, byKey := make([]float64, n), make([]int, n), make([]int, n)
		for i := range keys {
			true64[i], byTrue[i], byKey[i] = exact(c.metric, x, c.row(i)), i, i
		}
		slices.SortFunc(byTrue, func(a, b int) int { return compare(true64[a], true64[b]) })
		slices.SortFunc(byKey, func(a, b int) int { return compare(float64(keys[a]), float64(keys[b])) })
		tenth := true64[byTrue[9]]
		hits := 0
		for i, r := range byKey[:40] {
			if true64[r] <= tenth {
				hits++
			}
			if i == 19 {
				s.at20 += float64(min(hits, 10))
			}
		}
		s.at40 += float64(min(hits, 10))
		for i, r := range byTrue {
			off := float64(q.Distance(keys[r])) - true64[r]
			sigmas := off / float64(q.Slack*c.codes.Meta[r].B)
			s.bias, s.sigma, count = s.bias+sigmas, s.sigma+sigmas*sigmas, count+1
			if i < 40 {
				sigmas = off / float64(q.SlackAt(float32(true64[r]))*c.codes.Meta[r].B)
				s.near, countNear = s.near+sigmas*sigmas, countNear+1
				if math.Abs(sigmas) > 3 {
					s.beyond3++
				}
			}
		}
	}
	s.at20, s.at40 = s.at20/float64(10*len(queries)), s.at40/float64(10*len(queries))
	s.bias, s.sigma, s.near, s.beyond3 = s.bias/count, math.Sqrt(s.sigma/count), math.Sqrt(s.near/countNear), s.beyond3/countNear
	return s
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// TestQuality holds the share of true neighbours among the best estimates,
// and the errors that a query announces, to what was measured on clustered
// data when the grids were chosen.
func TestQuality(t *testing.T) {
	const n, held = 3000, 20
	for _, c := range []struct {
		dim, bits  int
		at20, at40 float64
	}{
		{128, 2, 0.79, 0.90}, {128, 4, 0.985, 0.995}, {128, 8, 1, 1},
		{384, 2, 0.90, 0.97}, {384, 4, 0.995, 1},
		{768, 2, 0.95, 0.985}, {784, 2, 0.95, 0.985}, {264, 2, 0.88, 0.96}, {20, 8, 0.995, 1}, {50, 4, 0.96, 0.985},
	} {
		rows := manifold(n+held, c.dim, min(c.dim, 40), 9)
		var queries [][]float32
		for i := range held {
			queries = append(queries, rows[(n+i)*c.dim:][:c.dim])
		}
		for _, m := range metrics {
			set := encodeRows(t, rows[:n*c.dim], Options{Metric: m, Dim: c.dim, Bits: c.bits, Seed: 3})
			got := set.quality(queries)
			if got.at20 < c.at20 || got.at40 < c.at40 {
				t.Errorf("%v, %d numbers of %d bits: of the nearest 10, %.3f are among the best 20, %.4f among 40", m, c.dim, c.bits, got.at20, got.at40)
			}
			if math.Abs(got.bias) > 0.08 || got.sigma < 0.8 || got.sigma > 1.1 || got.near < 0.5 || got.near > 1.15 || got.beyond3 > 0.012 {
				t.Errorf("%v, %d numbers of %d bits: in sigmas, bias %.3f, error %.3f, of near rows %.3f, %.4f of them beyond 3", m, c.dim, c.bits, got.bias, got.sigma, got.near, got.beyond3)
			}
		}
	}
}

// TestUnbiased estimates one distance under many rotations: the mean of the
// errors has to vanish against their size.
func TestUnbiased(t *testing.T) {
	const times = 600
	for _, c := range []struct{ dim, bits int }{{40, 2}, {40, 4}, {40, 8}, {264, 2}} { // of 264, 8 numbers are left out
		dim, bits := c.dim, c.bits
		rows := manifold(300, dim, 10, 4)
		for _, m := range metrics {
			var sum, squares float64
			for seed := range uint64(times) {
				set := encodeRows(t, rows[:20*dim], Options{Metric: m, Dim: dim, Bits: bits, Seed: seed})
				var q Query
				set.Aim(&q, rows[200*dim:][:dim])
				off := (float64(q.Distance(set.keys(&q)[7])) - exact(m, rows[200*dim:][:dim], set.row(7))) / float64(q.Slack*set.codes.Meta[7].B)
				sum, squares = sum+off, squares+off*off
			}
			mean, sigma := sum/times, math.Sqrt(squares/times)
			if math.Abs(mean) > 4*sigma/math.Sqrt(times) || sigma < 0.5 || sigma > 1.5 {
				t.Errorf("%v, %d numbers of %d bits: mean error %.4f sigmas, its size %.3f", m, dim, bits, mean, sigma)
			}
		}
	}
}

// TestWidth wants the narrowest width that keeps recall: in many dimensions 2
// bits, but not where neighbours differ too little from each other.
func TestWidth(t *testing.T) {
	for _, c := range []struct {
		name string
		dim  int
		rows []float32
		want int
	}{
		{"one block", 64, manifold(1000, 64, 30, 6), 8}, {"some numbers", 65, manifold(1000, 65, 40, 6), 4},
		{"text size", 384, manifold(2000, 384, 60, 6), 4}, {"many numbers", 512, manifold(2000, 512, 20, 6), 2},
		{"tight clusters", 512, clumps(2000, 512), 8}, {"tight clusters in few", 100, clumps(2000, 100), 8},
		{"equal rows", 600, slices.Repeat(manifold(1, 600, 2, 6), 1000), 2}, {"no rows", 600, nil, 2}, {"one row", 100, manifold(1, 100, 2, 6), 4},
	} {
		for _, m := range metrics[:2] {
			set := encodeRows(t, c.rows, Options{Metric: m, Dim: c.dim, Seed: 8})
			if set.Bits() != c.want {
				t.Errorf("%s, %v: %d bits, want %d", c.name, m, set.Bits(), c.want)
			}
		}
	}
}

func TestTrainDepends(t *testing.T) {
	rows := manifold(6000, 70, 20, 7)
	o := Options{Metric: kernel.Cosine, Dim: 70, Seed: 5}
	train := func(o Options) []byte {
		shared := make([]float32, 70)
		c, err := Train(6000, func(i int) []float32 { // one buffer for all rows
			copy(shared, rows[i*70:(i+1)*70])
			return shared
		}, o)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := c.AppendBinary(nil)
		return b
	}
	first := train(o)
	if !bytes.Equal(train(o), first) {
		t.Error("the same rows and options give another codec")
	}
	o.Seed++
	if bytes.Equal(train(o)[headerBytes:], first[headerBytes:]) {
		t.Error("another seed gives the same codec")
	}
}

func TestOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"metric": {Metric: 3, Dim: 4}, "dim 0": {}, "dim": {Dim: maxDim + 1}, "bits": {Dim: 4, Bits: 3}, "bits 1": {Dim: 4, Bits: 1},
	} {
		if c, err := Train(0, nil, o); err == nil {
			t.Errorf("%s: %v", name, c)
		}
	}
}

// TestUnit holds what a build relies on: distances of points times the square
// of the unit are distances of rows.
func TestUnit(t *testing.T) {
	for _, factor := range []float32{1e-12, 1, 3000} {
		rows := manifold(300, 33, 10, 8)
		kernel.Scale(rows, rows, factor)
		set := encodeRows(t, rows, Options{Metric: kernel.L2, Dim: 33, Seed: 9})
		a, b := set.Point(nil, set.row(1)), set.Point(nil, set.row(2))
		got, want := float64(kernel.L2Squared(a, b))*float64(set.Unit())*float64(set.Unit()), exact(kernel.L2, set.row(1), set.row(2))
		if math.Abs(got/want-1) > 1e-5 || len(a) != set.Width() || set.Dim() != 33 {
			t.Errorf("times %v: %v between points of %d numbers, %v between rows", factor, got, len(a), want)
		}
	}
}

func TestAllocations(t *testing.T) {
	rows := manifold(100, 100, 10, 8)
	for _, m := range metrics {
		set := encodeRows(t, rows, Options{Metric: m, Dim: 100, Seed: 9})
		var q Query
		var y []float32
		code := make([]byte, set.Stride())
		run := func() {
			set.Aim(&q, set.row(3))
			y = set.Point(y, set.row(4))
			set.Encode(code, y)
		}
		run()
		if n := testing.AllocsPerRun(10, run); n != 0 {
			t.Errorf("%v: %v allocations", m, n)
		}
	}
}

func ExampleCodec() {
	rows := [][]float32{{1, 2, 3, 4}, {4, 3, 2, 1}, {0, 0, 1, 0}}
	c, err := Train(len(rows), func(i int) []float32 { return rows[i] }, Options{Metric: kernel.L2, Dim: 4, Seed: 1})
	if err != nil {
		panic(err)
	}
	code := make([]byte, c.Stride())
	meta := c.Encode(code, c.Point(nil, rows[1]))
	var q Query
	c.Aim(&q, rows[0])
	codes := kernel.Codes{Data: code, Meta: []kernel.Meta{meta}, Bits: c.Bits(), Stride: c.Stride()}
	var hop kernel.Hop
	hop.Aim(&codes, q.Codes, q.Mul, q.Sub, make([]uint64, 1))
	hop.Add(0)
	keys, _ := hop.Score(math.MaxFloat32)
	fmt.Printf("%.0f\n", q.Distance(keys[0]))
	// Output: 20
}

// TestGrid holds the mean square error of a row's grid, as a part of the
// square of its length, to what was measured: a normal distribution allows
// 0.119, 0.0115 and 0.0001, and few numbers, whose largest is small, much less.
func TestGrid(t *testing.T) {
	for _, c := range []struct {
		dim, bits int
		most      float64
	}{{128, 2, 0.130}, {128, 4, 0.0102}, {128, 8, 0.000046}, {768, 2, 0.136}, {768, 4, 0.0116}, {16, 8, 0.000024}, {32, 8, 0.000031}} {
		rows := manifold(500, c.dim, min(c.dim/2, 40), 71)
		set := encodeRows(t, rows, Options{Metric: kernel.L2, Dim: c.dim, Bits: c.bits, Seed: 3})
		var y []float32
		var sum float64
		code := make([]byte, set.Stride())
		for i := range 500 {
			y = set.Point(y, set.row(i))
			m, f := set.encode(code, y[:c.dim])
			sum += float64(f.error) * float64(m.B) * float64(m.B) / float64(m.A) / 500
		}
		if sum > c.most || sum < c.most/2 {
			t.Errorf("%d numbers of %d bits: error %.6f of the square of the length, want at most %.6f", c.dim, c.bits, sum, c.most)
		}
	}
}
