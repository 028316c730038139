package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/chromad/chromad/server/admin"
)

// tool runs chromad in a process of its own. Its input is empty unless stdin is given.
func tool(t testing.TB, stdin string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	cmd := toolCommand(args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &err
	if e := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(e)
	}
	return cmd.ProcessState.ExitCode(), out.String(), err.String()
}

func toolCommand(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "CHROMAD_TEST_MAIN=1")
	return cmd
}

// works runs a command that is to succeed.
func works(t testing.TB, args ...string) string {
	t.Helper()
	status, out, errs := tool(t, "", args...)
	if status != exitOK {
		t.Fatalf("chromad %s: status %d\n%s%s", strings.Join(args, " "), status, out, errs)
	}
	return out
}

// refused runs a command that is to fail with a text.
func refused(t testing.TB, want string, args ...string) {
	t.Helper()
	if status, out, errs := tool(t, "", args...); status == exitOK || !strings.Contains(errs, want) {
		t.Errorf("chromad %s: status %d, want %q\n%s%s", strings.Join(args, " "), status, want, out, errs)
	}
}

func keyFile(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	works(t, "keys", "create", "--out", path)
	return path
}

func listed(t testing.TB, args ...string) (k admin.Keys) {
	t.Helper()
	must(t, json.Unmarshal([]byte(works(t, append([]string{"keys", "list", "--json"}, args...)...)), &k))
	return k
}

// canary is in every record, in a form that no encoding hides: ids are stored as they are.
const canary = "CANARY-8f1d"

// keyCollections and keyRecords are in the store of keyStore.
const (
	keyCollections = 6
	keyRecords     = 300
)

// fill puts collections into the server's store, and returns their paths.
func fill(t testing.TB, p *process) (paths []string) {
	t.Helper()
	for n := range keyCollections {
		path := makeCollection(t, p, fmt.Sprint("docs", n))
		paths = append(paths, path)
		for from := 0; from < keyRecords; from += 100 {
			var ids, documents []string
			var embeddings [][]float32
			for i := from; i < from+100; i++ {
				ids, documents, embeddings = append(ids, fmt.Sprint(canary, "-", i)), append(documents, text(i)), append(embeddings, vector(i))
			}
			body, err := json.Marshal(map[string]any{"ids": ids, "documents": documents, "embeddings": embeddings})
			must(t, err)
			p.must(t, "POST", path+"/upsert", string(body))
		}
	}
	return paths
}

// filled wants everything that fill has put there.
func filled(t testing.TB, p *process) {
	t.Helper()
	for n := range keyCollections {
		var info struct{ ID string }
		must(t, json.Unmarshal(p.must(t, "GET", fmt.Sprint(collectionsPath, "/docs", n), ""), &info))
		var got struct {
			IDs       []string
			Documents []string
		}
		must(t, json.Unmarshal(p.must(t, "POST", collectionsPath+"/"+info.ID+"/get", `{"include":["documents"]}`), &got))
		have := map[string]string{}
		for i, id := range got.IDs {
			have[id] = got.Documents[i]
		}
		for i := range keyRecords {
			if have[fmt.Sprint(canary, "-", i)] != text(i) {
				t.Fatalf("collection %d, record %d: %q", n, i, have[fmt.Sprint(canary, "-", i)])
			}
		}
	}
}

// holding returns the files of a directory that hold the text.
func holding(t testing.TB, dir, text string) (names []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(text)) {
			names = append(names, path)
		}
		return err
	}))
	return names
}

// stopped ends a server in order.
func stopped(t testing.TB, p *process) {
	t.Helper()
	must(t, p.cmd.Process.Signal(syscall.SIGTERM))
	<-p.ended
	if status := p.cmd.ProcessState.ExitCode(); status != exitOK {
		t.Errorf("status %d\n%s", status, p.logged())
	}
}

