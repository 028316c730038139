//go:build unix

package segment

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/seal"
)

// TestChangedWhileOpen writes to the file of a segment that is open and all of
// which was verified: nothing looks at its checksums again. Whatever is read
// from then on, no read panics, faults or leaves its bounds.
func TestChangedWhileOpen(t *testing.T) {
	const seed = 20
	fs, dir := tempFS(t)
	for i, metric := range []kernel.Metric{kernel.L2, kernel.Cosine, kernel.IP} {
		for _, bits := range []int{0, 32} {
			spec := testSpec(uint64(10*i+bits+1), 6, metric)
			spec.GraphMin, spec.Graph.Bits = 1, bits
			rows := randomRows(rand.New(rand.NewPCG(seed, uint64(i))), 300, 6)
			info := mustWrite(t, fs, seal.Plain(), spec, rows)
			name := filepath.Join(dir, Name(spec.Number))
			good, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(name, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for trial := range 12 {
				r := mustOpen(t, fs, seal.Plain(), spec, info)
				if err := errors.Join(readAll(r), verify(t.Context(), r)); err != nil {
					t.Fatal(err)
				}
				rng := rand.New(rand.NewPCG(seed, uint64(trial)))
				for range []int{3, 30, 1000}[trial%3] {
					some := make([]byte, 1+rng.IntN(8))
					for j := range some {
						some[j] = byte([]uint32{rng.Uint32(), 0xff, 0}[rng.IntN(3)])
					}
					if _, err := f.WriteAt(some, int64(rng.IntN(len(good)-8))); err != nil {
						t.Fatal(err)
					}
				}
				func() {
					defer func() {
						if p := recover(); p != nil {
							t.Errorf("%v, %d bits, seed %d/%d: %v", metric, bits, seed, trial, p)
							panic(p)
						}
					}()
					for range 3 {
						_ = readAll(r)
					}
					for range 30 {
						hits, err := r.Search(t.Context(), Query{Vector: rows[rng.IntN(300)].Vector, K: 7, EF: 5}, nil)
						for _, h := range hits {
							if err == nil && int(h.Row) >= len(rows) {
								t.Fatalf("%v, %d bits, seed %d/%d: row %d", metric, bits, seed, trial, h.Row)
							}
						}
					}
					_ = verify(t.Context(), r)
				}()
				if err := r.Close(); err != nil {
					t.Fatal(err)
				}
				if _, err := f.WriteAt(good, 0); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
