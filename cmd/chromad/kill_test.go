package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/engine/keys"
)

var (
	killN    = flag.Int("kill.n", 10, "how often TestKill kills the server")
	killSeed = flag.Uint64("kill.seed", 1, "seed of what its clients write and of when it is killed")
)

const killClients = 4

// killed is a server that is killed again and again, and what its clients know.
type killed struct {
	*rand.Rand
	path    string
	key     engine.OperatorKey // nil: the store is plain
	args    []string           // of the server
	p       *process
	authors [killClients]*author
	known   [killClients]map[string]documents // what was acknowledged
	pending [killClients]*change              // sent, and no answer came
	ids     sync.Map                          // of collections, by name

	counts struct {
		acknowledged, kept, lost, checked, starting, stopping int
		flushed, compacted, checkpoints                       int
	}
}

// The process is killed while clients write through HTTP, while it starts, and
// while it stops. What was acknowledged is there afterwards, bit by bit, by id
// and by vector; of what was under way, each write as a whole or not at all;
// and nothing else.
func TestKill(t *testing.T) {
	n := *killN
	if testing.Short() {
		n = min(n, 4)
	}
	t.Run("plain", func(t *testing.T) { kill(t, n-n/2, "") })
	t.Run("encrypted", func(t *testing.T) {
		key := filepath.Join(t.TempDir(), "key")
		if err := keys.CreateFile(key); err != nil {
			t.Fatal(err)
		}
		kill(t, n/2, key)
	})
}

