package kernel

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// forms are those that this machine can run, and behind the checks the
// exported functions, which run the form that was chosen.
func forms() []form {
	checked := form{name: "checked " + Name()}
	checked.floatForm = floatForm{Dot, L2Squared, DotRows, L2Rows,
		func(q, data []float32, stride int, out []float32) { DotRange(q, data, stride, 0, out) },
		func(q, data []float32, stride int, out []float32) { L2Range(q, data, stride, 0, out) },
		func(q []float32, data []uint8, base float32, stride int, rows []uint32, out []float32) {
			m := ByteRows{data, base, stride}
			m.DotRows(q, rows, out)
		},
		func(q []float32, data []uint8, base float32, stride int, rows []uint32, out []float32) {
			m := ByteRows{data, base, stride}
			m.L2Rows(q, rows, out)
		}}
	return append(supported(), checked)
}

func TestChoose(t *testing.T) {
	best, worst := form{name: "best"}, form{name: "generic"}
	for _, c := range []struct {
		list        []form
		asked, want string
	}{
		{[]form{best, worst}, "", "best"}, {[]form{best, worst}, "generic", "generic"}, {[]form{best, worst}, "best", "best"},
		{[]form{worst}, "best", "generic"}, {[]form{best, worst}, "sse", "best"},
	} {
		if got := choose(c.list, c.asked).name; got != c.want {
			t.Errorf("%q out of %d forms: %v", c.asked, len(c.list), got)
		}
	}
	if list := supported(); list[len(list)-1].name != "generic" {
		t.Error("the last form is not the one that runs everywhere")
	}
}

func random(r *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

// reference returns both sums in float64 and the sums of the magnitudes,
// which the rounding error is measured against.
func reference(a, b []float32) (dot, l2, dotScale float64) {
	for i := range a {
		p := float64(a[i]) * float64(b[i])
		d := float64(a[i]) - float64(b[i])
		dot += p
		dotScale += math.Abs(p)
		l2 += d * d
	}
	return dot, l2, dotScale
}

func near(got float32, want, scale float64) bool {
	return math.Abs(float64(got)-want) <= 1e-6*scale+1e-30
}

func TestAgainstFloat64(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const rows = 5
	for n := 1; n <= 600; n++ {
		// Every start modulo 32 bytes comes up, for both operands.
		qOff, dOff := n%8, (n/8)%8
		q := random(r, n+8)[qOff : qOff+n]
		stride := n + n%3
		data := random(r, rows*stride+8)[dOff:]
		list := []uint32{4, 0, 3, 3, 1}
		for _, f := range forms() {
			out := make([]float32, 4*rows)
			f.dotRows(q, data, stride, list, out[0:5])
			f.l2Rows(q, data, stride, list, out[5:10])
			f.dotRange(q, data, stride, out[10:15])
			f.l2Range(q, data, stride, out[15:20])
			for i := range rows {
				row := data[i*stride : i*stride+n]
				dot, l2, scale := reference(q, row)
				if got := f.dot(q, row); !near(got, dot, scale) || math.Float32bits(got) != math.Float32bits(out[10+i]) {
					t.Fatalf("%s n %d: dot %v, in a range %v, want %v", f.name, n, got, out[10+i], dot)
				}
				if got := f.l2(q, row); !near(got, l2, l2) || got != out[15+i] || got != f.l2(row, q) {
					t.Fatalf("%s n %d: l2 %v, in a range %v, swapped %v, want %v", f.name, n, got, out[15+i], f.l2(row, q), l2)
				}
			}
			for i, row := range list {
				if out[i] != out[10+row] || out[5+i] != out[15+row] {
					t.Fatalf("%s n %d row %d: gathered %v %v, in a range %v %v", f.name, n, row, out[i], out[5+i], out[10+row], out[15+row])
				}
			}
		}
	}
}

// byteRows are rows of bytes, with garbage for padding, and the same rows in
// float32, one after the other.
func byteRows(r *rand.Rand, rows, n int, base float32) (m ByteRows, data []float32) {
	m = ByteRows{Base: base, Stride: ByteStride(n)}
	m.Data = make([]uint8, rows*m.Stride)
	for i := range m.Data {
		m.Data[i] = uint8(r.Uint32())
	}
	for i := range rows {
		for _, x := range m.Data[i*m.Stride:][:n] {
			data = append(data, base+float32(x))
		}
	}
	return m, data
}

// Rows of bytes give what the same rows give in float32, to the last bit.
func TestByteRows(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 2))
	list := []uint32{4, 0, 3, 3, 1, 2, 4}
	for n := 1; n <= 600; n++ {
		q := random(r, n+8)[n%8:][:n]
		m, data := byteRows(r, 5, n, []float32{0, -128, -17, 1 << 22, -1 << 22}[n%5])
		for _, f := range forms() {
			dot, l2, wantDot, wantL2 := make([]float32, 7), make([]float32, 7), make([]float32, 7), make([]float32, 7)
			f.dotByteRows(q, m.Data, m.Base, m.Stride, list, dot)
			f.l2ByteRows(q, m.Data, m.Base, m.Stride, list, l2)
			f.dotRows(q, data, n, list, wantDot)
			f.l2Rows(q, data, n, list, wantL2)
			if !slices.Equal(dot, wantDot) || !slices.Equal(l2, wantL2) {
				t.Fatalf("%s n %d base %v: dot %v, in float32 %v; l2 %v, in float32 %v", f.name, n, m.Base, dot, wantDot, l2, wantL2)
			}
		}
	}
}

