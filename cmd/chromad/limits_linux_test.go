package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/chromad/chromad/engine"
)

// rlimit sets a soft limit of a running process.
func rlimit(t testing.TB, p *process, resource int, n uint64) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Prlimit(p.cmd.Process.Pid, resource, nil, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prlimit(p.cmd.Process.Pid, resource, &unix.Rlimit{Cur: min(n, old.Max), Max: old.Max}, nil); err != nil {
		t.Fatal(err)
	}
}

// unlimited is no limit at all, or the hard one.
const unlimited = ^uint64(0)

// makeCollection makes a collection and returns the path of its requests.
func makeCollection(t testing.TB, p *process, name string) string {
	t.Helper()
	var made struct{ ID string }
	if err := json.Unmarshal(p.must(t, "POST", collectionsPath, fmt.Sprintf(`{"name":%q}`, name)), &made); err != nil {
		t.Fatal(err)
	}
	return collectionsPath + "/" + made.ID
}

// idsIn are the ids in a collection.
func idsIn(t testing.TB, p *process, collection string) map[string]bool {
	t.Helper()
	var got struct{ IDs []string }
	if err := json.Unmarshal(p.must(t, "POST", collection+"/get", `{"include":[]}`), &got); err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, id := range got.IDs {
		if out[id] {
			t.Errorf("%s is there twice", id)
		}
		out[id] = true
	}
	return out
}

// addBody is the request to add one record with a document of so many bytes.
func addBody(id string, document int) []byte {
	return fmt.Appendf(nil, `{"ids":[%q],"embeddings":[[1,2]],"documents":["%s"]}`, id, strings.Repeat("x", document))
}

// answered notes what became of a write: status 201 promises that it is
// there, the others given that it is not.
func answered(t testing.TB, ids map[string]bool, id string, status int, answer []byte, refused int) {
	switch status {
	case http.StatusCreated:
		ids[id] = true
	case refused:
		ids[id] = false
	default:
		t.Errorf("%s: status %d, %s", id, status, answer)
	}
}

// agree compares what is there with what was promised.
func agree(t testing.TB, when string, there, promised map[string]bool) {
	t.Helper()
	for id, want := range promised {
		if there[id] != want {
			t.Errorf("%s: %s is there: %t, promised: %t", when, id, there[id], want)
		}
	}
	for id := range there {
		if _, known := promised[id]; !known {
			t.Errorf("%s: %s is there, which nobody wrote", when, id)
		}
	}
}

// newestLog is the length of the file that the log grows in.
func newestLog(t testing.TB, path string) uint64 {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(path, "log", "*"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no log: %v", err)
	}
	st, err := os.Stat(slices.Max(names))
	if err != nil {
		t.Fatal(err)
	}
	return uint64(st.Size())
}

// A limit on the size of files makes the system write a part of what it is
// given. The write is refused and never seen again; the next ones are kept.
func TestFileSizeLimit(t *testing.T) {
	path := t.TempDir()
	p := spawn(t, path)
	docs := makeCollection(t, p, "docs")
	promised := map[string]bool{}
	refused := 0
	for round, room := range []uint64{0, 1, 39, 40, 41, 100, 1000, 4000, 4096, 5100, 12000, 20000} {
		rlimit(t, p, unix.RLIMIT_FSIZE, newestLog(t, path)+room)
		var wg sync.WaitGroup
		var mu sync.Mutex
		for w := range 4 {
			wg.Go(func() {
				id := fmt.Sprintf("%d-%d", round, w)
				status, answer, err := p.do("POST", docs+"/add", addBody(id, 5000*(1+w%2)))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				answered(t, promised, id, status, answer, http.StatusInsufficientStorage)
				if status == http.StatusInsufficientStorage {
					refused++
				}
			})
		}
		wg.Wait()
		agree(t, "under the limit", idsIn(t, p, docs), promised)
		rlimit(t, p, unix.RLIMIT_FSIZE, unlimited)
		id := fmt.Sprint(round, "-after")
		p.must(t, "POST", docs+"/add", string(addBody(id, 10)))
		promised[id] = true
	}
	if refused < 20 {
		t.Errorf("%d writes were refused: the limit did not bite", refused)
	}
	p.kill()
	p = spawn(t, path)
	agree(t, "after a restart", idsIn(t, p, docs), promised)
}

// openHandles are the open files of a process, and the number that the next one gets.
func openHandles(t testing.TB, p *process) (files []string, next int) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	taken := map[string]bool{}
	for _, e := range entries {
		taken[e.Name()] = true
		to, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err == nil && !strings.HasPrefix(to, "anon_inode:") { // the runtime's own
			files = append(files, to)
		}
	}
	for taken[strconv.Itoa(next)] {
		next++
	}
	return files, next
}

