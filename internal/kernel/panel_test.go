package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// checkPanels compares the keys of panels with those of the rows that they were made of,
// scored one by one, and what is said about them.
func checkPanels(t *testing.T, s *scene, p *Panels, of []uint32, first, n int, below float32) {
	t.Helper()
	n = max(0, min(n, WholePanels(len(of))-first))
	keys := make([]float32, 0, n)
	var near []uint32
	var least [panelRows]float32
	for i := range least {
		least[i] = float32(math.Inf(1))
	}
	for i := first; i < first+n; i++ {
		key := float32(math.NaN()) // of no row
		if i < len(of) {
			key = s.key(of[i])
		}
		if keys = append(keys, key); key < least[i%panelRows] {
			least[i%panelRows] = key
		}
		if key < below {
			near = append(near, uint32(i))
		}
	}
	slices.Sort(least[:])
	with(func(name string) {
		h := new(Hop)
		h.AimPanels(p, s.query, s.mul, s.sub)
		got, rows := make([]float32, n), make([]uint32, n)
		for range 2 { // the second finds what the first left
			h.PanelKeys(first, got)
			if r := Nearer(got, uint32(first), below, rows); !slices.Equal(r, near) {
				t.Fatalf("%s: %d bits, rows %d to %d of %d below %v: %v, want %v", name, s.codes.Bits, first, first+n, len(of), below, r, near)
			}
			for i := max(0, len(of)-first); i < n; i++ {
				if got[i] < math.MaxFloat32 {
					t.Fatalf("%s: %d bits, row %d of %d has a key", name, s.codes.Bits, first+i, len(of))
				}
				got[i] = float32(math.NaN())
			}
			if !same(got, keys) {
				t.Fatalf("%s: %d bits, stride %d, rows %d to %d of %d: keys\n%v want\n%v",
					name, s.codes.Bits, s.codes.Stride, first, first+n, len(of), got, keys)
			}
			for i, want := range least {
				if got := h.Bound(i + 1); got != want {
					t.Fatalf("%s: %d bits, rows %d to %d of %d: bound of %d: %v, want %v", name, s.codes.Bits, first, first+n, len(of), i+1, got, want)
				}
			}
		}
	})
}

// somePanels makes panels of rows of a scene, some of them more than once.
func somePanels(r *rand.Rand, s *scene, n int) (*Panels, []uint32) {
	of := make([]uint32, n)
	for i := range of {
		of[i] = uint32(r.IntN(len(s.codes.Meta)))
	}
	return NewPanels(&s.codes, s.codes.Stride, of), of
}

// halfPanels makes panels without half of the last block, and a query of zeros for it.
func halfPanels(s *scene, of []uint32) *Panels {
	last := s.query[len(s.query)-8/s.codes.Bits*blockBytes:]
	for i := range last {
		if i%blockBytes >= blockBytes/2 {
			last[i] = 0
		}
	}
	return NewPanels(&s.codes, s.codes.Stride-blockBytes/2, of)
}

// TestPanelHalf: half of the last block is as if the query had zeros for the rest.
func TestPanelHalf(t *testing.T) {
	r := rand.New(rand.NewPCG(63, 64))
	for _, bits := range []int{2, 4, 8} {
		for _, blocks := range []int{1, 2, 4} {
			s := newScene(r, heap(), 70, bits, blocks)
			all, of := somePanels(r, &s, 40)
			half := halfPanels(&s, of)
			if half.Width() != len(s.query) || half.Stride() != all.Stride()-blockBytes/2 || half.Bytes() >= all.Bytes() {
				t.Fatalf("%d bytes, a query of %d", half.Stride(), half.Width())
			}
			for _, p := range []*Panels{all, half} {
				checkPanels(t, &s, p, of, 0, 48, s.key(of[3]))
			}
		}
	}
}

func TestPanelKeys(t *testing.T) {
	r := rand.New(rand.NewPCG(61, 62))
	for _, bits := range []int{2, 4, 8} {
		for _, blocks := range []int{1, 2, 3, 5, 8, 13} {
			s := newScene(r, heap(), 100, bits, blocks)
			for _, n := range []int{1, 2, 15, 16, 17, 31, 32, 33, 100, 255, 256, 257, 700} {
				p, of := somePanels(r, &s, n)
				if p.Len() != n || p.Bytes() != PanelBytes(n, s.codes.Stride) || p.Meta(uint32(n-1)) != s.codes.Meta[of[n-1]] {
					t.Fatalf("%d rows: %d, %d bytes", n, p.Len(), p.Bytes())
				}
				for range 4 {
					first := r.IntN(n) &^ 15
					for _, below := range []float32{float32(math.Inf(1)), s.key(of[r.IntN(n)]), s.key(of[first]), -1e30, float32(math.NaN())} {
						checkPanels(t, &s, p, of, first, 16*(1+r.IntN(16)), below)
					}
				}
			}
		}
	}
}

// TestPanelsPart: panels of the first blocks of codes are those of shorter codes.
func TestPanelsPart(t *testing.T) {
	r := rand.New(rand.NewPCG(73, 74))
	for _, bits := range []int{2, 4, 8} {
		s := newScene(r, heap(), 50, bits, 3)
		of := []uint32{3, 0, 49, 7, 7}
		p := NewPanels(&s.codes, 128, of)
		short := s
		short.query = s.query[:p.Width()]
		short.codes.Stride, short.codes.Data = 128, nil
		for row := range 50 {
			short.codes.Data = append(short.codes.Data, s.codes.Data[row*192:][:128]...)
		}
		checkPanels(t, &short, p, of, 0, 16, float32(math.Inf(1)))
	}
}