// Keys change in a server that is written to and read from: nothing is lost,
// and everything is under new keys.
func TestKeysRotateOnline(t *testing.T) {
	key, path := keyFile(t), t.TempDir()
	p := spawn(t, path, "--keys", key, "--memtable-rows", "100")
	docs := fill(t, p)
	if k := listed(t, path); fmt.Sprint(k.Store) != "[1]" || len(k.Collections) != keyCollections || !strings.HasSuffix(k.Operator, key) {
		t.Errorf("%+v", k)
	}
	var over atomic.Bool
	var wg sync.WaitGroup
	acknowledged := make([]int, 4)
	for w := range acknowledged {
		wg.Go(func() {
			for n := 0; !over.Load(); n++ {
				body := fmt.Sprintf(`{"ids":["w%d-%d"],"embeddings":[%s],"documents":["%[1]d %[2]d"]}`, w, n, jsonOf(vector(n)))
				if status, answer, err := p.do("POST", docs[w%len(docs)]+"/upsert", []byte(body)); err != nil || status >= 300 {
					t.Errorf("write while keys change: %d %s %v", status, answer, err)
					return
				}
				acknowledged[w] = n + 1
				if status, answer, err := p.do("POST", docs[w]+"/query", fmt.Appendf(nil, `{"query_embeddings":[%s],"n_results":3}`, jsonOf(vector(n)))); err != nil || status != 200 {
					t.Errorf("query while keys change: %d %s %v", status, answer, err)
					return
				}
			}
		})
	}
	for generation := 2; generation <= 1+rounds(3); generation++ {
		out := works(t, "keys", "rotate", path, "--json")
		if !strings.Contains(out, `{"event":"began"}`) || !strings.Contains(out, `"segments_done":`) || !strings.HasSuffix(out, `{"event":"done"}`+"\n") {
			t.Errorf("progress: %s", out)
		}
		k := listed(t, path)
		for _, c := range k.Collections {
			if want := fmt.Sprintf("[%d]", generation); fmt.Sprint(c.Generations) != want || fmt.Sprint(k.Store) != want || k.OldFiles != 0 || len(k.Keyset) != 1 {
				t.Errorf("after %d changes: %+v", generation-1, k)
			}
		}
	}
	over.Store(true)
	wg.Wait()
	p.kill()
	p = spawn(t, path, "--keys", key)
	filled(t, p)
	for w, n := range acknowledged {
		var ids []string
		for i := range n {
			ids = append(ids, fmt.Sprintf("w%d-%d", w, i))
		}
		body, err := json.Marshal(map[string]any{"ids": ids, "include": []string{}})
		must(t, err)
		var got struct{ IDs []string }
		must(t, json.Unmarshal(p.must(t, "POST", docs[w]+"/get", string(body)), &got))
		if len(got.IDs) != n || n == 0 {
			t.Errorf("writer %d: %d of %d records are there", w, len(got.IDs), n)
		}
	}
	t.Logf("%d records were written meanwhile", acknowledged)
	stopped(t, p)
	if names := holding(t, path, canary); len(names) > 0 {
		t.Errorf("in the clear: %q", names)
	}
}

func jsonOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// killedAt runs a command that tells progress as JSON, and kills victim, or
// where that is nil the command itself, when it has told n lines. It returns
// what it told in the end.
func killedAt(t testing.TB, n int, victim *os.Process, args ...string) (last string) {
	t.Helper()
	cmd := toolCommand(append(args, "--json")...)
	out, err := cmd.StdoutPipe()
	must(t, err)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	must(t, cmd.Start())
	if victim == nil {
		victim = cmd.Process
	}
	lines := bufio.NewScanner(out)
	for i := 1; lines.Scan(); i++ {
		if last = lines.Text(); i == n {
			victim.Kill()
		}
	}
	victim.Kill() // when there were fewer lines: callers wait for its end
	cmd.Wait()
	return last + errs.String()
}

// rounds is how often something is done, once when tests are to be short.
func rounds(n int) int {
	if testing.Short() {
		return 1
	}
	return n
}

