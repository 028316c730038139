package kernel

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
)

// rotated is Rotate by the definition of the Hadamard matrix, whose entry at
// (i, j) is -1 to the number of ones that i and j have in common.
func rotated(x []float64, signs []uint64) []float64 {
	n := len(x)
	size := 1
	for 2*size <= n {
		size *= 2
	}
	for round := range 4 {
		for j := range x {
			if signs[round*((n+63)/64)+j/64]>>(j%64)&1 == 1 {
				x[j] = -x[j]
			}
		}
		part := x[:size]
		if round%2 == 1 {
			part = x[n-size:]
		}
		out := make([]float64, size)
		for i := range out {
			for j, v := range part {
				out[i] += v * float64(1-2*(bits.OnesCount(uint(i&j))%2))
			}
			out[i] /= math.Sqrt(float64(size))
		}
		copy(part, out)
		if round == 1 && size < n {
			for i := range n / 2 {
				a, b := x[i], x[n-n/2+i]
				x[i], x[n-n/2+i] = (a+b)/math.Sqrt2, (a-b)/math.Sqrt2
			}
		}
	}
	return x
}

func wide(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}

func TestRotate(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 32))
	for _, n := range []int{1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 96, 100, 127, 128, 129, 255, 300, 384, 511, 768, 1000} {
		x, signs := random(r, n), make([]uint64, SignWords(n))
		for i := range signs {
			signs[i] = r.Uint64()
		}
		want := rotated(wide(x), signs)
		length := math.Sqrt(float64(Dot(x, x)))
		Rotate(x, signs)
		for i, v := range x {
			if math.Abs(float64(v)-want[i]) > 1e-6*length {
				t.Fatalf("%d numbers: number %d is %v, want %v", n, i, v, want[i])
			}
		}
		if after := math.Sqrt(float64(Dot(x, x))); math.Abs(after-length) > 1e-6*length {
			t.Errorf("%d numbers: length %v became %v", n, length, after)
		}
	}
}

// TestRotateSpreads wants every number of a vector with a single one to end
// up small, wherever the one was: no two parts of the vector stay apart.
func TestRotateSpreads(t *testing.T) {
	r := rand.New(rand.NewPCG(33, 34))
	for _, n := range []int{127, 128, 200, 255, 384, 768, 1000, 1023} {
		signs := make([]uint64, SignWords(n))
		for i := range signs {
			signs[i] = r.Uint64()
		}
		for at := 0; at < n; at += n/13 + 1 {
			x := make([]float32, n)
			x[at] = 1
			Rotate(x, signs)
			first := math.Sqrt(float64(Dot(x[:n/2], x[:n/2])))
			if most := float64(Largest(x)) * math.Sqrt(float64(n)); most > 6.5 || first < 0.45 || first > 0.9 {
				t.Errorf("%d numbers, the one at %d: the largest is %.2f times the average, %.2f of the length in the first half", n, at, most, first)
			}
		}
	}
}

func TestLevels(t *testing.T) {
	r := rand.New(rand.NewPCG(35, 36))
	for _, width := range []int{2, 4, 8} {
		for _, n := range []int{0, 1, 63, 64, 65, 128, 130, 255, 256, 257, 700} {
			y, query := random(r, n), make([]int8, (n*width+511)/512*64*8/width+512/width)
			code := make([]byte, len(query)*width/8) // one block more than needed
			top, inverse := 1<<width-1, float32(int(1)<<(width-1))/3
			var dot int32
			var wantVY, wantVV, scale float64
			for i, v := range y {
				level := min(max(int(math.Floor(float64(v*inverse)))+(top+1)/2, 0), top)
				query[i] = int8(r.IntN(255) - 127)
				dot += int32(level) * int32(query[i])
				p := float64(2*level-top) * float64(v)
				wantVY += p
				scale += math.Abs(p)
				wantVV += float64(2*level-top) * float64(2*level-top)
			}
			vy, vv := Levels(y, inverse, width, code)
			if !near(vy, wantVY, scale) || float64(vv) != float64(float32(wantVV)) {
				t.Errorf("%d numbers of %d bits: products %v %v, want %v %v", n, width, vy, vv, wantVY, wantVV)
			}
			if got := dotCode(code, width, query); got != dot {
				t.Errorf("%d numbers of %d bits: the levels in the code give %d, want %d", n, width, got, dot)
			}
			if used := (n*width + 511) / 512 * 64; slices.ContainsFunc(code[used:], func(b byte) bool { return b != 0 }) {
				t.Errorf("%d numbers of %d bits: padding is not zero", n, width)
			}
		}
	}
}

// TestLevelsMany sums squares that leave the range of 32 bits.
func TestLevelsMany(t *testing.T) {
	y, code := make([]float32, 1<<16), make([]byte, 1<<16)
	for i := range y {
		y[i] = 1e10
	}
	if _, vv := Levels(y, 1e10, 8, code); vv != float32(255*255<<16) || code[99] != 255 {
		t.Errorf("squares add up to %v, levels are %d", vv, code[99])
	}
}

func TestQuantize8(t *testing.T) {
	r := rand.New(rand.NewPCG(37, 38))
	for _, factor := range []float32{1, 1e-30, 1e30, 7e37} {
		x := random(r, 77)
		Scale(x, x, factor)
		out := make([]int8, 99)
		for i := range out {
			out[i] = 5
		}
		scale := Quantize8(x, out)
		if most := Largest(x); math.Abs(float64(scale)*127/float64(most)-1) > 1e-6 {
			t.Errorf("times %v: scale %v for numbers up to %v", factor, scale, most)
		}
		for i, v := range x {
			if d := math.Abs(float64(v)/float64(scale) - float64(out[i])); d > 0.5001 {
				t.Errorf("times %v: %v became %d of %v", factor, v, out[i], scale)
			}
		}
		if out[77] != 0 || out[98] != 0 {
			t.Errorf("times %v: rest %v", factor, out[77:])
		}
	}
	out := []int8{3, 3, 3}
	if scale := Quantize8([]float32{0, 1e-40}, out); scale != 0 || !slices.Equal(out, []int8{0, 0, 0}) {
		t.Errorf("nearly zero: %v of %v", out, scale)
	}
}

