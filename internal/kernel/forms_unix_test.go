//go:build unix

package kernel

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"
)

// guardedOf is guarded for numbers of any type.
func guardedOf[T any](t *testing.T, n int) []T {
	t.Helper()
	var zero T
	size := n * int(unsafe.Sizeof(zero))
	end := guarded(t, (size+7)/4)
	return unsafe.Slice((*T)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(end)), 4*len(end)-size)), n)
}

// last is the end of a guarded slice, n numbers before the guard page.
func last[T any](s []T, n int) []T { return s[len(s)-n:] }

// against runs fn for the plain Go form and for every other one.
func against(t *testing.T, fn func(want, got form)) {
	for _, f := range supported() {
		if f.name != generic.name {
			fn(generic, f)
		}
	}
}

// spread draws numbers of many sizes, some of which are halves and wholes.
func spread(r *rand.Rand, out []float32) {
	for i := range out {
		switch r.IntN(8) {
		case 0:
			out[i] = float32(r.IntN(600)-300) / 2
		case 1:
			out[i] = float32(math.Copysign(0, r.NormFloat64()))
		case 2:
			out[i] = float32(math.Ldexp(r.NormFloat64(), r.IntN(60)-30))
		default:
			out[i] = float32(r.NormFloat64())
		}
	}
}

// same reports equal bits.
func same(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
}

// TestBuildForms holds every form against plain Go, in memory that ends where
// nothing may be read or written.
func TestBuildForms(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	const most = 200
	y, bytes, wantBytes := guardedOf[float32](t, most), guardedOf[byte](t, most), make([]byte, most)
	signed, wantSigned := guardedOf[int8](t, most), make([]int8, most)
	d, norm := guardedOf[int32](t, most), guardedOf[int32](t, most)
	against(t, func(want, got form) {
		for n := 1; n <= most; n++ {
			spread(r, y)
			inverse := float32(math.Ldexp(1, r.IntN(9)))
			got.codes8(last(y, n), inverse, last(bytes, n))
			want.codes8(last(y, n), inverse, wantBytes[:n])
			if !slices.Equal(last(bytes, n), wantBytes[:n]) {
				t.Fatalf("%s: codes of %v times %v: %v, want %v", got.name, last(y, n), inverse, last(bytes, n), wantBytes[:n])
			}
			got.signed8(last(signed, n), last(bytes, n))
			want.signed8(wantSigned[:n], last(bytes, n))
			if !slices.Equal(last(signed, n), wantSigned[:n]) {
				t.Fatalf("%s: %d bytes of other signs", got.name, n)
			}
			for i := range d {
				d[i], norm[i] = int32(r.Uint32()), int32(r.Uint32())
			}
			keys := slices.Clone(last(d, n))
			want.keys8(keys, last(norm, n))
			got.keys8(last(d, n), last(norm, n))
			if !slices.Equal(last(d, n), keys) {
				t.Fatalf("%s: keys %v, want %v", got.name, last(d, n), keys)
			}
		}
	})
}

// TestKeys16Forms: any numbers, as many rows as packs have.
func TestKeys16Forms(t *testing.T) {
	r := rand.New(rand.NewPCG(47, 48))
	const most = 4 * packRows
	dot, norm, across := guardedOf[int32](t, 8*most), guardedOf[int32](t, most), guardedOf[uint16](t, most*packRows)
	odd := []int32{0, 1, math.MinInt32, math.MaxInt32, 1<<24 + 1, 1<<24 - 1, 1<<25 + 2, 1<<30 + 32}
	against(t, func(want, got form) {
		for rows := packRows; rows <= most; rows += packRows {
			for shift := range 32 {
				var bias [8]int32
				for i := range bias {
					bias[i] = int32(r.Uint32()) >> shift
				}
				for i := range dot {
					dot[i] = int32(r.Uint32()) >> shift
				}
				for i := range norm {
					norm[i] = int32(r.Uint32()) >> shift
				}
				copy(bias[:], odd)
				for i := range odd { // distances of which some round to the next
					dot[r.IntN(len(dot))], norm[r.IntN(rows)] = 0, odd[i]
				}
				width := rows + r.IntN((len(dot)-rows)/7-rows+1)
				dot, norm, across := last(dot, 7*width+rows), last(norm, rows), last(across, (rows-1)*packRows+8)
				clear(across)
				keys, other := slices.Clone(dot), slices.Clone(across)
				want.keys16(keys, width, &bias, norm, other)
				got.keys16(dot, width, &bias, norm, across)
				if !slices.Equal(dot, keys) || !slices.Equal(across, other) {
					t.Fatalf("%s: other keys of %d rows", got.name, rows)
				}
				in := last(across, rows*packRows/8)
				for i := range in {
					in[i] = uint16(r.Uint32())
				}
				lines := len(in) / packRows
				out := last(dot, (lines-1)*(packRows+1)+packRows)
				wide := slices.Clone(out)
				want.widen(wide, packRows+1, in)
				got.widen(out, packRows+1, in)
				if !slices.Equal(out, wide) {
					t.Fatalf("%s: %d numbers widened to others", got.name, len(in))
				}
			}
		}
	})
}

