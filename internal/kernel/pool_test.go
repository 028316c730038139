package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// checkOffer compares every form with a sort of everything. first is the
// lowest place where the pool differs from what it was.
func checkOffer(t *testing.T, pool []uint64, limit int, keys []float32, rows []uint32) []uint64 {
	t.Helper()
	want := slices.Clone(pool)
	for i, k := range keys {
		want = append(want, Key(k, rows[i]))
	}
	slices.Sort(want)
	want = want[:min(limit, len(want))]
	wantFirst := 0
	for wantFirst < len(pool) && pool[wantFirst] == want[wantFirst] {
		wantFirst++
	}
	with(func(name string) {
		got := make([]uint64, limit+poolSlack)
		copy(got, pool)
		n, first := Offer(got[:0], len(pool), limit, keys, rows)
		if !slices.Equal(got[:n], want) || first != wantFirst {
			t.Fatalf("%s: %d of at most %d, %d keys: first %d, want %d\npool %x\ngot  %x\nwant %x", name, len(pool), limit, len(keys), first, wantFirst, pool, got[:n], want)
		}
	})
	return want
}

func TestOffer(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	for _, limit := range []int{1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 63, 64, 65, 100, 500, 4088, 4096, 4097, 5000} {
		var pool []uint64
		for round := range 40 {
			keys := make([]float32, r.IntN([]int{3, 9, 40, 3 * offerPiece}[round%4]))
			if limit > 1000 && round == 0 {
				keys = make([]float32, limit-5)
			}
			rows := make([]uint32, len(keys))
			for i := range keys {
				// Few different keys: many are equal.
				keys[i], rows[i] = float32(r.NormFloat64()), r.Uint32()>>1
				if round%8 < 4 {
					keys[i] = float32(r.IntN(7)) - 3
				}
			}
			pool = checkOffer(t, pool, limit, keys, rows)
			for i := range pool {
				if r.IntN(3) == 0 {
					pool[i] |= 1 // the caller's bit
				}
			}
		}
	}
}

func TestOfferOddKeys(t *testing.T) {
	nan, inf, zero := float32(math.NaN()), float32(math.Inf(1)), float32(0)
	keys := []float32{nan, inf, -inf, zero, -zero, float32(math.Copysign(0, -1)), math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32, math.MaxFloat32, -nan, -math.MaxFloat32, 1, 1, 1}
	rows := []uint32{1<<31 - 1, 1<<31 - 2, 0, 9, 8, 7, 6, 5, 4, 1<<31 - 1, 2, 1, 1, 1}
	for n := range len(keys) + 1 {
		for limit := range len(keys) + 3 {
			pool := checkOffer(t, nil, limit, keys[:n], rows[:n])
			checkOffer(t, pool, limit, keys[n:], rows[n:])
		}
	}
	for i, a := range keys {
		for j, b := range keys {
			if a < b && Key(a, rows[i]) >= Key(b, rows[j]) || a == b && rows[i] < rows[j] && Key(a, rows[i]) >= Key(b, rows[j]) {
				t.Errorf("the keys of %v of %d and %v of %d are in another order", a, rows[i], b, rows[j])
			}
		}
	}
}

func TestOfferOutside(t *testing.T) {
	pool, keys, rows := make([]uint64, 20), make([]float32, 3), make([]uint32, 3)
	for name, call := range map[string]func(){
		"keys":     func() { Offer(pool, 0, 4, keys, rows[:2]) },
		"limit":    func() { Offer(pool, 0, 5, keys, rows) },
		"n":        func() { Offer(pool, 5, 4, keys, rows) },
		"negative": func() { Offer(pool, -1, 4, keys, rows) },
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
	if n, first := Offer(pool[:0], 0, 4, keys, rows); n != 3 || first != 0 {
		t.Errorf("3 keys for a pool of 4: %d, first %d", n, first)
	}
}

func FuzzOffer(f *testing.F) {
	f.Add([]byte("\x05\x01\x07\x80\x00\xff\x04"), uint16(5), uint64(1))
	f.Fuzz(func(t *testing.T, raw []byte, limit uint16, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		var pool []uint64
		for most := int(limit%600) + 1; len(raw) > 0; {
			n := min(len(raw), 1+r.IntN(30))
			keys, rows := make([]float32, n), make([]uint32, n)
			for i, b := range raw[:n] {
				keys[i], rows[i] = math.Float32frombits(uint32(b)<<23*uint32(seed|1)), r.Uint32N(1<<(1+seed%30))
			}
			pool, raw = checkOffer(t, pool, most, keys, rows), raw[n:]
		}
	})
}

// BenchmarkOffer offers batches of keys that are near enough to a full pool.
func BenchmarkOffer(b *testing.B) {
	r := rand.New(rand.NewPCG(23, 24))
	for _, limit := range []int{64, 128, 512} {
		for _, count := range []int{1, 2, 4, 8, 16} {
			const turns = 512
			full, keys, rows := make([]uint64, limit+poolSlack), make([]float32, turns*count), make([]uint32, turns*count)
			for i := range full {
				full[i] = Key(float32(i), uint32(i))
			}
			for i := range keys {
				keys[i] = float32(r.IntN(limit)) + 0.5
			}
			pool := make([]uint64, limit+poolSlack)
			with(func(name string) {
				b.Run(fmt.Sprintf("%d/%d/%s", limit, count, name), func(b *testing.B) {
					at := 0
					for b.Loop() {
						copy(pool, full)
						Offer(pool, limit, limit, keys[at:at+count], rows[at:at+count])
						at = (at + count) % len(keys)
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(count), "ns/key")
				})
			})
		}
	}
}
