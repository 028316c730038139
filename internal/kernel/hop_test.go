package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// A scene is what a Hop is aimed at.
type scene struct {
	codes   Codes
	query   []int8
	mul     float32
	sub     float32
	visited []uint64
}

// memory is where a scene lives: on the heap, or before a guard page.
type memory struct {
	bytes func(n int) []byte
	metas func(n int) []Meta
	int8s func(n int) []int8
	words func(n int) []uint64
}

func heap() memory {
	return memory{
		func(n int) []byte { return make([]byte, n) }, func(n int) []Meta { return make([]Meta, n) },
		func(n int) []int8 { return make([]int8, n) }, func(n int) []uint64 { return make([]uint64, n) },
	}
}

// newScene draws codes of a number of blocks. Some numbers of the query and
// some levels are as large as they can be.
func newScene(r *rand.Rand, m memory, rows, bits, blocks int) scene {
	s := scene{mul: float32(r.NormFloat64()), sub: float32(100 * r.NormFloat64())}
	s.codes = Codes{Bits: bits, Stride: blocks * blockBytes, Data: m.bytes(rows * blocks * blockBytes), Meta: m.metas(rows)}
	s.query, s.visited = m.int8s(blocks*blockBytes*8/bits), m.words((rows+63)/64)
	for i := range s.codes.Data {
		s.codes.Data[i] = byte(r.Uint32())
		if r.IntN(4) == 0 {
			s.codes.Data[i] = 255
		}
	}
	for i := range s.query {
		s.query[i] = []int8{int8(r.Uint32()), int8(r.Uint32()), 127, -128}[r.IntN(4)]
	}
	for i := range s.codes.Meta {
		s.codes.Meta[i] = Meta{float32(1e4 * r.NormFloat64()), float32(r.NormFloat64())}
	}
	return s
}

func (s *scene) aim(h *Hop) { h.Aim(&s.codes, s.query, s.mul, s.sub, s.visited) }

// key is the key of a row worked out one number at a time.
func (s *scene) key(row uint32) float32 {
	var dot int64
	perBlock := blockBytes * 8 / s.codes.Bits
	for j, q := range s.query {
		b := s.codes.Data[int(row)*s.codes.Stride+j/perBlock*blockBytes+j%blockBytes]
		level := int(b) >> (j % perBlock / blockBytes * s.codes.Bits) & (1<<s.codes.Bits - 1)
		dot += int64(level) * int64(q)
	}
	// A conversion keeps the compiler from fusing a product with a sum.
	product := float32(s.mul * float32(dot))
	t := product + s.sub
	product = float32(s.codes.Meta[row].B * t)
	return product + s.codes.Meta[row].A
}

// with runs fn with each form of the kernels as the active one.
func with(fn func(name string)) {
	chosen := active
	defer func() { active = chosen }()
	for _, active = range supported() {
		fn(active.name)
	}
}

func checkScore(t *testing.T, s *scene, rows []uint32, below float32) {
	t.Helper()
	var wantRows []uint32
	var wantKeys []float32
	for _, r := range rows {
		if k := s.key(r); k < below {
			wantRows, wantKeys = append(wantRows, r), append(wantKeys, k)
		}
	}
	with(func(name string) {
		h := new(Hop)
		s.aim(h)
		for _, r := range rows {
			h.Add(r)
		}
		if h.Len() != len(rows) || h.Room() != batch-len(rows) {
			t.Fatalf("%s: length %d, room %d after %d rows", name, h.Len(), h.Room(), len(rows))
		}
		keys, got := h.Score(below)
		if !slices.Equal(keys, wantKeys) || !slices.Equal(got, wantRows) {
			t.Fatalf("%s: %d bits, stride %d, %d rows below %v:\nkeys %v of %v\nwant %v of %v", name, s.codes.Bits, s.codes.Stride, len(rows), below, keys, got, wantKeys, wantRows)
		}
		if keys, got = h.Score(below); len(keys) != 0 || len(got) != 0 || h.Len() != 0 {
			t.Fatalf("%s: the batch is not empty after it was scored", name)
		}
	})
}