func TestNotANumber(t *testing.T) {
	inf := float32(math.Inf(1))
	nan := float32(math.NaN())
	for _, f := range forms() {
		for n := 1; n <= 70; n++ {
			for at := range n {
				a, b := make([]float32, n), make([]float32, n)
				for i := range b {
					b[i] = 1
				}
				a[at] = nan
				if f.dot(a, b) == f.dot(a, b) || f.l2(a, b) == f.l2(a, b) || f.l2(b, a) == f.l2(b, a) {
					t.Fatalf("%s: NaN at %d of %d is lost", f.name, at, n)
				}
				a[at] = inf
				if f.dot(a, b) != inf || f.l2(a, b) != inf {
					t.Fatalf("%s: Inf at %d of %d gives %v %v", f.name, at, n, f.dot(a, b), f.l2(a, b))
				}
				b[at] = 0
				if v := f.dot(a, b); v == v {
					t.Fatalf("%s: Inf*0 at %d of %d gives %v", f.name, at, n, v)
				}
			}
		}
	}
}

func TestOutside(t *testing.T) {
	q, data, out := make([]float32, 4), make([]float32, 40), make([]float32, 4)
	m, cut, narrow := ByteRows{make([]uint8, 128), 0, 64}, ByteRows{make([]uint8, 127), 0, 64}, ByteRows{make([]uint8, 128), 0, 4}
	for name, call := range map[string]func(){
		"lengths":         func() { Dot(q, data) },
		"lengths l2":      func() { L2Squared(q, data[:3]) },
		"row":             func() { DotRows(q, data, 4, []uint32{9, 10, 0}, out) },
		"row l2":          func() { L2Rows(q, data, 4, []uint32{10}, out) },
		"row far":         func() { L2Rows(q, data, math.MaxInt, []uint32{0, math.MaxUint32}, out) },
		"stride":          func() { DotRows(q, data, 3, []uint32{0}, out) },
		"stride negative": func() { DotRows(q, data, -4, []uint32{0}, out) },
		"out":             func() { DotRows(q, data, 4, make([]uint32, 5), out) },
		"range":           func() { DotRange(q, data, 4, 7, out) },
		"range l2":        func() { L2Range(q, data, 4, 10, out[:1]) },
		"range negative":  func() { DotRange(q, data, 4, -1, out) },
		"range overflow":  func() { DotRange(q, data, 4, math.MaxInt, out) },
		"no data":         func() { DotRows(q, nil, 4, []uint32{0}, out) },
		"byte row":        func() { m.L2Rows(q, []uint32{0, 2, 1}, out) },
		"byte row far":    func() { m.DotRows(q, []uint32{math.MaxUint32}, out) },
		"byte row cut":    func() { cut.DotRows(q, []uint32{1}, out) },
		"byte stride":     func() { narrow.L2Rows(q, []uint32{0}, out) },
		"byte no stride":  func() { new(ByteRows).L2Rows(q, []uint32{0}, out) },
		"byte numbers":    func() { m.DotRows(make([]float32, 65), []uint32{0}, out) },
		"byte out":        func() { m.DotRows(q, make([]uint32, 5), out) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			call()
		}()
	}
	m.L2Rows(q, []uint32{1, 0}, out)
	m.L2Rows(q, nil, out)
	m.L2Rows(nil, []uint32{9}, out)
	DotRange(q, data, 4, 6, out)                // the last row that fits
	DotRows(q, data[:39], 12, []uint32{2}, out) // the last row may be cut after len(q)
	DotRows(q, data, 4, nil, out)
	DotRows(nil, nil, 0, []uint32{7}, out)
}

// TestLongRange crosses the pieces that keep an assembly call short.
func TestLongRange(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	const dim = 300
	rows := 2*preemptAfter/4/dim + 7
	q, data := random(r, dim), random(r, (rows+1)*dim)
	out := make([]float32, rows)
	for _, f := range []struct {
		seq  func(q, data []float32, stride, first int, out []float32)
		pair func(a, b []float32) float32
	}{{DotRange, Dot}, {L2Range, L2Squared}} {
		f.seq(q, data, dim, 1, out)
		for i, got := range out {
			if want := f.pair(q, data[(i+1)*dim:(i+2)*dim]); got != want {
				t.Fatalf("row %d: %v, want %v", i+1, got, want)
			}
		}
	}
}