func kill(t *testing.T, n int, key string) {
	k := &killed{Rand: rand.New(rand.NewPCG(*killSeed, 0)), path: t.TempDir(), args: killArgs}
	if key != "" {
		k.args = append(slices.Clone(killArgs), "--keys", key)
		var err error
		if k.key, err = keys.Open(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	for i := range k.authors {
		k.authors[i] = &author{Rand: rand.New(rand.NewPCG(*killSeed, uint64(i+1))), name: fmt.Sprint("client", i)}
		k.known[i] = map[string]documents{}
	}
	k.p = k.spawn(t)
	for name := range dimensions {
		k.create(t, name)
		for i := range k.known {
			k.known[i][name] = documents{}
		}
	}
	for round := range n {
		k.load(t)
		for k.IntN(4) == 0 { // again, before it is ready
			p, log := launch(t, k.path, k.args...)
			time.AfterFunc(time.Duration(k.IntN(30))*time.Millisecond, func() { p.cmd.Process.Kill() })
			p.follow(log)
			k.counts.starting++
		}
		if round%5 == 4 || round == n-1 {
			k.noLeftovers(t)
		}
		k.p = k.spawn(t)
		k.check(t)
		if t.Failed() {
			t.Fatalf("after kill %d, SEED=%d\n%s", round+1, *killSeed, k.p.logged())
		}
	}
	if c := k.counts; c.flushed == 0 || n >= 50 && (c.compacted == 0 || c.kept == 0 || c.lost == 0) {
		t.Error("the kills met no background work, or no write under way: nothing was proven of them")
	}
	t.Logf("%d kills under load, %d of them while it stopped, and others while it started: %+v", n, k.counts.stopping, k.counts)
}

// killArgs make segments small, and have the log tell of them.
var killArgs = []string{"--memtable-rows", "30", "--log-level", "debug"}

func (k *killed) spawn(t *testing.T) *process { return spawn(t, k.path, k.args...) }

func (k *killed) create(t *testing.T, name string) {
	k.learn(t, name, k.p.must(t, "POST", collectionsPath, fmt.Sprintf(`{"name":%q}`, name)))
}

// learn notes the id of a collection that was made.
func (k *killed) learn(t *testing.T, name string, answer []byte) {
	var made struct{ ID string }
	if err := json.Unmarshal(answer, &made); err != nil || made.ID == "" {
		t.Errorf("%s: %s, %v", name, answer, err)
	}
	k.ids.Store(name, made.ID)
}

// load lets the clients write until the server is killed.
func (k *killed) load(t *testing.T) {
	var left atomic.Int64
	left.Store(int64(1 + k.IntN(60)))
	stopFirst, patience := k.IntN(6) == 0, time.Duration(k.IntN(10))*time.Millisecond
	var dying atomic.Bool
	process := k.p.cmd.Process
	end := func() {
		dying.Store(true)
		if stopFirst {
			process.Signal(syscall.SIGTERM)
			time.AfterFunc(patience, func() { process.Kill() })
		} else {
			process.Kill()
		}
	}
	var wg sync.WaitGroup
	var acknowledged [killClients]int
	for i, a := range k.authors {
		wg.Go(func() {
			for {
				c := a.write(k.known[i])
				k.pending[i] = &c
				status, answer, err := k.send(&c)
				if err != nil || dying.Load() && status >= 300 {
					return
				}
				if status >= 300 {
					t.Errorf("%s %s: status %d, %s", c.method, c.path, status, answer)
					dying.Store(true)
					process.Kill()
					return
				}
				if c.path == "" {
					k.learn(t, c.collection, answer)
				}
				k.known[i][c.collection], k.pending[i] = c.after, nil
				acknowledged[i]++
				if left.Add(-1) == 0 {
					end()
				}
			}
		})
	}
	wg.Wait()
	<-k.p.ended
	k.p.client.CloseIdleConnections()
	for _, n := range acknowledged {
		k.counts.acknowledged += n
	}
	log := k.p.logged()
	k.counts.flushed += strings.Count(log, "msg=flushed")
	k.counts.compacted += strings.Count(log, "msg=compacted")
	k.counts.checkpoints += strings.Count(log, "msg=checkpoint")
	if stopFirst {
		k.counts.stopping++
	}
}

func (k *killed) send(c *change) (status int, answer []byte, err error) {
	path := c.path
	if strings.Contains(path, "%s") {
		id, _ := k.ids.Load(c.collection)
		path = fmt.Sprintf(path, id)
	}
	var body []byte
	if c.body != nil {
		if body, err = json.Marshal(c.body); err != nil {
			return 0, nil, err
		}
	}
	return k.p.do(c.method, collectionsPath+path, body)
}

// check compares what the server has with what the clients know, and learns
// from it what became of the writes that were under way.
func (k *killed) check(t *testing.T) {
	found := map[string]documents{} // by collection
	var infos []struct{ ID, Name string }
	if err := json.Unmarshal(k.p.must(t, "GET", collectionsPath, ""), &infos); err != nil {
		t.Fatal(err)
	}
	for _, c := range infos {
		k.ids.Store(c.Name, c.ID)
		found[c.Name] = k.get(t, c.Name, nil)
	}
	for i, a := range k.authors {
		mine := map[string]documents{}
		for name, all := range found {
			if _, shared := dimensions[name]; !shared && name != a.own() {
				continue
			}
			mine[name] = documents{}
			for id, d := range all {
				if strings.HasPrefix(id, a.name+"/") {
					mine[name][id] = d
					delete(all, id)
				}
			}
		}
		k.settle(t, i, mine)
	}
	for name, rest := range found {
		owned := slices.ContainsFunc(k.authors[:], func(a *author) bool { return a.own() == name })
		if _, shared := dimensions[name]; !shared && !owned || len(rest) > 0 {
			t.Errorf("%s: %d records that nobody wrote", name, len(rest))
		}
	}
	if !t.Failed() {
		k.lookUp(t)
	}
}

// settle wants the records of client i to be what was acknowledged, or that
// and the write that was under way.
func (k *killed) settle(t *testing.T, i int, mine map[string]documents) {
	if c := k.pending[i]; c != nil {
		before := k.known[i][c.collection]
		if mine[c.collection].equal(c.after) && !c.after.equal(before) {
			k.known[i][c.collection] = c.after
			k.counts.kept++
		} else {
			k.counts.lost++
		}
		k.pending[i] = nil
	}
	for name := range dimensions {
		if mine[name] == nil {
			t.Errorf("%s: gone", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(dimensions)) {
		diffDocuments(t, name, mine[name], k.known[i][name])
	}
	own := k.authors[i].own()
	if (mine[own] == nil) != (k.known[i][own] == nil) {
		t.Errorf("%s: there: %t, want %t", own, mine[own] != nil, k.known[i][own] != nil)
	}
	diffDocuments(t, own, mine[own], k.known[i][own])
}

func diffDocuments(t *testing.T, name string, got, want documents) {
	t.Helper()
	for id, d := range want {
		if g, there := got[id]; !there {
			t.Errorf("%s: %s was acknowledged and is not there", name, id)
		} else if !g.equal(d) {
			t.Errorf("%s: %s is %+v, acknowledged was %+v", name, id, g, d)
		}
	}
	for id := range got {
		if _, known := want[id]; !known {
			t.Errorf("%s: %s is there, which was never written or was deleted", name, id)
		}
	}
}

// get reads records whole, all of them or those with the ids.
func (k *killed) get(t *testing.T, name string, ids []string) documents {
	id, _ := k.ids.Load(name)
	body, err := json.Marshal(map[string]any{"ids": ids, "include": []string{"embeddings", "metadatas", "documents"}})
	if err != nil {
		t.Fatal(err)
	}
	var got columns
	out := documents{}
	if err := decode(k.p.must(t, "POST", fmt.Sprintf("%s/%s/get", collectionsPath, id), string(body)), &got); err != nil {
		t.Fatal(err)
	}
	if err := got.read(out); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	return out
}

// lookUp finds every record by its id and as the nearest to its own embedding:
// what a scan shows may still be out of reach of an index.
func (k *killed) lookUp(t *testing.T) {
	for i := range k.known {
		for name, want := range k.known[i] {
			if len(want) == 0 {
				continue
			}
			ids := slices.Sorted(maps.Keys(want))
			diffDocuments(t, name+" by id", k.get(t, name, ids), want)
			var vectors [][]float32
			for _, id := range ids {
				vectors = append(vectors, want[id].embedding)
			}
			body, err := json.Marshal(map[string]any{"query_embeddings": vectors, "n_results": 1, "include": []string{"distances"}})
			if err != nil {
				t.Fatal(err)
			}
			var near struct {
				IDs       [][]string
				Distances [][]float64
			}
			collection, _ := k.ids.Load(name)
			if err := decode(k.p.must(t, "POST", fmt.Sprintf("%s/%s/query", collectionsPath, collection), string(body)), &near); err != nil {
				t.Fatal(err)
			}
			if len(near.IDs) != len(ids) {
				t.Fatalf("%s: %d answers to %d queries", name, len(near.IDs), len(ids))
			}
			for j, id := range ids {
				if len(near.IDs[j]) != 1 || near.Distances[j][0] != 0 {
					t.Errorf("%s: nearest to %s is %v at %v", name, id, near.IDs[j], near.Distances[j])
				}
			}
			k.counts.checked += len(ids)
		}
	}
}

// noLeftovers opens and closes the store that was killed: then there are no
// files but those that its newest checkpoint names.
func (k *killed) noLeftovers(t *testing.T) {
	report, err := engine.Check(t.Context(), k.path, &engine.Options{Keys: k.key}, engine.CheckOptions{})
	if err == nil {
		err = report.Err()
	}
	if err != nil {
		t.Fatal(err)
	}
	db, err := engine.Open(k.path, &engine.Options{Keys: k.key})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = engine.Open(k.path, &engine.Options{Keys: k.key, ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"seg": db.Stats().Segments, "checkpoint": 1, "tmp": 0}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for dir, n := range want {
		files, err := os.ReadDir(filepath.Join(k.path, dir))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if len(files) != n {
			t.Errorf("%d files in %s, the store names %d", len(files), dir, n)
		}
	}
}
