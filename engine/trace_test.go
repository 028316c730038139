package engine

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromad/chromad/internal/keys/keytest"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// What differs from run to run (names under tmp are random) or with the
// formats (sizes) is masked in traces: order is what they are about.
var (
	traceTmp  = regexp.MustCompile(`tmp/[0-9a-f]{32}`)
	traceKey  = regexp.MustCompile(`keys/[0-9a-f]{32}-`)
	traceSize = regexp.MustCompile(`^((?:write|truncate) \S+) \d+`)
)

// traceStore begins the name of the store's own data key.
const traceStore = "keys/00000000000000000000000000000000-"

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
	traced(t, fs, []action{
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
	})
}

// TestTracesEncrypted is TestTraces for what an encrypted store does besides:
// a key before its collection, a key destroyed before its deletion is
// acknowledged, and nothing of an old key removed before all is under the new.
func TestTracesEncrypted(t *testing.T) {
	ctx := t.Context()
	fs, key := faultfs.New(1), keytest.New("a")
	var db *DB
	var c *Collection
	open := func() (err error) {
		if db, err = Open("", &Options{GraphMin: 2, Workers: 1, Keys: key, fs: fs, reserve: testReserve}); err == nil {
			db.jobs.stop()
		}
		return err
	}
	create := func(name string) func() error {
		return func() (err error) { c, err = db.Default().Create(ctx, name, Spec{}); return err }
	}
	add := func() error { return c.Add(ctx, rec("1", 1), rec("2", 2)) }
	traced(t, fs, []action{
		{"encrypted-open-empty", open},
		{"encrypted-create-collection", create("c")},
		{"encrypted-write", add},
		{"encrypted-flush", func() error { return db.Flush(ctx) }},
		{"encrypted-rotate", func() error { return db.RotateKeys(ctx, nil) }},
		{"encrypted-delete-collection", func() error { return db.Default().Delete(ctx, "c") }},
		{"encrypted-create-another", create("d")},
		{"encrypted-write-another", add},
		{"encrypted-erase", func() error {
			if _, err := c.Delete(ctx, Selection{IDs: []string{"1"}}); err != nil {
				return err
			}
			return db.EraseNow(ctx, nil)
		}},
		{"encrypted-close", func() error { return db.Close() }},
	})
}

// action is something that is done, and the name of its trace.
type action struct {
	name string
	do   func() error
}

// traced does one action after the other and compares the traces.
func traced(t *testing.T, fs *faultfs.FS, actions []action) {
	t.Helper()
	ids := map[string]string{}
	for _, a := range actions {
		fs.ClearTrace()
		if err := a.do(); err != nil {
			t.Fatalf("%s: %v", a.name, err)
		}
		var got strings.Builder
		for _, line := range fs.Trace() {
			line = traceKey.ReplaceAllStringFunc(line, func(id string) string {
				if id != traceStore && ids[id] == "" {
					ids[id] = fmt.Sprintf("keys/COLLECTION%d-", len(ids)+1)
				}
				return cmp.Or(ids[id], "keys/STORE-")
			})
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