func TestLongByteRows(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 5))
	const dim = 300
	m, data := byteRows(r, 40, dim, -3)
	rows := make([]uint32, 2*preemptAfter/m.Stride+7)
	for i := range rows {
		rows[i] = uint32(r.IntN(40))
	}
	q, out, want := random(r, dim), make([]float32, len(rows)), make([]float32, len(rows))
	m.DotRows(q, rows, out)
	DotRows(q, data, dim, rows, want)
	if !slices.Equal(out, want) {
		t.Fatal("the pieces of a long list differ")
	}
}

func TestDistance(t *testing.T) {
	a, b, zero := []float32{3, 4}, []float32{4, 3}, []float32{0, 0}
	tiny, huge := []float32{1e-30, 0}, []float32{3e30, 0}
	for _, c := range []struct {
		m    Metric
		a, b []float32
		want float32
	}{
		{L2, a, b, 2}, {Cosine, a, b, 1 - 24.0/25}, {IP, a, b, -23},
		{L2, a, zero, 25}, {Cosine, a, zero, 1}, {Cosine, zero, zero, 1}, {IP, a, zero, 1},
		{Cosine, tiny, a, 1 - 0.6}, {Cosine, huge, a, 1 - 0.6},
	} {
		if got := Distance(c.m, c.a, c.b); math.Abs(float64(got-c.want)) > 1e-6 {
			t.Errorf("%v of %v and %v: %v, want %v", c.m, c.a, c.b, got, c.want)
		}
	}
	if v := InvNorm([]float32{math.SmallestNonzeroFloat32}); math.IsInf(float64(v), 0) {
		t.Errorf("inverse norm of the smallest number: %v", v)
	}
}

func TestMetricNames(t *testing.T) {
	if got := fmt.Sprint(L2, Cosine, IP, Metric(3)); got != "l2 cosine ip metric(3)" {
		t.Error(got)
	}
}

func FuzzForms(f *testing.F) {
	f.Add([]byte("0123456789abcdef0123456789abcdef0123456789abcdef"), uint8(1))
	f.Fuzz(func(t *testing.T, raw []byte, off uint8) {
		v := make([]float32, len(raw)/4)
		for i := range v {
			v[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
			if x := math.Abs(float64(v[i])); !(x < 1e15 && x > 1e-15) {
				v[i] = float32(i) // overflow is met in another order by each form
			}
		}
		v = v[min(int(off%8), len(v)):]
		a, b := v[:len(v)/2], v[len(v)/2:len(v)/2*2]
		dot, l2, scale := reference(a, b)
		for _, form := range forms() {
			if len(a) == 0 {
				break
			}
			if got := form.dot(a, b); !near(got, dot, 10*scale) {
				t.Errorf("%s dot: %v, want %v", form.name, got, dot)
			}
			if got := form.l2(a, b); !near(got, l2, 10*l2) {
				t.Errorf("%s l2: %v, want %v", form.name, got, l2)
			}
		}
	})
}

func BenchmarkPair(b *testing.B) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, n := range []int{128, 384, 768, 1536} {
		x, y := random(r, n), random(r, n)
		for _, f := range forms() {
			b.Run(fmt.Sprintf("dot/%d/%s", n, f.name), func(b *testing.B) {
				b.SetBytes(int64(4 * n))
				for b.Loop() {
					f.dot(x, y)
				}
			})
		}
	}
}

// BenchmarkRows gathers 16 rows per call from a matrix in cache (4 MiB) or
// far beyond it (256 MiB).
func BenchmarkRows(b *testing.B) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, mib := range []int{4, 256} {
		data := random(r, 1<<20)
		for len(data) < mib<<18 {
			data = append(data, data...)
		}
		for _, n := range []int{128, 384, 768} {
			rows := make([]uint32, 1<<16)
			for i := range rows {
				rows[i] = uint32(r.IntN(len(data) / n))
			}
			q, out := data[:n], make([]float32, 16)
			b.Run(fmt.Sprintf("l2/%dMiB/%d", mib, n), func(b *testing.B) {
				b.SetBytes(int64(16 * 4 * n))
				at := 0
				for b.Loop() {
					L2Rows(q, data, n, rows[at:at+16], out)
					at = (at + 16) % len(rows)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/16, "ns/row")
			})
		}
	}
}

func BenchmarkRange(b *testing.B) {
	r := rand.New(rand.NewPCG(9, 10))
	data, out := random(r, 1<<20), make([]float32, 1024)
	for _, n := range []int{128, 768} {
		b.Run(fmt.Sprintf("dot/%d", n), func(b *testing.B) {
			b.SetBytes(int64(len(out) * 4 * n))
			for b.Loop() {
				DotRange(data[:n], data, n, 0, out)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(out)), "ns/row")
		})
	}
}
