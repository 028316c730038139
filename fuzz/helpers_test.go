package fuzz

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/filter"
)

// must is for what no input decides.
func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// open opens a store, and closes it at the end of the test.
func open(tb testing.TB, dir string, opts *engine.Options) *engine.DB {
	tb.Helper()
	db, err := engine.Open(dir, opts)
	must(tb, err)
	shut(tb, func() *engine.DB { return db })
	return db
}

// shut closes a store at the end of the test, unless it is closed.
func shut(tb testing.TB, db func() *engine.DB) {
	tb.Cleanup(func() {
		if err := db().Close(); err != nil && !errors.Is(err, engine.ErrClosed) {
			tb.Error(err)
		}
	})
}

// scratch makes a directory that is removed as soon as the caller is done.
// T.TempDir would name one after the fuzzer's whole input. Stores sync, which
// takes no time in memory: there it is unless TMPDIR says where.
func scratch(tb testing.TB) string {
	tb.Helper()
	base := os.Getenv("TMPDIR")
	if info, err := os.Stat("/dev/shm"); base == "" && err == nil && info.Mode().Perm()&0o2 != 0 {
		base = "/dev/shm"
	}
	dir, err := os.MkdirTemp(base, "chromad-fuzz-")
	must(tb, err)
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	return dir
}

// files reads a directory with everything below it, by slash-separated name.
func files(tb testing.TB, dir string) map[string][]byte {
	tb.Helper()
	out := map[string][]byte{}
	must(tb, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		out[filepath.ToSlash(rel)], err = os.ReadFile(path)
		return err
	}))
	return out
}

// place writes files into a directory.
func place(tb testing.TB, dir string, all map[string][]byte) {
	tb.Helper()
	for name, b := range all {
		path := filepath.Join(dir, filepath.FromSlash(name))
		must(tb, os.MkdirAll(filepath.Dir(path), 0o755))
		must(tb, os.WriteFile(path, b, 0o644))
	}
}

// noise is bytes that are the same for the same seed.
func noise(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// text shows a record bit by bit: equal records have equal texts.
func text(r engine.Record) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q [", r.ID)
	for _, x := range r.Embedding {
		fmt.Fprintf(&b, " %08x", math.Float32bits(x))
	}
	fmt.Fprintf(&b, " ] %s", filter.AppendMetadata(nil, r.Metadata))
	for _, s := range []*string{r.Document, r.URI} {
		if s == nil {
			b.WriteString(" none")
		} else {
			fmt.Fprintf(&b, " %q", *s)
		}
	}
	return b.String()
}

// get reads records as texts.
func get(c *engine.Collection, sel engine.Selection, inc engine.Include) ([]string, error) {
	var out []string
	for r, err := range c.Get(ctx, sel, inc) {
		if err != nil {
			return nil, err
		}
		out = append(out, text(r))
	}
	return out, nil
}

// getIDs reads ids.
func getIDs(c *engine.Collection, sel engine.Selection) ([]string, error) {
	var out []string
	for r, err := range c.Get(ctx, sel, 0) {
		if err != nil {
			return nil, err
		}
		out = append(out, r.ID)
	}
	return out, nil
}

func texts(recs []engine.Record) []string {
	var out []string
	for _, r := range recs {
		out = append(out, text(r))
	}
	return out
}

// differ says where two lists first differ, "" when they do not.
func differ(got, want []string) string {
	if slices.Equal(got, want) {
		return ""
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("at %d:\n got %s\nwant %s", i, got[i], want[i])
		}
	}
	return fmt.Sprintf("%d instead of %d: %q, want %q", len(got), len(want), got, want)
}
