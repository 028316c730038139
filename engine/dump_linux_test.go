package engine

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// keptFromDumps adds up the memory of this process that core dumps leave out
// and that holds something.
func keptFromDumps(t *testing.T) (bytes int64) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/smaps")
	check(t, err)
	var rss int64
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		switch {
		case f[0] == "Rss:":
			rss, err = strconv.ParseInt(f[1], 10, 64)
			check(t, err)
		case f[0] == "VmFlags:" && slices.Contains(f, "dd") && !slices.Contains(f, "io"):
			bytes += rss << 10
		}
	}
	return bytes
}

// What is decrypted of segments lies in memory that no core dump has.
func TestDecryptedIsNotDumped(t *testing.T) {
	ctx := t.Context()
	for _, key := range []OperatorKey{nil, operator("a")} {
		dir := t.TempDir()
		db, err := Open(dir, &Options{Keys: key})
		check(t, err)
		c := newCollection(t, db, "c")
		var recs []Record
		for i := range 500 {
			v := make([]float32, 1024)
			v[i] = 1
			recs = append(recs, Record{ID: fmt.Sprint(i), Embedding: v, Document: Optional(strings.Repeat(fmt.Sprint(i), 1000))})
		}
		check(t, c.Add(ctx, recs...))
		check(t, db.Close())
		db, err = Open(dir, &Options{Keys: key})
		check(t, err)
		before := keptFromDumps(t)
		c = collection(t, db, "c")
		_, err = c.Query(ctx, recs[3].Embedding, 5, &QueryOptions{Exact: true})
		check(t, err)
		getAll(t, c, Selection{}, IncludeAll)
		grown, decrypted := keptFromDumps(t)-before, db.Stats().SegmentMemory
		if key == nil && (grown > 1<<20 || decrypted != 0) || key != nil && (decrypted < 2e6 || grown < decrypted) {
			t.Errorf("encrypted %v: %d bytes are decrypted, %d are kept from dumps", key != nil, decrypted, grown)
		}
		check(t, db.Close())
	}
}
