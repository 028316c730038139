package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// checkPanels compares a range of panels with the rows that they were made of, scored
// one by one.
func checkPanels(t *testing.T, s *scene, p *Panels, of []uint32, first, n int, below float32) {
	t.Helper()
	var rows []uint32
	var keys []float32
	for i := first; i < min(first+n, len(of)); i++ {
		if key := s.key(of[i]); key < below {
			keys, rows = append(keys, key), append(rows, uint32(i))
		}
	}
	with(func(name string) {
		h := new(Hop)
		h.AimPanels(p, s.query, s.mul, s.sub)
		bound := float32(math.Inf(1)) // what Bound may be at most: the greatest of 16 that are different rows
		for at := range panelRows {
			least := float32(math.Inf(1))
			for i := first + at; i < min(first+n, len(of)); i += panelRows {
				if key := s.key(of[i]); key < least {
					least = key
				}
			}
			if at == 0 || least > bound {
				bound = least
			}
		}
		for range 2 { // the second finds what the first left
			if k, r := h.ScorePanels(first, n, below); !slices.Equal(k, keys) || !slices.Equal(r, rows) {
				t.Fatalf("%s: %d bits, stride %d, rows %d to %d of %d below %v:\nkeys %v of %v\nwant %v of %v",
					name, s.codes.Bits, s.codes.Stride, first, first+n, len(of), below, k, r, keys, rows)
			}
			if got := h.Bound(); got != bound {
				t.Fatalf("%s: %d bits, rows %d to %d of %d: bound %v, want %v", name, s.codes.Bits, first, first+n, len(of), got, bound)
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

func TestScorePanels(t *testing.T) {
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
						checkPanels(t, &s, p, of, first, 16*(1+r.IntN(RangeMost/16)), below)
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

// TestScorePanelsLargest meets the largest sums, and the pieces that keep an assembly
// call short.
func TestScorePanelsLargest(t *testing.T) {
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

// TestScorePanelsMeta: what is no number is not below anything, and codes that lie
// anywhere change nothing behind the last row.
func TestScorePanelsMeta(t *testing.T) {
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

func TestScorePanelsOutside(t *testing.T) {
	r := rand.New(rand.NewPCG(67, 68))
	s := newScene(r, heap(), 20, 4, 1)
	p, _ := somePanels(r, &s, 300)
	aimed := func() *Hop {
		h := new(Hop)
		h.AimPanels(p, s.query, s.mul, s.sub)
		return h
	}
	for name, call := range map[string]func(){
		"many":    func() { aimed().ScorePanels(0, RangeMost+16, 0) },
		"before":  func() { aimed().ScorePanels(-16, 16, 0) },
		"between": func() { aimed().ScorePanels(8, 16, 0) },
		"part":    func() { aimed().ScorePanels(0, 8, 0) },
		"query":   func() { new(Hop).AimPanels(p, s.query[:64], 1, 0) },
		"no row":  func() { NewPanels(&s.codes, 64, []uint32{20}) },
		"not aimed": func() {
			h := new(Hop)
			s.aim(h)
			h.ScorePanels(0, 16, 0)
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
	for _, first := range []int{304, 320, 1 << 40} {
		if keys, rows := h.ScorePanels(first, 16, float32(math.Inf(1))); len(keys)+len(rows) != 0 {
			t.Errorf("rows from %d on, of 300", first)
		}
	}
	empty := NewPanels(&s.codes, 64, nil)
	h.AimPanels(empty, s.query, 1, 0)
	if keys, _ := h.ScorePanels(0, 16, 0); len(keys) != 0 || empty.Bytes() != 0 {
		t.Error("rows of none")
	}
}

// FuzzScorePanels compares the forms over bytes of any kind.
func FuzzScorePanels(f *testing.F) {
	f.Add([]byte("levels and numbers of a query"), uint8(1), uint8(3), uint16(9), uint64(1))
	f.Fuzz(func(t *testing.T, raw []byte, width, blocks uint8, count uint16, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		s := newScene(r, heap(), 7, []int{2, 4, 8}[width%3], 1+int(blocks%20))
		for i, b := range raw {
			s.codes.Data[i%len(s.codes.Data)] = b
			s.query[i*7%len(s.query)] = int8(b)
		}
		p, of := somePanels(r, &s, 1+int(count)%300)
		checkPanels(t, &s, p, of, 0, RangeMost, s.key(uint32(seed%7)))
	})
}

// BenchmarkScorePanels compares all rows of panels, as a search does for the rows of a
// condition, beside BenchmarkScore.
func BenchmarkScorePanels(b *testing.B) {
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
					for b.Loop() {
						for at := 0; at < n; at += RangeMost {
							h.ScorePanels(at, RangeMost, -1e30)
						}
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/row")
				})
			})
		}
	}
}
