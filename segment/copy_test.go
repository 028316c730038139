package segment

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// A copy is, byte for byte, what writing the same rows under its name and key
// gives, from plain to sealed and back.
func TestCopy(t *testing.T) {
	fs, dir := tempFS(t)
	ctx := t.Context()
	rows := randomRows(rand.New(rand.NewPCG(1, 1)), 300, 5)
	sealed := newGCM(t)
	number := uint64(0)
	for _, metric := range []kernel.Metric{kernel.L2, kernel.Cosine} {
		for _, graphMin := range []int{1, 1 << 30} {
			for _, tc := range []struct{ from, to seal.Keys }{{seal.Plain(), sealed}, {sealed, seal.Plain()}, {sealed, sealed}} {
				spec := func() Spec {
					number++
					s := testSpec(number, 5, metric)
					s.GraphMin, s.Graph.Seed = graphMin, 77
					return s
				}
				first := spec()
				info, err := Write(ctx, fs, tc.from, first, each(rows))
				if err != nil {
					t.Fatal(err)
				}
				r, err := Open(fs, tc.from, first, info)
				if err != nil {
					t.Fatal(err)
				}
				second := spec()
				copied, err := Copy(ctx, fs, tc.to, second, r)
				if err != nil {
					t.Fatal(err)
				}
				got := read(t, dir, second.Number)
				if err := fs.Remove(Name(second.Number)); err != nil {
					t.Fatal(err)
				}
				want, err := Write(ctx, fs, tc.to, second, each(rows))
				if err != nil {
					t.Fatal(err)
				}
				if copied != want || !bytes.Equal(got, read(t, dir, second.Number)) {
					t.Errorf("metric %v, graph from %d: %+v instead of %+v, or other bytes", metric, graphMin, copied, want)
				}
				ended, cancel := context.WithCancel(ctx)
				cancel()
				if _, err := Copy(ended, fs, tc.to, spec(), r); !errors.Is(err, context.Canceled) {
					t.Errorf("cancelled: %v", err)
				}
				if err := r.Close(); err != nil {
					t.Fatal(err)
				}
				if _, err := Copy(ctx, fs, tc.to, spec(), r); !errors.Is(err, ErrClosed) {
					t.Errorf("of a closed segment: %v", err)
				}
			}
		}
	}
}

func read(t *testing.T, dir string, number uint64) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, Name(number)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What can be made again and is damaged keeps a segment from being copied, and the
// segment says so: then it is made anew. Damage among the rows is no reason for that.
func TestCopyDamaged(t *testing.T) {
	ctx := t.Context()
	rows := int8Rows(rand.New(rand.NewPCG(2, 1)), 400, 70, 0)
	spec := bytesSpec(1, kernel.Cosine)
	fs := faultfs.New(1)
	info := mustWrite(t, fs, seal.Plain(), spec, rows)
	whole := content(t, fs, Name(1))
	parts := mustOpen(t, fs, seal.Plain(), spec, info).file.Parts()
	for _, p := range parts {
		if p.Kind == sectionProperties || p.Kind == sectionIDTable {
			continue // it cannot be opened then; it is made anew by the copy
		}
		b := bytes.Clone(whole)
		b[p.Offset+p.Length/2] ^= 1
		fs := holding(t, 1, b)
		r := mustOpen(t, fs, seal.Plain(), spec, info)
		if _, err := Copy(ctx, fs, seal.Plain(), bytesSpec(2, kernel.Cosine), r); !errors.Is(err, disk.ErrCorrupt) {
			t.Errorf("%s: copied: %v", SectionName(p.Kind), err)
		}
		if told := r.Degraded() != nil; told != remakable(p.Kind) {
			t.Errorf("%s: degraded: %v", SectionName(p.Kind), r.Degraded())
		}
	}
}
