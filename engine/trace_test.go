package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// What differs from run to run (names under tmp are random) or with the
// formats (sizes) is masked in traces: order is what they are about.
var (
	traceTmp  = regexp.MustCompile(`tmp/[0-9a-f]{32}`)
	traceSize = regexp.MustCompile(`^((?:write|truncate) \S+) \d+`)
)

// TestTraces compares the file operations of each action with a reviewed text:
// a rename without the sync that has to follow, an edit that is logged before
// its segment is durable, or a file that is removed before the checkpoint that
// lets it go, shows in the diff.
func TestTraces(t *testing.T) {
	ctx := t.Context()
	fs := faultfs.New(1)
	var db *DB
	var c *Collection
	open := func() (err error) {
		if db, err = Open("", &Options{GraphMin: 2, Workers: 1, fs: fs, reserve: testReserve}); err != nil {
			return err
		}
		db.jobs.stop() // nothing happens beside what is asked for
		c, _, err = db.Default().GetOrCreate(ctx, "c", Spec{})
		return err
	}
	add := func(from int) func() error {
		return func() error {
			return c.Add(ctx, rec(fmt.Sprint(from), 1), rec(fmt.Sprint(from+1), 2), rec(fmt.Sprint(from+2), 3))
		}
	}
	for _, a := range []struct {
		name string
		do   func() error
	}{
		{"open-empty", open},
		{"write", add(1)},
		{"flush", func() error { return db.Flush(ctx) }},
		{"delete", func() error { _, err := c.Delete(ctx, Selection{IDs: []string{"2"}}); return err }},
		{"flush-deletes-only", func() error { return db.Flush(ctx) }},
		{"checkpoint", func() error { return db.writeCheckpoint(ctx) }},
		{"write-again", add(4)},
		{"compact", func() error { return db.Compact(ctx) }},
		{"delete-collection", func() error { return db.Default().Delete(ctx, "c") }},
		{"checkpoint-removes", func() error { return db.writeCheckpoint(ctx) }},
		{"close", func() error { return db.Close() }},
		{"open-again", open},
		{"write-before-close", add(1)},
		{"close-flushes", func() error { return db.Close() }},
	} {
		fs.ClearTrace()
		if err := a.do(); err != nil {
			t.Fatalf("%s: %v", a.name, err)
		}
		var got strings.Builder
		for _, line := range fs.Trace() {
			got.WriteString(traceSize.ReplaceAllString(traceTmp.ReplaceAllString(line, "tmp/ID"), "$1 N") + "\n")
		}
		file := filepath.Join("testdata", a.name+".trace")
		if *update {
			if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got.String() != string(want) {
			t.Errorf("%s:\n%s\nwant\n%s", file, got.String(), want)
		}
	}
}