// The process is killed while keys change, offline and in a server: the same
// command finishes it, and nothing is lost.
func TestKeysRotateKilled(t *testing.T) {
	key, path := keyFile(t), t.TempDir()
	p := spawn(t, path, "--keys", key, "--memtable-rows", "100")
	fill(t, p)
	stopped(t, p)
	met := 0
	for n := range rounds(4) {
		killedAt(t, n+1, nil, "keys", "rotate", path, "--keys", key)
		if k := listed(t, path, "--keys", key); k.OldFiles > 0 {
			met++
		}
		p := spawn(t, path, "--keys", key)
		told := killedAt(t, n+2, p.cmd.Process, "keys", "rotate", path)
		<-p.ended
		if !strings.Contains(told, `"done"`) && !strings.Contains(told, "the server has ended") && !strings.Contains(told, "EOF") {
			t.Errorf("when the server was killed: %s", told)
		}
		if k := listed(t, path, "--keys", key); k.OldFiles > 0 {
			met++
		}
	}
	if met == 0 {
		t.Error("no kill met a change of keys: nothing was proven")
	}
	t.Logf("%d of %d kills met a change of keys", met, 2*rounds(4))
	works(t, "keys", "rotate", path, "--keys", key)
	k := listed(t, path, "--keys", key)
	if len(k.Store) != 1 || len(k.Keyset) != 1 || k.OldFiles != 0 || slices.ContainsFunc(k.Collections, func(c admin.CollectionKey) bool { return len(c.Generations) != 1 }) {
		t.Errorf("afterwards: %+v", k)
	}
	p = spawn(t, path, "--keys", key)
	filled(t, p)
	stopped(t, p)
}

// A plain store is encrypted where it is; the process is killed meanwhile, and
// goes on. Afterwards no file holds what was written.
func TestKeysEncryptKilled(t *testing.T) {
	key, path := keyFile(t), t.TempDir()
	p := spawn(t, path, "--memtable-rows", "100")
	fill(t, p)
	refused(t, "stop the server first", "keys", "encrypt", path, "--keys", key)
	p.kill() // so that the log holds something
	if len(holding(t, path, canary)) == 0 {
		t.Fatal("the canary is not found in a plain store: nothing is proven")
	}
	refused(t, "chromad keys encrypt "+path, "run", "--port", "0", "--path", path, "--keys", key)
	refused(t, "it is plain (chromad keys encrypt "+path, "keys", "list", path)
	refused(t, "it is plain (chromad keys encrypt "+path, "keys", "rotate", path)
	met := 0
	for n := range rounds(5) {
		killedAt(t, n+1, nil, "keys", "encrypt", path, "--keys", key)
		if k := listed(t, path, "--keys", key); k.Converting {
			met++
			refused(t, "name the key with --keys", "run", "--port", "0", "--path", path)
		}
	}
	if met == 0 {
		t.Error("no kill met the conversion: nothing was proven")
	}
	t.Logf("%d of %d kills met the conversion", met, rounds(5))
	if out := works(t, "keys", "encrypt", path, "--keys", key); !strings.Contains(out, "chromad run --path "+path) {
		t.Error(out)
	}
	if k := listed(t, path, "--keys", key); k.Converting || k.OldFiles > 0 {
		t.Errorf("%+v", k)
	}
	if names := holding(t, path, canary); len(names) > 0 {
		t.Errorf("in the clear: %q", names)
	}
	p = spawn(t, path, "--keys", key)
	filled(t, p)
	stopped(t, p)
	if names := holding(t, path, canary); len(names) > 0 {
		t.Errorf("in the clear: %q", names)
	}
}

