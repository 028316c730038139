package hnsw

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/chromad/chromad/internal/kernel"
)

// TestForms asks the same of all forms of the kernels that this machine has:
// the answers are the same rows, but for the last bits of their distances. A
// form is chosen when a process begins, so each is one.
func TestForms(t *testing.T) {
	if dir := os.Getenv("HNSW_GRAPHS"); dir != "" {
		printAnswers(t, dir)
		return
	}
	heavy(t)
	dir := t.TempDir()
	for _, m := range metrics {
		v, _ := ofForms(m)
		b, err := mustBuild(t, v, Params{}).AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, m.String()), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var want []byte
	for _, form := range []string{"generic", "avx2", "avx512", "neon"} {
		c := exec.Command(os.Args[0], "-test.run=^TestForms$", "-test.v")
		c.Env = append(os.Environ(), "HNSW_GRAPHS="+dir, "CHROMAD_KERNEL="+form)
		got, err := c.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s", form, err, got)
		}
		if want == nil {
			want = got
		}
		sameAnswers(t, form, want, got)
	}
}

func ofForms(m kernel.Metric) (v Vectors, queries [][]float32) {
	const n, dim = 6000, 48
	base, queries := split(clustered(51, n+30, dim), 30)
	return matrix(m, base, dim, 0), queries
}

func printAnswers(t *testing.T, dir string) {
	for _, m := range metrics {
		v, held := ofForms(m)
		half := make([]uint64, (v.Rows+63)/64)
		for w := range half {
			half[w] = 0x5555555555555555
		}
		b, err := os.ReadFile(filepath.Join(dir, m.String()))
		if err != nil {
			t.Fatal(err)
		}
		g, err := Decode(b, v.Rows)
		if err != nil {
			t.Fatal(err)
		}
		var s Scratch
		for i, q := range held {
			for _, allowed := range [][]uint64{nil, half} {
				for _, nb := range search(g, v, q, 10, 40, allowed, &s) {
					fmt.Printf("answer %v %d %s %d %g\n", m, i, s.Trace().Plan, nb.Row, nb.Distance)
				}
			}
		}
	}
}

func sameAnswers(t *testing.T, form string, want, got []byte) {
	t.Helper()
	w, g := bufio.NewScanner(bytes.NewReader(want)), bufio.NewScanner(bytes.NewReader(got))
	lines := 0
	for w.Scan() && g.Scan() {
		var m1, m2, p1, p2 string
		var i1, i2, r1, r2 int
		var d1, d2 float64
		if n, _ := fmt.Sscanf(w.Text(), "answer %s %d %s %d %g", &m1, &i1, &p1, &r1, &d1); n == 0 {
			continue
		}
		lines++
		fmt.Sscanf(g.Text(), "answer %s %d %s %d %g", &m2, &i2, &p2, &r2, &d2)
		if m1 != m2 || i1 != i2 || p1 != p2 || r1 != r2 || math.Abs(d1-d2) > 1e-5*(1+math.Abs(d1)) {
			t.Errorf("%s: %q in the place of %q", form, g.Text(), w.Text())
		}
	}
	if lines != 3*30*2*10 {
		t.Errorf("%s: %d answers", form, lines)
	}
}