// TestSiftForms: what is behind the result has no meaning, in every form.
func TestSiftForms(t *testing.T) {
	r := rand.New(rand.NewPCG(29, 30))
	const most = 150
	d, norm, far := guardedOf[int32](t, most), guardedOf[int32](t, most), guardedOf[int32](t, most)
	rows, at, outD, outAt := guardedOf[uint32](t, most), guardedOf[uint16](t, most), guardedOf[int32](t, most), guardedOf[uint16](t, most)
	against(t, func(want, got form) {
		for i := range 4 * most {
			n, spread := 1+i/4, int32(1)<<(2+r.IntN(28))
			for i := range most {
				d[i], norm[i], far[i], rows[i], at[i] = r.Int32N(spread)-spread/4, r.Int32N(spread), r.Int32N(spread)-spread/2, r.Uint32(), uint16(r.Uint32())
			}
			below := last(d, n)[r.IntN(n)]
			if w, g := want.countBelow(last(d, n), below), got.countBelow(last(d, n), below); w != g {
				t.Fatalf("%s: %d of %v are below %d, want %d", got.name, g, last(d, n), below, w)
			}
			wantD, wantAt := make([]int32, n), make([]uint16, n)
			w := want.below(last(d, n), last(at, n), below, wantD, wantAt)
			for _, in := range []bool{false, true} {
				toD, toAt := last(outD, n), last(outAt, n)
				if in { // its own memory
					copy(toD, last(d, n))
					copy(toAt, last(at, n))
				}
				fromD, fromAt := last(d, n), last(at, n)
				if in {
					fromD, fromAt = toD, toAt
				}
				if g := got.below(fromD, fromAt, below, toD, toAt); g != w || !slices.Equal(toD[:w], wantD[:w]) || !slices.Equal(toAt[:w], wantAt[:w]) {
					t.Fatalf("%s: %v below %d: %v %v, want %v %v", got.name, last(d, n), below, toD[:g], toAt[:g], wantD[:w], wantAt[:w])
				}
			}
			wantD, wantNorm, wantRows := slices.Clone(last(d, n)), slices.Clone(last(norm, n)), slices.Clone(last(rows, n))
			bias := r.Int32N(spread) / 2
			w = want.prune(wantD, wantNorm, last(far, n), wantRows, bias)
			g := got.prune(last(d, n), last(norm, n), last(far, n), last(rows, n), bias)
			if g != w || !slices.Equal(last(d, n)[:w], wantD[:w]) || !slices.Equal(last(norm, n)[:w], wantNorm[:w]) || !slices.Equal(last(rows, n)[:w], wantRows[:w]) {
				t.Fatalf("%s: %d of %d candidates stay, want %d: %v, want %v", got.name, g, n, w, last(rows, n)[:g], wantRows[:w])
			}
		}
	})
}

// TestNearerForms: NaN is not less than anything, nor is anything less than NaN.
func TestNearerForms(t *testing.T) {
	r := rand.New(rand.NewPCG(75, 76))
	const most = 320
	keys, rows, wantRows := guardedOf[float32](t, most), guardedOf[uint32](t, most), make([]uint32, most)
	odd := []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), 0, float32(math.Copysign(0, -1)), 1e-45}
	against(t, func(want, got form) {
		for n := panelRows; n <= most; n += panelRows {
			for range 20 {
				k, first := last(keys, n), r.Uint32()
				for i := range k {
					if k[i] = float32(r.NormFloat64()); r.IntN(8) == 0 {
						k[i] = odd[r.IntN(len(odd))]
					}
				}
				for _, below := range append(odd, k[r.IntN(n)]) {
					w := want.nearer(k, first, below, wantRows)
					g := got.nearer(k, first, below, last(rows, n))
					if g != w || !slices.Equal(last(rows, n)[:w], wantRows[:w]) {
						t.Fatalf("%s: %d of %v from %d on are below %v: %v, want %v", got.name, g, k, first, below, last(rows, n)[:g], wantRows[:w])
					}
				}
			}
		}
	})
}

