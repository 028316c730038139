package segment

import (
	"context"
	"fmt"
	"testing"

	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
)

// big is a segment of a million rows, made once.
type big struct {
	fs   *vfs.Root
	spec Spec
	info Info
}

func newBig(b *testing.B, dir string) *big {
	b.Helper()
	const rows, dim = 1_000_000, 16
	fs, err := vfs.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	s := &big{fs: fs, spec: testSpec(1, dim, kernel.L2)}
	v := make([]float32, dim)
	doc := "a document of the usual kind, that is to say a short one"
	s.info, err = Write(context.Background(), fs, seal.Plain(), s.spec, func(yield func(Row, error) bool) {
		for i := range uint64(rows) {
			v[i%dim] = float32(i)
			if !yield(Row{Order: i, ID: fmt.Sprintf("record-%08d", i), Vector: v, Document: &doc}, nil) {
				return
			}
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// BenchmarkOpen opens, and opens and asks for one thing, in a segment of a
// million rows. pages is what the kernel had to map.
func BenchmarkOpen(b *testing.B) {
	s := newBig(b, b.TempDir())
	defer s.fs.Close()
	for name, ask := range map[string]func(r *Reader) error{
		"open": func(r *Reader) error { return nil },
		"lookup": func(r *Reader) error {
			row, found, err := r.Lookup("record-00654321")
			if err == nil && (!found || row != 654321) {
				err = fmt.Errorf("row %d, %v", row, found)
			}
			return err
		},
		"document": func(r *Reader) error { _, _, err := r.Document(654321); return err },
	} {
		b.Run(name, func(b *testing.B) {
			before, n := pageFaults(), 0
			for b.Loop() {
				n++
				r, err := Open(s.fs, seal.Plain(), s.spec, s.info)
				if err != nil {
					b.Fatal(err)
				}
				if err := ask(r); err != nil {
					b.Fatal(err)
				}
				if err := r.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(n), "ms/op")
			b.ReportMetric(float64(pageFaults()-before)/float64(n), "pages/op")
			b.ReportMetric(float64(s.info.Length)/(1<<20), "MiB")
		})
	}
}
