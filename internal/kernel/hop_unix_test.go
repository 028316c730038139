//go:build unix

package kernel

import (
	"math"
	"math/rand/v2"
	"testing"
)

func guardedMemory(t *testing.T) memory {
	return memory{
		func(n int) []byte { return guardedOf[byte](t, n) }, func(n int) []Meta { return guardedOf[Meta](t, n) },
		func(n int) []int8 { return guardedOf[int8](t, n) }, func(n int) []uint64 { return guardedOf[uint64](t, n) },
	}
}

// TestHopGuardPage gathers and scores where everything that a search reads,
// the links too, ends before memory that nobody may touch.
func TestHopGuardPage(t *testing.T) {
	r := rand.New(rand.NewPCG(25, 26))
	const n = 67
	links := guardedOf[uint32](t, 40)
	for _, bits := range []int{2, 4, 8} {
		for _, blocks := range []int{1, 2, 3, 4, 5, 8, 17} {
			s := newScene(r, guardedMemory(t), n, bits, blocks)
			for count := 1; count <= len(links); count++ {
				row := links[len(links)-count:]
				for i := range row {
					row[i] = uint32(r.IntN(n))
				}
				row[r.IntN(count)] = n - 1
				checkScore(t, &s, row, float32(math.Inf(1)))
				// No row, at once behind the guarded memory or far beyond.
				row[r.IntN(count)] = []uint32{n, 128, 1 << 20, math.MaxInt32, 1 << 31, math.MaxUint32}[count%6]
				with(func(string) {
					clear(s.visited)
					h := new(Hop)
					s.aim(h)
					h.Gather(row)
					Prefetch(row)
					if keys, _ := h.Score(float32(math.Inf(1))); len(keys) == 0 || h.of != &s.codes {
						t.Fatal("a batch was lost, or written over")
					}
				})
			}
		}
	}
}

// TestOfferGuardPage has a pool that ends with the room it asks for.
func TestOfferGuardPage(t *testing.T) {
	r := rand.New(rand.NewPCG(27, 28))
	keys, rows := guardedOf[float32](t, 40), guardedOf[uint32](t, 40)
	for i := range keys {
		keys[i], rows[i] = float32(r.NormFloat64()), uint32(i)
	}
	whole := guardedOf[uint64](t, 80+poolSlack)
	for limit := 1; limit <= 80; limit++ {
		pool := last(whole, limit+poolSlack)
		with(func(name string) {
			size := 0
			for count := 1; count <= len(keys); count++ {
				n, _ := Offer(pool, size, limit, last(keys, count), last(rows, count))
				if n != min(limit, size+count) {
					t.Fatalf("%s: %d and %d, at most %d, are %d", name, size, count, limit, n)
				}
				size = n
			}
		})
	}
}

// TestPanelsGuardPage scores panels where the query, the codes and what belongs to them
// end before memory that nobody may touch.
func TestPanelsGuardPage(t *testing.T) {
	r := rand.New(rand.NewPCG(71, 72))
	for _, bits := range []int{2, 4, 8} {
		for _, blocks := range []int{1, 2, 3, 5, 8, 17} {
			s := newScene(r, guardedMemory(t), 20, bits, blocks)
			for _, n := range []int{1, 16, 17, 48} {
				p, of := somePanels(r, &s, n)
				if n == 17 {
					p = halfPanels(&s, of)
				}
				data, meta := guardedOf[byte](t, len(p.data)), guardedOf[Meta](t, len(p.meta))
				copy(data, p.data)
				copy(meta, p.meta)
				p.data, p.meta = data, meta
				checkPanels(t, &s, p, of, 0, 64, float32(math.Inf(1)))
			}
		}
	}
}