func TestDot8Forms(t *testing.T) {
	r := rand.New(rand.NewPCG(23, 24))
	against(t, func(want, got form) {
		for _, stride := range []int{64, 128, 192, 320, 1024, maxStride} {
			const rows = 70
			all, queries := guardedOf[byte](t, rows*stride), guardedOf[int8](t, 8*stride)
			for i := range all {
				all[i] = []byte{byte(r.Uint32()), 0, 255}[r.IntN(3)]
			}
			for i := range queries {
				queries[i] = []int8{int8(r.Uint32()), -128, 127}[r.IntN(3)]
			}
			packs := 1 + r.IntN(2)
			packed := guardedOf[byte](t, packs*packRows*stride)
			wantPacked := make([]byte, len(packed))
			for p := range packs {
				var list [packRows]uint32
				for i := range list {
					list[i] = uint32(r.IntN(rows))
				}
				got.pack8(packed[p*packRows*stride:][:packRows*stride], all, stride, &list)
				want.pack8(wantPacked[p*packRows*stride:][:packRows*stride], all, stride, &list)
				part := blockBytes * (1 + r.IntN(stride/blockBytes)) // of each row
				some, wantSome := guardedOf[byte](t, packRows*part), make([]byte, packRows*part)
				got.pack8(some, all, stride, &list)
				want.pack8(wantSome, all, stride, &list)
				if !slices.Equal(some, wantSome) {
					t.Fatalf("%s: packs of %d bytes of rows of %d differ", got.name, part, stride)
				}
			}
			if !slices.Equal(packed, wantPacked) {
				t.Fatalf("%s: packs of rows of %d bytes differ", got.name, stride)
			}
			width := packs*packRows + r.IntN(5)
			out, wantOut := guardedOf[int32](t, 7*width+packs*packRows), make([]int32, 7*width+packs*packRows)
			for i := range out {
				out[i], wantOut[i] = 99, 99 // what lies between the rows of the result stays
			}
			got.dot8x8(queries, stride, packed, out, width)
			want.dot8x8(queries, stride, packed, wantOut, width)
			if !slices.Equal(out, wantOut) {
				t.Fatalf("%s: eight queries of %d bytes: %v, want %v", got.name, stride, out, wantOut)
			}
			for count := 1; count <= 9; count++ {
				list := last(guardedOf[uint32](t, count), count)
				for i := range list {
					list[i] = uint32(r.IntN(rows))
				}
				query := queries[8*stride-(stride+64)/128*64:] // some of them shorter than a row
				sums, wantSums := guardedOf[int32](t, count), make([]int32, count)
				got.dot8Rows(query, all, stride, list, sums)
				want.dot8Rows(query, all, stride, list, wantSums)
				if !slices.Equal(sums, wantSums) {
					t.Fatalf("%s: rows %v of %d bytes: %v, want %v", got.name, list, stride, sums, wantSums)
				}
				two, bias := queries[len(queries)-2*len(query):], [2]int32{r.Int32(), r.Int32()}
				norm, one, least := guardedOf[int32](t, count), guardedOf[int32](t, count), guardedOf[int32](t, count)
				for i := range norm {
					norm[i] = int32(r.Uint32())
				}
				got.least8(two, &bias, all, stride, list, norm, one, least)
				want.dot8Rows(two[:len(query)], all, stride, list, sums)
				want.dot8Rows(two[len(query):], all, stride, list, wantSums)
				for i, n := range norm {
					far := [2]int32{bias[0] + n - 2*sums[i], bias[1] + n - 2*wantSums[i]}
					if one[i] != far[0] || least[i] != min(far[0], far[1]) {
						t.Fatalf("%s: two queries of row %d of %d bytes: %d and %d, want %d", got.name, list[i], stride, one[i], least[i], far)
					}
				}
			}
		}
	})
}