func TestScore(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for _, bits := range []int{2, 4, 8} {
		for _, blocks := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 17, 33} {
			const n = 300
			s := newScene(r, heap(), n, bits, blocks)
			for _, count := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 33, 255, 256} {
				rows := make([]uint32, count)
				for i := range rows {
					rows[i] = uint32(r.IntN(n))
				}
				keys := make([]float32, count)
				for i, row := range rows {
					keys[i] = s.key(row)
				}
				slices.Sort(keys)
				for _, below := range []float32{keys[0], keys[count/2], keys[count-1], float32(math.Inf(1)), float32(math.NaN())} {
					checkScore(t, &s, rows, below)
				}
			}
		}
	}
}

// TestScoreLargest meets the largest sums, of both signs, in the widest codes,
// and the pieces that keep an assembly call short.
func TestScoreLargest(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	for _, bits := range []int{2, 4, 8} {
		s := newScene(r, heap(), 18, bits, maxStride/blockBytes)
		for i := range s.codes.Data {
			s.codes.Data[i] = 255
		}
		for _, q := range []int8{127, -128} {
			for i := range s.query {
				s.query[i] = q
			}
			rows := make([]uint32, 18)
			for i := range rows {
				rows[i] = uint32(r.IntN(18))
			}
			checkScore(t, &s, rows, float32(math.Inf(1)))
		}
	}
}

func TestGather(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 16))
	const n = 200
	for _, blocks := range []int{1, 2, 3, 4, 5} {
		s := newScene(r, heap(), n, 4, blocks)
		before := make([]uint64, len(s.visited))
		for i := range before {
			before[i] = r.Uint64() & r.Uint64()
		}
		links := make([]uint32, 40)
		for i := range links {
			links[i] = uint32(r.IntN(n))
		}
		after := slices.Clone(before)
		want := []uint32{n - 1}
		for _, l := range links {
			if after[l/64]>>(l%64)&1 == 0 {
				after[l/64] |= 1 << (l % 64)
				want = append(want, l)
			}
		}
		with(func(name string) {
			copy(s.visited, before)
			h := new(Hop)
			s.aim(h)
			h.Add(n - 1)
			h.Gather(nil)
			h.Gather(links[:1])
			h.Gather(links[1:])
			h.Gather(links) // all of them visited by now
			if got := h.rows[:h.Len()]; !slices.Equal(got, want) || !slices.Equal(s.visited, after) {
				t.Fatalf("%s: %v, want %v", name, got, want)
			}
			Prefetch(links)
			Prefetch(nil)
		})
	}
}

// TestGatherBeyond: a link that is no row is the last one, in every form, and
// of no rows nothing is gathered.
func TestGatherBeyond(t *testing.T) {
	const n = 100
	s := newScene(rand.New(rand.NewPCG(37, 38)), heap(), n, 4, 1)
	with(func(name string) {
		for _, beyond := range []uint32{n, n + 1, 127, 128, 1 << 20, math.MaxInt32, 1 << 31, math.MaxUint32} {
			clear(s.visited)
			h := new(Hop)
			s.aim(h)
			h.Gather([]uint32{5, beyond, n - 1, 7, beyond})
			if got := h.rows[:h.Len()]; !slices.Equal(got, []uint32{5, n - 1, 7}) {
				t.Errorf("%s: a link to %d: %v", name, beyond, got)
			}
		}
		none := Codes{Bits: 4, Stride: 64}
		h := new(Hop)
		h.Aim(&none, s.query, 1, 0, nil)
		if h.Gather([]uint32{0}); h.Len() != 0 {
			t.Errorf("%s: a row of none", name)
		}
	})
}