// A store is put under another key: the old one is refused, as are no key, a
// key that others can read, and one that is not there.
func TestKeysRewrap(t *testing.T) {
	key, next, path := keyFile(t), keyFile(t), t.TempDir()
	p := spawn(t, path, "--keys", key)
	fill(t, p)
	refused(t, "stop the server first", "keys", "rewrap", path, "--keys", key, "--new-keys", next)
	stopped(t, p)
	generation := listed(t, path, "--keys", key).Store
	refused(t, "does not open with", "keys", "rewrap", path, "--keys", next, "--new-keys", key)
	refused(t, "there is no such file", "keys", "rewrap", path, "--keys", key, "--new-keys", next+"-missing")
	works(t, "keys", "rewrap", path, "--keys", key, "--new-keys", next)
	run := []string{"run", "--port", "0", "--path", path}
	refused(t, `sealed under the operator's key "file://`+next, append(run, "--keys", key)...)
	refused(t, `it opens with the operator's key "file://`+next+`"; name the key with --keys URI`, run...)
	refused(t, "there is no such file", append(run, "--keys", next+"-missing")...)
	must(t, os.Chmod(next, 0o640))
	refused(t, "chmod 600", append(run, "--keys", next)...)
	must(t, os.Chmod(next, 0o600))
	inside := filepath.Join(path, "key")
	must(t, os.Rename(key, inside))
	refused(t, "the new key file is in the store's own directory", "keys", "rewrap", path, "--keys", next, "--new-keys", inside)
	must(t, os.Remove(inside))
	if k := listed(t, path, "--keys", next); fmt.Sprint(k.Store) != fmt.Sprint(generation) {
		t.Errorf("data keys have changed: %+v", k)
	}
	p = spawn(t, path, "--keys", next)
	filled(t, p)
	stopped(t, p)
	for _, args := range [][]string{run, {"keys", "rotate", path}, {"compact", path}, {"compact", path, "--erase-now"}} {
		refused(t, "it has to be 1000 or more", append(args, "--keys", next, "--expect-generation", "1000")...)
	}
	p = spawn(t, path, "--keys", next)
	refused(t, "it has to be 1000 or more", "keys", "rotate", path, "--expect-generation", "1000") // who asks may know better than the server
	works(t, "compact", path, "--expect-generation", "1")
	stopped(t, p)
	works(t, "compact", path, "--keys", next, "--expect-generation", "1")
}

// One collection goes, then the store: by what was typed, or not at all.
func TestKeysDestroy(t *testing.T) {
	key, path := keyFile(t), t.TempDir()
	p := spawn(t, path, "--keys", key)
	doomed := fill(t, p)[1]
	id := doomed[strings.LastIndex(doomed, "/")+1:]
	refused(t, "deleted through its API", "keys", "destroy", path, "--keys", key, "--collection", id)
	stopped(t, p)
	destroy := []string{"keys", "destroy", path, "--keys", key}
	refused(t, "either --collection ID or --store", destroy...)
	refused(t, "either --collection ID or --store", append(destroy, "--store", "--collection", id)...)
	refused(t, "is not a UUID", append(destroy, "--collection", "docs1")...)
	for _, typed := range []string{"", "yes\n", id[:8] + "\n"} {
		if status, _, errs := tool(t, typed, append(destroy, "--collection", id)...); status == exitOK || !strings.Contains(errs, "nothing was destroyed") {
			t.Errorf("%q: status %d, %s", typed, status, errs)
		}
	}
	status, out, errs := tool(t, id+"\n", append(destroy, "--collection", id)...)
	if status != exitOK || !strings.Contains(out, `Collection "docs1" of database "default_database"`) || !strings.Contains(out, "its key destroyed") {
		t.Errorf("status %d, %s%s", status, out, errs)
	}
	if k := listed(t, path, "--keys", key); len(k.Collections) != keyCollections-1 {
		t.Errorf("%+v", k)
	}
	refused(t, "not found", append(destroy, "--collection", id, "--yes")...)
	refused(t, "nothing was destroyed", append(destroy, "--store")...)
	other := keyFile(t)
	refused(t, "does not open with", "keys", "destroy", path, "--keys", other, "--store", "--yes")
	if status, out, errs := tool(t, path+"\n", append(destroy, "--store")...); status != exitOK {
		t.Errorf("status %d, %s%s", status, out, errs)
	}
	if left, err := os.ReadDir(filepath.Join(path, "keys")); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
	refused(t, "missing or has no key in it", "run", "--port", "0", "--path", path, "--keys", key)
	refused(t, "or they were destroyed", append(destroy, "--store", "--yes")...)
}