// TestCodecForms wants the same bits of every form.
func TestCodecForms(t *testing.T) {
	r := rand.New(rand.NewPCG(25, 26))
	const most = 300
	x, y := guardedOf[float32](t, most), guardedOf[float32](t, most)
	signs, bytes, integers := guardedOf[uint64](t, most), guardedOf[int8](t, most), guardedOf[byte](t, most)
	against(t, func(want, got form) {
		for n := 1; n <= most; n++ {
			a, b := last(x, n), last(y, n)
			check := func(what string, run func(f form)) {
				t.Helper()
				spread(r, a)
				spread(r, b)
				oldA, oldB := slices.Clone(a), slices.Clone(b)
				run(want)
				wantA, wantB := slices.Clone(a), slices.Clone(b)
				copy(a, oldA)
				copy(b, oldB)
				run(got)
				if !same(a, wantA) || !same(b, wantB) {
					t.Fatalf("%s: %s of %v and %v: %v and %v, want %v and %v", got.name, what, oldA, oldB, a, b, wantA, wantB)
				}
			}
			words := last(signs, (n+63)/64)
			for i := range words {
				words[i] = r.Uint64()
			}
			check("flip", func(f form) { f.flip(a, words) })
			check("fold", func(f form) { f.fold(a, b) })
			check("scale", func(f form) { f.scale(a, b, 1.7) })
			check("scale in place", func(f form) { f.scale(a, a, 1.7) })
			check("subtract", func(f form) { f.subtract(a, b) })
			if n&(n-1) == 0 {
				check("hadamard", func(f form) { f.hadamard(a, 0.3) })
			}
			if w, g := want.largest(a), got.largest(a); w != g {
				t.Fatalf("%s: %v is the largest of %v, want %v", got.name, g, a, w)
			}
			last(bytes, n)[0] = 1
			got.quantize8(a, 3, last(bytes, n))
			wantBytes := make([]int8, n)
			want.quantize8(a, 3, wantBytes)
			if !slices.Equal(last(bytes, n), wantBytes) {
				t.Fatalf("%s: %v as bytes: %v, want %v", got.name, a, last(bytes, n), wantBytes)
			}
			for _, other := range []float32{0, 1, -1, 0.5, 255, 256, -129, float32(math.Copysign(0, -1)), 1 << 31, -1 << 31, 3e9, float32(math.NaN()), float32(math.Inf(-1))} {
				base := int32(-128 * r.IntN(2))
				for i := range a {
					a[i] = float32(base + int32(r.IntN(256)))
				}
				if other != 0 {
					a[r.IntN(n)] = other
				}
				w, g := make([]byte, n), last(integers, n)
				lost, wantLost := got.asBytes(a, base, g) != 0, want.asBytes(a, base, w) != 0
				if lost != wantLost || !lost && !slices.Equal(g, w) {
					t.Fatalf("%s: %v from %d on as bytes: %v (lost: %v), want %v (%v)", got.name, a, base, g, lost, w, wantLost)
				}
			}
		}
		for n := 512; n <= 4096; n *= 2 {
			a, b := guardedOf[float32](t, n), make([]float32, n)
			spread(r, a)
			copy(b, a)
			got.hadamard(a, 0.1)
			if want.hadamard(b, 0.1); !same(a, b) {
				t.Fatalf("%s: transform of %d numbers", got.name, n)
			}
		}
	})
}

func TestLevelsForms(t *testing.T) {
	r := rand.New(rand.NewPCG(27, 28))
	const most = 600
	y, code := guardedOf[float32](t, most), guardedOf[byte](t, most+64)
	against(t, func(want, got form) {
		for i := range 3 * most {
			n, bits := 1+i/3, []int{2, 4, 8}[i%3]
			size := (n*bits + 511) / 512 * 64
			a, g, w := last(y, n), last(code, size), make([]byte, size)
			spread(r, a)
			for i := range g {
				g[i] = 255
			}
			step := float32(math.Ldexp(1, r.IntN(9)-2))
			vy, vv := got.levels(a, step, bits, g)
			wantVY, wantVV := want.levels(a, step, bits, w)
			if !slices.Equal(g, w) || math.Float32bits(vy) != math.Float32bits(wantVY) || vv != wantVV {
				t.Fatalf("%s: %d numbers, %d bits: %v %v, want %v %v\n%v\n%v", got.name, n, bits, vy, vv, wantVY, wantVV, g, w)
			}
		}
	})
}