func TestAsBytes(t *testing.T) {
	minusZero, endless, none := float32(math.Copysign(0, -1)), float32(math.Inf(1)), float32(math.NaN())
	for _, tc := range []struct {
		base  int32
		whole []float32
		not   []float32
	}{
		{0, []float32{0, 1, 127, 128, 255}, []float32{-1, 256, 0.5, 1e-40, minusZero, 1 << 30, -1 << 31, 1 << 31, 3e9, endless, -endless, none}},
		{-128, []float32{-128, -1, 0, 1, 127}, []float32{-129, 128, -0.5, minusZero, 1 << 30, -1 << 31, 1 << 31, -3e9, endless, -endless, none}},
	} {
		for at := range 40 { // in whole registers and in what is left of one
			x, out := make([]float32, 40), make([]byte, 41)
			for i := range x {
				x[i] = tc.whole[i%len(tc.whole)]
			}
			out[40] = 77
			if !AsBytes(x, tc.base, out) || out[40] != 77 {
				t.Fatalf("%v from %d on: does not fit, or %d behind it", x, tc.base, out[40])
			}
			for i, b := range out[:40] {
				if float32(int32(b)+tc.base) != x[i] {
					t.Fatalf("%v from %d on became %d", x[i], tc.base, b)
				}
			}
			for _, v := range tc.not {
				if x[at] = v; AsBytes(x, tc.base, out) {
					t.Errorf("number %d: %v from %d on is said to fit a byte", at, v, tc.base)
				}
			}
		}
	}
}

func TestCodecOutside(t *testing.T) {
	x, code := make([]float32, 65), make([]byte, 128)
	for name, call := range map[string]func(){
		"signs":           func() { Rotate(x, make([]uint64, 7)) },
		"code short":      func() { Levels(x, 1, 8, code[:64]) },
		"code not blocks": func() { Levels(x[:1], 1, 8, code[:65]) },
		"bits":            func() { Levels(x, 1, 3, code) },
		"bytes":           func() { Quantize8(x, make([]int8, 64)) },
		"integers":        func() { AsBytes(x, 0, make([]byte, 64)) },
		"scale":           func() { Scale(x[:64], x, 1) },
		"subtract":        func() { Subtract(x[:64], x) },
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
	Rotate(nil, nil)
	Levels(nil, 1, 2, nil)
	Quantize8(nil, nil)
	if !AsBytes(nil, 0, nil) {
		t.Error("no numbers")
	}
	Scale(nil, nil, 1)
	Subtract(nil, nil)
	if Largest(nil) != 0 || Largest([]float32{-3, 2}) != 3 {
		t.Error("largest")
	}
}

// FuzzCodec holds every form to plain Go for any finite numbers.
func FuzzCodec(f *testing.F) {
	f.Add([]byte("0123456789abcdef0123456789abcdef0123456789abcdef"), uint8(1), float32(2))
	f.Add(make([]byte, 700), uint8(2), float32(1e30))
	f.Add(bytes.Repeat([]byte{0, 0, 0x7f, 0x43, 0, 0, 0x80, 0x3f}, 21), uint8(0), float32(1)) // 255 and 1
	f.Fuzz(func(t *testing.T, raw []byte, choice uint8, factor float32) {
		x := make([]float32, min(len(raw)/4, 5000))
		for i := range x {
			x[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
			if v := x[i]; v-v != 0 {
				x[i] = 1
			}
		}
		if len(x) == 0 || !(factor > 0 && factor < 1e38) {
			return
		}
		width := []int{2, 4, 8}[choice%3]
		signs := make([]uint64, SignWords(len(x)))
		for i := range signs {
			signs[i] = uint64(factor) * 0x9e3779b97f4a7c15 * uint64(i+1)
		}
		want := make([]byte, (len(x)*width+511)/512*64)
		wantVY, wantVV := generic.levels(x, factor, width, want)
		wantX, wantBytes := slices.Clone(x), make([]int8, len(x))
		generic.quantize8(x, factor, wantBytes)
		wantIntegers := make([]byte, len(x))
		wantFit := generic.asBytes(x, 0, wantIntegers) == 0
		generic.rotate(wantX, signs)
		for _, form := range supported() {
			code, bytes, y := make([]byte, len(want)), make([]int8, len(x)), slices.Clone(x)
			vy, vv := form.levels(x, factor, width, code)
			form.quantize8(x, factor, bytes)
			integers := make([]byte, len(x))
			if fit := form.asBytes(x, 0, integers) == 0; fit != wantFit || fit && !slices.Equal(integers, wantIntegers) {
				t.Errorf("%s: %v as bytes: %v (%v), want %v (%v)", form.name, x, integers, fit, wantIntegers, wantFit)
			}
			form.rotate(y, signs)
			if !slices.Equal(code, want) || vv != wantVV || !alike(vy, wantVY) || !slices.Equal(bytes, wantBytes) || !slices.EqualFunc(y, wantX, alike) {
				t.Errorf("%s: differs from plain Go: %v %v, want %v %v", form.name, vy, vv, wantVY, wantVV)
			}
		}
	})
}

// alike reports equal bits, or neither a number.
func alike(a, b float32) bool {
	return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b
}