// With fewer and fewer file handles every request is answered or refused
// clearly, and what waits for a handle goes on when there are some. No handle
// is lost.
func TestHandleLimit(t *testing.T) {
	path := t.TempDir()
	p := spawn(t, path)
	const collections = 3
	var names [collections]string
	var promised [collections]map[string]bool
	for c := range names {
		names[c], promised[c] = makeCollection(t, p, fmt.Sprint("docs", c)), map[string]bool{"first": true}
		p.must(t, "POST", names[c]+"/add", string(addBody("first", 10)))
	}
	refused := 0
	for extra := range 8 {
		p.cmd.Process.Signal(syscall.SIGTERM) // flushes, so that reads and writes have files to open
		<-p.ended
		p = spawn(t, path, "--memtable-rows", "4")
		clients := [collections + 1]*http.Client{}
		for i := range clients { // a connection each, before there are no handles for more
			clients[i] = &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
			(&process{address: p.address, client: clients[i]}).must(t, "GET", "/api/v2/heartbeat", "")
		}
		before, next := openHandles(t, p)
		before = slices.DeleteFunc(before, func(name string) bool { // of a compaction that is under way
			return strings.HasPrefix(name, path+"/") && !strings.HasSuffix(name, ".wal") && !strings.HasSuffix(name, "LOCK")
		})
		rlimit(t, p, unix.RLIMIT_NOFILE, uint64(next+extra))
		var wg sync.WaitGroup
		for c := range names {
			wg.Go(func() {
				mine := process{address: p.address, client: clients[c]}
				for i := range 10 {
					id := fmt.Sprintf("%d-%d", extra, i)
					status, answer, err := mine.do("POST", names[c]+"/add", addBody(id, 10))
					if err != nil {
						t.Errorf("%s: %v", id, err)
						return
					}
					answered(t, promised[c], id, status, answer, http.StatusServiceUnavailable)
				}
			})
		}
		reader := process{address: p.address, client: clients[collections]}
		for i := range 30 {
			status, answer, err := reader.do("POST", names[i%collections]+"/query", []byte(`{"query_embeddings":[[1,2]],"n_results":3}`))
			if err != nil || status != http.StatusOK && (status != http.StatusServiceUnavailable || !strings.Contains(string(answer), "too many open files")) {
				t.Fatalf("query: %d, %s, %v\n%s", status, answer, err, p.logged())
			}
			if status != http.StatusOK {
				refused++
			}
		}
		rlimit(t, p, unix.RLIMIT_NOFILE, unlimited)
		wg.Wait()
		for c := range names {
			agree(t, fmt.Sprintf("%d handles more", extra), idsIn(t, &reader, names[c]), promised[c])
		}
		after, _ := openHandles(t, p)
		for tries := 0; len(after) != len(before) && tries < 10000; tries++ { // while flushes end
			reader.must(t, "GET", "/api/v2/heartbeat", "")
			after, _ = openHandles(t, p)
		}
		if len(after) != len(before) {
			t.Errorf("%d handles, %d before: %v, %v", len(after), len(before), after, before)
		}
		if t.Failed() {
			t.Fatal(p.logged())
		}
	}
	if refused == 0 {
		t.Error("no query was refused: the limit did not bite")
	}
	p.kill()
	p = spawn(t, path)
	for c := range names {
		agree(t, "after a restart", idsIn(t, p, names[c]), promised[c])
	}
}

// addressSpace is how much of it this process uses.
func addressSpace(t testing.TB) uint64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var pages uint64
	if _, err := fmt.Sscan(string(text), &pages); err != nil {
		t.Fatal(err)
	}
	return pages * uint64(os.Getpagesize())
}

// A segment that cannot be mapped for want of address space is an error of
// those who need it, as long as the want lasts.
func TestAddressSpaceLimit(t *testing.T) {
	if !again(t, nil) {
		return
	}
	ctx, path := t.Context(), t.TempDir()
	db, err := engine.Open(path, nil)
	must(t, err)
	const rows, dimension = 3000, 4096 // 48 MB, more than what is left below
	large, _, err := db.Default().GetOrCreate(ctx, "large", engine.Spec{})
	must(t, err)
	small, _, err := db.Default().GetOrCreate(ctx, "small", engine.Spec{})
	must(t, err)
	for i := range rows / 100 {
		var batch []engine.Record
		for j := range 100 {
			v := make([]float32, dimension)
			v[0] = float32(i*100 + j)
			batch = append(batch, engine.Record{ID: fmt.Sprint(i*100 + j), Embedding: v})
		}
		must(t, large.Add(ctx, batch...))
	}
	must(t, small.Add(ctx, engine.Record{ID: "a", Embedding: []float32{1}}))
	must(t, db.Close())
	waits := make(chan struct{}, 1)
	db, err = engine.Open(path, &engine.Options{Events: &engine.Events{Error: func(e engine.ErrorEvent) {
		if e.Op != "apply" || !errors.Is(e.Err, syscall.ENOMEM) {
			t.Errorf("reported: %+v", e)
		}
		select {
		case waits <- struct{}{}:
		default:
		}
	}}})
	must(t, err)
	large, err = db.Default().Collection(ctx, "large")
	must(t, err)
	small, err = db.Default().Collection(ctx, "small")
	must(t, err)
	var old syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_AS, &old))
	must(t, syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: addressSpace(t) + 24<<20, Max: old.Max}))
	for range 3 {
		_, err := large.Query(ctx, make([]float32, dimension), 1, &engine.QueryOptions{Exact: true})
		if err == nil || errors.Is(err, engine.ErrCorrupt) || !errors.Is(err, syscall.ENOMEM) || !strings.Contains(err.Error(), "seg/") {
			t.Errorf("large: %v", err)
		}
		if found, err := small.Query(ctx, []float32{1}, 1, nil); err != nil || len(found) != 1 {
			t.Errorf("small: %v, %v", found, err)
		}
	}
	// A write is on disk before it looks for the record that it replaces.
	written := make(chan error, 1)
	nearest := make([]float32, dimension)
	nearest[0] = -1
	go func() { written <- large.Upsert(ctx, engine.Record{ID: "7", Embedding: nearest}) }()
	<-waits
	must(t, syscall.Setrlimit(syscall.RLIMIT_AS, &old))
	must(t, <-written)
	found, err := large.Query(ctx, nearest, 1, &engine.QueryOptions{Exact: true})
	if err != nil || len(found) != 1 || found[0].ID != "7" {
		t.Errorf("without the limit: %v, %v", found, err)
	}
	must(t, db.Close())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