// TestPanelKeysLargest meets the largest sums, and the pieces that keep an assembly
// call short.
func TestPanelKeysLargest(t *testing.T) {
	r := rand.New(rand.NewPCG(63, 64))
	for _, bits := range []int{2, 4, 8} {
		s := newScene(r, heap(), 3, bits, maxStride/blockBytes)
		for i := range s.codes.Data {
			s.codes.Data[i] = 255
		}
		for _, q := range []int8{127, -128} {
			for i := range s.query {
				s.query[i] = q
			}
			p, of := somePanels(r, &s, 40)
			checkPanels(t, &s, p, of, 0, 48, float32(math.Inf(1)))
		}
	}
}

// TestPanelKeysMeta: what is no number is not below anything, and codes that lie
// anywhere change nothing behind the last row.
func TestPanelKeysMeta(t *testing.T) {
	r := rand.New(rand.NewPCG(65, 66))
	s := newScene(r, heap(), 20, 4, 1)
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	copy(s.codes.Meta, []Meta{{nan, 1}, {1, nan}, {inf, 1}, {-inf, 1}, {1, inf}, {1, -inf}, {inf, -inf}})
	p, of := somePanels(r, &s, 90)
	for _, mul := range []float32{1, 0, inf, nan} {
		s.mul = mul
		checkPanels(t, &s, p, of, 0, 96, inf)
		checkPanels(t, &s, p, of, 48, 96, 0)
	}
}

func TestPanelKeysOutside(t *testing.T) {
	r := rand.New(rand.NewPCG(67, 68))
	s := newScene(r, heap(), 20, 4, 1)
	p, _ := somePanels(r, &s, 300)
	aimed := func() *Hop {
		h := new(Hop)
		h.AimPanels(p, s.query, s.mul, s.sub)
		return h
	}
	for name, call := range map[string]func(){
		"many":    func() { aimed().PanelKeys(0, make([]float32, 320)) },
		"behind":  func() { aimed().PanelKeys(304, make([]float32, 16)) },
		"far":     func() { aimed().PanelKeys(1<<40, make([]float32, 16)) },
		"before":  func() { aimed().PanelKeys(-16, make([]float32, 16)) },
		"between": func() { aimed().PanelKeys(8, make([]float32, 16)) },
		"part":    func() { aimed().PanelKeys(0, make([]float32, 8)) },
		"no room": func() { Nearer(make([]float32, 16), 0, 0, make([]uint32, 15, 16)) },
		"keys":    func() { Nearer(make([]float32, 15, 16), 0, 0, make([]uint32, 16)) },
		"query":   func() { new(Hop).AimPanels(p, s.query[:64], 1, 0) },
		"no row":  func() { NewPanels(&s.codes, 64, []uint32{20}) },
		"not aimed": func() {
			h := new(Hop)
			s.aim(h)
			h.PanelKeys(0, make([]float32, 16))
		},
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
	h := aimed()
	if h.Gather([]uint32{1, 2}); h.Len() != 0 {
		t.Error("rows of panels were gathered")
	}
	empty := NewPanels(&s.codes, 64, nil)
	h.AimPanels(empty, s.query, 1, 0)
	h.PanelKeys(0, nil)
	if rows := Nearer(nil, 0, 0, nil); len(rows) != 0 || empty.Bytes() != 0 || h.Bound(1) < math.MaxFloat32 {
		t.Error("rows of none")
	}
}

// FuzzPanelKeys compares the forms over bytes of any kind.
func FuzzPanelKeys(f *testing.F) {
	f.Add([]byte("levels and numbers of a query"), uint8(1), uint8(3), uint16(9), uint64(1))
	f.Fuzz(func(t *testing.T, raw []byte, width, blocks uint8, count uint16, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		s := newScene(r, heap(), 7, []int{2, 4, 8}[width%3], 1+int(blocks%20))
		for i, b := range raw {
			s.codes.Data[i%len(s.codes.Data)] = b
			s.query[i*7%len(s.query)] = int8(b)
		}
		p, of := somePanels(r, &s, 1+int(count)%300)
		checkPanels(t, &s, p, of, 0, 512, s.key(uint32(seed%7)))
	})
}

// BenchmarkPanelKeys compares all rows of panels, as a search does for the rows of a
// condition, beside BenchmarkScore.
func BenchmarkPanelKeys(b *testing.B) {
	r := rand.New(rand.NewPCG(69, 70))
	for _, c := range []struct{ dim, bits int }{{128, 4}, {384, 4}, {768, 2}, {64, 8}} {
		for _, n := range []int{200, 2000, 20000} {
			s := newScene(r, heap(), 256, c.bits, (c.dim*c.bits+511)/512)
			p, _ := somePanels(r, &s, n)
			with(func(name string) {
				b.Run(fmt.Sprintf("%dx%d/%d/%s", c.dim, c.bits, n, name), func(b *testing.B) {
					h := new(Hop)
					h.AimPanels(p, s.query, 1, 0)
					b.SetBytes(int64(p.Bytes()))
					keys := make([]float32, WholePanels(n))
					for b.Loop() {
						h.PanelKeys(0, keys)
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/row")
				})
			})
		}
	}
}

// BenchmarkNearer goes through keys of which one in a hundred is near enough.
func BenchmarkNearer(b *testing.B) {
	r := rand.New(rand.NewPCG(77, 78))
	for _, n := range []int{208, 2000, 20000} {
		keys, rows := make([]float32, n), make([]uint32, n)
		for i := range keys {
			keys[i] = r.Float32()
		}
		with(func(name string) {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				for b.Loop() {
					Nearer(keys, 0, 0.01, rows)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/row")
			})
		})
	}
}
