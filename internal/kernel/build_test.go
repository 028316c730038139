package kernel

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestBuildDistances compares rows of numbers through codes, packs and keys
// with the same sums over whole numbers, written out.
func TestBuildDistances(t *testing.T) {
	r := rand.New(rand.NewPCG(41, 42))
	const rows, dim, stride = 75, 100, 128
	codes, numbers, norm := make([]byte, rows*stride), make([][]int32, rows), make([]int32, rows)
	for i := range rows {
		y := random(r, dim)
		y[0], y[1] = 1000, -1000 // beyond a byte
		code := codes[i*stride : (i+1)*stride]
		Codes8(y, 40, code)
		numbers[i] = make([]int32, dim)
		for j, v := range y {
			numbers[i][j] = int32(min(max(math.RoundToEven(float64(v*40)), -127), 127))
			norm[i] += numbers[i][j] * numbers[i][j]
		}
		if code[0] != 255 || code[1] != 1 || code[dim] != 128 || code[stride-1] != 128 {
			t.Fatalf("row %d: %v", i, code)
		}
	}
	list := make([]uint32, 0, 41) // more than one pack, not two
	for i := range cap(list) {
		list = append(list, uint32((i*31+7)%rows))
	}
	packed := make([]byte, 64*stride)
	Pack8(packed, codes, stride, list)
	queries, sum := make([]int8, 4*stride), [4]int32{}
	for q := range 4 {
		Signed8(queries[q*stride:(q+1)*stride], codes[q*stride:(q+1)*stride])
		for _, v := range queries[q*stride : (q+1)*stride] {
			sum[q] += int32(v)
		}
	}
	const width = 66
	out := make([]int32, 4*width)
	Dot8x4(queries, stride, packed, out, width)
	for q := range 4 {
		keys, gathered := slices.Clone(out[q*width:][:len(list)]), make([]int32, len(list))
		Dot8Rows(queries[q*stride:][:stride], codes, stride, list, gathered)
		if !slices.Equal(keys, gathered) {
			t.Fatalf("query %d: packed %v, gathered %v", q, keys, gathered)
		}
		norms := make([]int32, len(list))
		for i, row := range list {
			norms[i] = norm[row]
		}
		Keys8(keys, norms)
		for i, row := range list {
			var want int32
			for j, v := range numbers[row] {
				d := v - numbers[q][j]
				want += d * d
			}
			if got := keys[i] + norm[q] + 256*sum[q]; got != want {
				t.Fatalf("query %d, row %d: distance %d, want %d", q, row, got, want)
			}
		}
		if last := out[q*width+len(list)-1]; out[q*width+len(list)] != last || out[q*width+63] != last {
			t.Errorf("query %d: the pack is not filled with the last row", q)
		}
	}
}

func TestNextBelow(t *testing.T) {
	d := make([]int32, 100)
	for i := range d {
		d[i] = int32(i * 37 % 100)
	}
	for _, below := range []int32{math.MinInt32, 0, 1, 50, math.MaxInt32} {
		var want, got []int
		for i, v := range d {
			if v < below {
				want = append(want, i)
			}
		}
		for i := NextBelow(d, 0, below); i < len(d); i = NextBelow(d, i+1, below) {
			got = append(got, i)
		}
		if !slices.Equal(got, want) {
			t.Errorf("below %d: %v, want %v", below, got, want)
		}
	}
	if NextBelow(nil, 0, 1) != 0 || NextBelow(d, 1000, 1) != len(d) {
		t.Error("nothing to look at")
	}
}

func TestBuildOutside(t *testing.T) {
	codes, query, out, packed := make([]byte, 640), make([]int8, 512), make([]int32, 256), make([]byte, 32*128)
	for name, call := range map[string]func(){
		"row":           func() { Dot8Rows(query[:128], codes, 128, []uint32{0, 5}, out) },
		"row far":       func() { Dot8Rows(query[:128], codes, 128, []uint32{math.MaxUint32}, out) },
		"stride":        func() { Dot8Rows(query[:128], codes, 64, []uint32{0}, out) },
		"stride huge":   func() { Dot8Rows(query[:128], codes, math.MaxInt, []uint32{0, 2}, out) },
		"query":         func() { Dot8Rows(query[:100], codes, 128, []uint32{0}, out) },
		"out":           func() { Dot8Rows(query[:128], codes, 128, []uint32{0, 1}, out[:1]) },
		"pack row":      func() { Pack8(packed, codes, 128, []uint32{5}) },
		"pack short":    func() { Pack8(packed[:len(packed)-1], codes, 128, []uint32{4}) },
		"pack stride":   func() { Pack8(packed, codes, 100, []uint32{1}) },
		"packs part":    func() { Dot8x4(query, 128, packed[:len(packed)-128], out, 32) },
		"packs queries": func() { Dot8x4(query[:511], 128, packed, out, 32) },
		"packs width":   func() { Dot8x4(query, 128, packed, out, 31) },
		"packs out":     func() { Dot8x4(query, 128, packed, out[:127], 32) },
		"packs stride":  func() { Dot8x4(query, 96, packed[:32*96], out, 32) },
		"keys":          func() { Keys8(out, out[:255]) },
		"from":          func() { NextBelow(out, -1, 0) },
		"codes":         func() { Codes8(make([]float32, 9), 1, codes[:8]) },
		"signed":        func() { Signed8(query[:8], codes[:9]) },
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
	Dot8Rows(nil, codes, 64, []uint32{1}, out)
	Dot8Rows(query[:128], codes, 128, nil, nil)
	Pack8(nil, codes, 128, nil)
	Dot8x4(query, 128, nil, nil, 0)
	Pack8(packed, codes, 128, []uint32{4})
}
