package kernel

import (
	"encoding/binary"
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
	Pack8(packed, codes, stride, stride, list)
	queries, sum := make([]int8, 8*stride), [8]int32{}
	for q := range 8 {
		Signed8(queries[q*stride:(q+1)*stride], codes[q*stride:(q+1)*stride])
		for _, v := range queries[q*stride : (q+1)*stride] {
			sum[q] += int32(v)
		}
	}
	const width = 66
	out := make([]int32, 8*width)
	Dot8x8(queries, stride, packed, out, width)
	for q := range 8 {
		keys, gathered := slices.Clone(out[q*width:][:len(list)]), make([]int32, len(list))
		Dot8Rows(queries[q*stride:][:stride], codes, stride, list, gathered)
		if !slices.Equal(keys, gathered) {
			t.Fatalf("query %d: packed %v, gathered %v", q, keys, gathered)
		}
		norms := make([]int32, len(list))
		for i, row := range list {
			norms[i] = norm[row]
		}
		if q > 0 { // with the query before
			bias, one, least := [2]int32{-1000, int32(r.IntN(2000))}, make([]int32, len(list)), make([]int32, len(list))
			both := queries[(q-1)*stride:][:2*stride]
			Least8(both, &bias, codes, stride, list, norms, one, least)
			for i, row := range list {
				var dots [2]int32
				for j, s := range both {
					dots[j/stride] += int32(s) * int32(codes[int(row)*stride+j%stride])
				}
				want := bias[0] + norms[i] - 2*dots[0]
				if both := min(want, bias[1]+norms[i]-2*dots[1]); one[i] != want || least[i] != both {
					t.Fatalf("queries %d and %d, row %d: %d and %d, want %d and %d", q-1, q, row, one[i], least[i], want, both)
				}
			}
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

// TestLeast8Pieces: so many long rows that the scheduler is let in between them.
func TestLeast8Pieces(t *testing.T) {
	r := rand.New(rand.NewPCG(49, 50))
	const size, stored = 4096, 9
	for _, rows := range []int{preemptAfter / size, preemptAfter/size + 1, 2*preemptAfter/size + 3} {
		codes, queries, list := make([]byte, stored*size), make([]int8, 2*size), make([]uint32, rows)
		for i := range codes {
			codes[i] = byte(r.Uint32())
		}
		for i := range queries {
			queries[i] = int8(r.IntN(255) - 127)
		}
		norm, one, least := make([]int32, rows), make([]int32, rows), make([]int32, rows)
		for i := range list {
			list[i], norm[i] = r.Uint32N(stored), r.Int32N(1000)
		}
		first, second := make([]int32, rows), make([]int32, rows)
		Dot8Rows(queries[:size], codes, size, list, first)
		Dot8Rows(queries[size:], codes, size, list, second)
		Least8(queries, &[2]int32{5, 7}, codes, size, list, norm, one, least)
		for i, n := range norm {
			a, b := 5+n-2*first[i], 7+n-2*second[i]
			if one[i] != a || least[i] != min(a, b) {
				t.Fatalf("row %d of %d: %d and %d, want %d and %d", i, rows, one[i], least[i], a, min(a, b))
			}
		}
	}
}

// TestKeys16 holds keys to what they stand for: the same from both ends, ascending with the
// distance, and apart where distances differ by a two-thousandth.
func TestKeys16(t *testing.T) {
	r := rand.New(rand.NewPCG(45, 46))
	const rows, width = 96, 100
	dot, want, across := make([]int32, 8*width), make([]int32, 8*width), make([]uint16, (rows-1)*32+8)
	norm, bias := make([]int32, rows), [8]int32{}
	for j := range norm {
		norm[j] = 1<<28 + r.Int32N(1<<27)
	}
	for i := range bias {
		bias[i] = 1<<28 + r.Int32N(1<<27)
		for j := range rows {
			d := r.Int32N(math.MaxInt32 >> r.IntN(31)) // the square of a distance
			d -= (bias[i] + norm[j] - d) & 1
			dot[i*width+j], want[i*width+j] = (bias[i]+norm[j]-d)/2, d
		}
	}
	Keys16(dot, width, &bias, norm, across)
	var by [][2]int32 // distance and key
	for i := range 8 {
		for j := range rows {
			key := dot[i*width+j]
			if uint16(key) != across[32*j+i] || key < 0 || key > math.MaxUint16 {
				t.Fatalf("query %d, row %d: key %d, and %d across", i, j, key, across[32*j+i])
			}
			by = append(by, [2]int32{want[i*width+j], key})
		}
		if dot[i*width+rows] != 0 {
			t.Fatalf("query %d: a key behind those of the rows", i)
		}
	}
	slices.SortFunc(by, func(a, b [2]int32) int { return int(a[0]) - int(b[0]) })
	for n := range by[1:] {
		low, high := by[n], by[n+1]
		if low[1] > high[1] || low[1] == high[1] && high[0] > 1 && float64(high[0]) > 1.0005*float64(low[0])+1 {
			t.Errorf("distances %d and %d have the keys %d and %d", low[0], high[0], low[1], high[1])
		}
	}
	out := make([]int32, 3*width)
	Widen(out, width, across[:96])
	for n := range 96 {
		if got := out[n/32*width+n%32]; got != int32(across[n]) {
			t.Fatalf("number %d is %d, want %d", n, got, across[n])
		}
	}
}

// TestSift holds what stays to its definition, written out.
func TestSift(t *testing.T) {
	r := rand.New(rand.NewPCG(43, 44))
	for n := range 120 {
		d, at := make([]int32, n), make([]uint16, n)
		for i := range d {
			d[i], at[i] = r.Int32N(100)-50, uint16(r.Uint32())
		}
		for _, below := range []int32{math.MinInt32, -50, 0, 1, 50, math.MaxInt32} {
			var wantD []int32
			var wantAt []uint16
			for i, v := range d {
				if v < below {
					wantD, wantAt = append(wantD, v), append(wantAt, at[i])
				}
			}
			outD, outAt := make([]int32, n), make([]uint16, n)
			got := Below(d, at, below, outD, outAt)
			if count := CountBelow(d, below); count != len(wantD) || !slices.Equal(outD[:got], wantD) || !slices.Equal(outAt[:got], wantAt) {
				t.Fatalf("%d below %d: %v, want %v", count, below, outD[:got], wantD)
			}
		}
		norm, far, rows, bias := make([]int32, n), make([]int32, n), make([]uint32, n), r.Int32N(100)
		var wantD, wantNorm []int32
		var wantRows []uint32
		for i := range d {
			norm[i], far[i], rows[i] = r.Int32N(100), r.Int32N(200)-150, r.Uint32()
			if i%5 == 0 {
				far[i] = d[i] - bias // at the border
			}
			if far := bias + far[i]; far > 0 && far >= d[i] {
				wantD, wantNorm, wantRows = append(wantD, d[i]), append(wantNorm, norm[i]), append(wantRows, rows[i])
			}
		}
		got := Prune(d, norm, far, rows, bias)
		if !slices.Equal(d[:got], wantD) || !slices.Equal(norm[:got], wantNorm) || !slices.Equal(rows[:got], wantRows) {
			t.Fatalf("%d candidates: %v stay, want %v", n, rows[:got], wantRows)
		}
	}
}

// FuzzSift holds every form to plain Go for any numbers.
func FuzzSift(f *testing.F) {
	f.Add([]byte("0123456789abcdef0123456789abcdef0123456789abcdef"), int32(1<<29))
	f.Add(make([]byte, 700), int32(0))
	f.Fuzz(func(t *testing.T, raw []byte, below int32) {
		n := min(len(raw)/12, 3000)
		d, norm, far, rows, at := make([]int32, n), make([]int32, n), make([]int32, n), make([]uint32, n), make([]uint16, n)
		for i := range n {
			d[i] = int32(binary.LittleEndian.Uint32(raw[12*i:]))
			norm[i] = int32(binary.LittleEndian.Uint32(raw[12*i+4:]))
			far[i] = int32(binary.LittleEndian.Uint32(raw[12*i+8:]))
			rows[i], at[i] = uint32(i), uint16(i)
		}
		if n == 0 {
			return
		}
		run := func(f form) (count, kept int, numbers []int32, names []uint16, left []uint32) {
			outD, outAt := make([]int32, n), make([]uint16, n)
			count = f.below(d, at, below, outD, outAt)
			if f.countBelow(d, below) != count {
				t.Errorf("%s: counts another number than it keeps", f.name)
			}
			left = slices.Clone(rows)
			kept = f.prune(slices.Clone(d), slices.Clone(norm), far, left, below)
			return count, kept, outD[:count], outAt[:count], left[:kept]
		}
		count, kept, numbers, names, left := run(generic)
		for _, form := range supported() {
			c, k, d, at, l := run(form)
			if c != count || k != kept || !slices.Equal(d, numbers) || !slices.Equal(at, names) || !slices.Equal(l, left) {
				t.Errorf("%s: differs from plain Go: %d and %d, want %d and %d", form.name, c, k, count, kept)
			}
		}
	})
}

// FuzzKeys16 holds every form to plain Go for any numbers.
func FuzzKeys16(f *testing.F) {
	f.Add([]byte("0123456789abcdef0123456789abcdef0123456789abcdef"), int32(1<<29))
	f.Add([]byte{0, 0, 0, 0x80, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 1, 1, 0, 0, 1}, int32(math.MinInt32))
	f.Fuzz(func(t *testing.T, raw []byte, bias int32) {
		if len(raw) < 4 {
			return
		}
		const rows = 2 * packRows
		numbers := make([]int32, 9*rows)
		for i := range numbers {
			numbers[i] = int32(binary.LittleEndian.Uint32(raw[i*5%(len(raw)-3):]))
		}
		run := func(f form) ([]int32, []uint16) {
			dot, across := slices.Clone(numbers[:8*rows]), make([]uint16, rows*packRows)
			f.keys16(dot, rows, &[8]int32{bias, 0, 1, -1, math.MinInt32, math.MaxInt32, 1 << 24, -bias}, numbers[8*rows:], across)
			return dot, across
		}
		keys, across := run(generic)
		for _, form := range supported() {
			if k, a := run(form); !slices.Equal(k, keys) || !slices.Equal(a, across) {
				t.Errorf("%s: other keys than plain Go", form.name)
			}
		}
	})
}

func TestBuildOutside(t *testing.T) {
	codes, query, out, packed := make([]byte, 640), make([]int8, 1024), make([]int32, 256), make([]byte, 32*128)
	for name, call := range map[string]func(){
		"row":           func() { Dot8Rows(query[:128], codes, 128, []uint32{0, 5}, out) },
		"row far":       func() { Dot8Rows(query[:128], codes, 128, []uint32{math.MaxUint32}, out) },
		"stride":        func() { Dot8Rows(query[:128], codes, 64, []uint32{0}, out) },
		"stride huge":   func() { Dot8Rows(query[:128], codes, math.MaxInt, []uint32{0, 2}, out) },
		"query":         func() { Dot8Rows(query[:100], codes, 128, []uint32{0}, out) },
		"out":           func() { Dot8Rows(query[:128], codes, 128, []uint32{0, 1}, out[:1]) },
		"pack row":      func() { Pack8(packed, codes, 128, 128, []uint32{5}) },
		"pack short":    func() { Pack8(packed[:len(packed)-1], codes, 128, 128, []uint32{4}) },
		"pack stride":   func() { Pack8(packed, codes, 100, 128, []uint32{1}) },
		"pack width":    func() { Pack8(packed, codes, 128, 100, []uint32{1}) },
		"packs part":    func() { Dot8x8(query, 128, packed[:len(packed)-128], out, 32) },
		"packs queries": func() { Dot8x8(query[:1023], 128, packed, out, 32) },
		"packs width":   func() { Dot8x8(query, 128, packed, out, 31) },
		"packs out":     func() { Dot8x8(query, 128, packed, out[:255], 32) },
		"packs stride":  func() { Dot8x8(query, 96, packed[:32*96], out, 32) },
		"keys":          func() { Keys8(out, out[:255]) },
		"keys16 rows":   func() { Keys16(out, 32, new([8]int32), out[:31], make([]uint16, 1024)) },
		"keys16 width":  func() { Keys16(out, 31, new([8]int32), make([]int32, 32), make([]uint16, 1024)) },
		"keys16 dot":    func() { Keys16(out[:255], 32, new([8]int32), make([]int32, 32), make([]uint16, 1024)) },
		"keys16 across": func() { Keys16(out, 32, new([8]int32), make([]int32, 32), make([]uint16, 31*32+7)) },
		"widen in":      func() { Widen(out, 32, make([]uint16, 33)) },
		"widen width":   func() { Widen(out, 31, make([]uint16, 64)) },
		"widen out":     func() { Widen(out[:95], 64, make([]uint16, 64)) },
		"below at":      func() { Below(out, make([]uint16, 255), 0, out, make([]uint16, 256)) },
		"below out":     func() { Below(out, make([]uint16, 256), 0, out[:255], make([]uint16, 256)) },
		"below names":   func() { Below(out, make([]uint16, 256), 0, out, make([]uint16, 255)) },
		"prune norms":   func() { Prune(out, out[:255], out, make([]uint32, 256), 0) },
		"prune rows":    func() { Prune(out, out, out, make([]uint32, 255), 0) },
		"prune far":     func() { Prune(out, out, out[:255], make([]uint32, 256), 0) },
		"least row":     func() { Least8(query[:256], new([2]int32), codes, 128, []uint32{5}, out, out, out) },
		"least stride":  func() { Least8(query[:256], new([2]int32), codes, 64, []uint32{0}, out, out, out) },
		"least queries": func() { Least8(query[:192], new([2]int32), codes, 128, []uint32{0}, out, out, out) },
		"least none":    func() { Least8(nil, new([2]int32), codes, 0, []uint32{0}, out, out, out) },
		"least one":     func() { Least8(query[:256], new([2]int32), codes, 128, []uint32{0, 1}, out, out[:1], out) },
		"least norm":    func() { Least8(query[:256], new([2]int32), codes, 128, []uint32{0, 1}, out[:1], out, out) },
		"least both":    func() { Least8(query[:256], new([2]int32), codes, 128, []uint32{0, 1}, out, out, out[:1]) },
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
	Pack8(nil, codes, 128, 128, nil)
	Dot8x8(query, 128, nil, nil, 0)
	Pack8(packed, codes, 128, 128, []uint32{4})
}