func TestHopOutside(t *testing.T) {
	s := newScene(rand.New(rand.NewPCG(17, 18)), heap(), 65, 4, 2)
	full := new(Hop)
	s.aim(full)
	for range batch {
		full.Add(64)
	}
	for name, call := range map[string]func(){
		"query":   func() { new(Hop).Aim(&s.codes, s.query[:255], 1, 0, s.visited) },
		"visited": func() { new(Hop).Aim(&s.codes, s.query, 1, 0, s.visited[:1]) },
		"data":    func() { c := s.codes; c.Data = c.Data[1:]; new(Hop).Aim(&c, s.query, 1, 0, s.visited) },
		"bits":    func() { c := s.codes; c.Bits = 3; new(Hop).Aim(&c, s.query, 1, 0, s.visited) },
		"no bits": func() { c := s.codes; c.Bits = 0; new(Hop).Aim(&c, s.query, 1, 0, s.visited) },
		"stride":  func() { c := s.codes; c.Stride = 96; new(Hop).Aim(&c, s.query[:192], 1, 0, s.visited) },
		"add":     func() { full.Add(0) },
		"gather":  func() { full.Gather([]uint32{0}) },
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
	if keys, _ := full.Score(float32(math.Inf(1))); len(keys) != batch {
		t.Errorf("%d keys of a full batch", len(keys))
	}
}

// FuzzScore compares the forms over bytes of any kind.
func FuzzScore(f *testing.F) {
	f.Add([]byte("levels and numbers of a query"), uint8(1), uint8(3), uint16(9), uint64(1))
	f.Fuzz(func(t *testing.T, raw []byte, width, blocks uint8, count uint16, seed uint64) {
		bits := []int{2, 4, 8}[width%3]
		s := newScene(rand.New(rand.NewPCG(seed, 0)), heap(), 7, bits, 1+int(blocks%20))
		for i, b := range raw {
			s.codes.Data[i%len(s.codes.Data)] = b
			s.query[i*7%len(s.query)] = int8(b)
		}
		rows := make([]uint32, 1+count%batch)
		for i := range rows {
			rows[i] = uint32(i*i) % 7
		}
		checkScore(t, &s, rows, s.key(uint32(seed%7)))
	})
}

// BenchmarkScore scores batches of 24 random rows out of a set of codes of
// some size, as a search does: gathered, and scored when the next batch was.
// Compare the bytes a second with BenchmarkRead, which reads in order.
func BenchmarkScore(b *testing.B) {
	r := rand.New(rand.NewPCG(19, 20))
	for _, c := range []struct{ dim, bits int }{{128, 4}, {384, 4}, {768, 2}, {768, 4}, {64, 8}, {128, 8}, {4096, 4}} {
		blocks := (c.dim*c.bits + 511) / 512
		for _, kib := range []int{256, 4 << 10, 32 << 10, 256 << 10} {
			n := kib << 10 / (blocks * blockBytes)
			s := scene{mul: 1, codes: Codes{Data: make([]byte, n*blocks*blockBytes), Meta: make([]Meta, n), Bits: c.bits, Stride: blocks * blockBytes}}
			s.query, s.visited = make([]int8, blocks*blockBytes*8/c.bits), make([]uint64, (n+63)/64)
			for i := range s.codes.Data {
				s.codes.Data[i] = byte(i * 7)
			}
			const perHop = 24
			links := make([]uint32, perHop*4096)
			for i := range links {
				links[i] = uint32(r.IntN(n))
			}
			with(func(name string) {
				b.Run(fmt.Sprintf("%dx%d/%dKiB/%s", c.dim, c.bits, kib, name), func(b *testing.B) {
					h := [2]*Hop{new(Hop), new(Hop)}
					s.aim(h[0])
					s.aim(h[1])
					b.SetBytes(perHop * int64(s.codes.Stride+8))
					turn, at := 0, 0
					for b.Loop() {
						for _, l := range links[at : at+perHop] {
							s.visited[l/64] = 0
						}
						h[turn].Gather(links[at : at+perHop])
						turn ^= 1
						h[turn].Score(-1)
						at = (at + perHop) % len(links)
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/perHop, "ns/row")
				})
			})
		}
	}
}

// BenchmarkRead is what the machine's memory can do: it adds up all numbers
// of a working set, in order.
func BenchmarkRead(b *testing.B) {
	one := make([]float32, 1024)
	for _, kib := range []int{256, 4 << 10, 32 << 10, 256 << 10} {
		data := make([]float32, kib<<8)
		for i := range data {
			data[i] = 1 // pages that were never written are one page of zeros
		}
		out := make([]float32, len(data)/len(one))
		b.Run(fmt.Sprintf("%dKiB", kib), func(b *testing.B) {
			b.SetBytes(int64(4 * len(data)))
			for b.Loop() {
				DotRange(one, data, len(one), 0, out)
			}
		})
	}
}
