package engine

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"path"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/anishathalye/porcupine"

	"github.com/chromad/chromad/internal/vfs/faultfs"
)

var (
	linearOps  = flag.Int("linear.ops", 20000, "operations of TestLinearizable")
	linearSeed = flag.Uint64("linear.seed", 1, "seed of its first history")
)

// A history is what the clients did to a handful of ids, few enough to meet,
// until the store was opened again.
const (
	linearClients = 16
	linearIDs     = 12
	linearHistory = 2000 // operations
)

type touchKind uint8

const (
	touchAdd touchKind = iota
	touchUpsert
	touchUpdate
	touchDelete
	touchRead
)

func (k touchKind) String() string {
	return [...]string{"add", "upsert", "update", "delete", "read"}[k]
}

// touch is what a call does to one id. A call with several ids is as many
// touches at the same time; that they are seen together is TestWholeBatches'.
type touch struct {
	id    string
	kind  touchKind
	value int // written
}

// touched is what the call told of the id.
type touched struct {
	unknown bool // it may or may not have happened
	removed int  // by a delete; -1: not told, there were several ids
	value   int  // read; 0: the id is not there
}

// linearModel is the sequential meaning of one id: its value, 0 when it is not there.
var linearModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byID := map[string][]porcupine.Operation{}
		for _, o := range history {
			id := o.Input.(touch).id
			byID[id] = append(byID[id], o)
		}
		return slices.Collect(maps.Values(byID))
	},
	Init: func() any { return 0 },
	Step: func(state, input, output any) (bool, any) {
		value, in, out := state.(int), input.(touch), output.(touched)
		there := value != 0
		switch {
		case in.kind == touchRead:
			return out.value == value, value
		case in.kind == touchDelete:
			return out.unknown || out.removed < 0 || out.removed == 1 == there, 0
		case in.kind == touchAdd && there, in.kind == touchUpdate && !there:
			return true, value
		}
		return true, in.value
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v: %+v", input, output) },
}

// recorder keeps a history. Its clock counts calls and returns, so that two of
// them are never at the same time.
type recorder struct {
	clock atomic.Int64
	value atomic.Int64
	mu    sync.Mutex
	ops   []porcupine.Operation
}

// record adds the touches of a call. What has not happened for certain may
// still happen at any time.
func (h *recorder) record(client int, begin int64, in []touch, out []touched) {
	end := h.clock.Add(1)
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range in {
		o := porcupine.Operation{ClientId: client, Call: begin, Return: end, Input: in[i], Output: out[i]}
		if out[i].unknown {
			o.Return = math.MaxInt64
		}
		h.ops = append(h.ops, o)
	}
}

// linearClient does one operation after the other.
type linearClient struct {
	*rand.Rand
	number int
	h      *recorder
	db     *DB
	c      *Collection
}

func linearID(i int) string { return fmt.Sprint("id-", i) }

// step does one random operation and records it.
func (l *linearClient) step(ctx context.Context) error {
	switch n := l.IntN(200); {
	case n == 0:
		return l.db.Flush(ctx)
	case n == 1:
		return l.db.Compact(ctx)
	case n < 10: // the caller gives up, sooner or later
		mine, cancel := context.WithCancel(ctx)
		defer cancel()
		patience := l.IntN(50)
		go func() {
			for range patience {
				runtime.Gosched()
			}
			cancel()
		}()
		ctx = mine
	}
	ids := make([]string, 1)
	if l.IntN(4) == 0 {
		ids = make([]string, 2+l.IntN(3))
	}
	for i, n := range l.Perm(linearIDs)[:len(ids)] {
		ids[i] = linearID(n)
	}
	if kind := touchKind(l.IntN(8)); kind < touchRead {
		return l.write(ctx, kind, ids)
	}
	return l.read(ctx, ids, l.IntN(3) == 0)
}

func (l *linearClient) write(ctx context.Context, kind touchKind, ids []string) error {
	in, out := make([]touch, len(ids)), make([]touched, len(ids))
	recs := make([]Record, len(ids))
	for i, id := range ids {
		v := int(l.h.value.Add(1))
		in[i] = touch{id, kind, v}
		recs[i] = Record{ID: id, Embedding: []float32{float32(v), 1}, Document: Optional(strconv.Itoa(v))}
	}
	begin := l.h.clock.Add(1)
	var err error
	removed := 0
	switch kind {
	case touchAdd:
		err = l.c.Add(ctx, recs...)
	case touchUpsert:
		err = l.c.Upsert(ctx, recs...)
	case touchUpdate:
		err = l.c.Update(ctx, recs...)
	default:
		removed, err = l.c.Delete(ctx, Selection{IDs: ids})
	}
	switch {
	case errors.Is(err, ErrUnknown):
		for i := range out {
			out[i].unknown = true
		}
	case errors.Is(err, context.Canceled):
		return nil // nothing was written, says every other error
	case err != nil:
		return err
	case len(ids) > 1:
		removed = -1
	}
	for i := range out {
		out[i].removed = removed
	}
	l.h.record(l.number, begin, in, out)
	return nil
}

// read reads ids, by a get or as the only candidates of a query.
func (l *linearClient) read(ctx context.Context, ids []string, query bool) error {
	begin := l.h.clock.Add(1)
	var recs []Record
	if query {
		found, err := l.c.Query(ctx, []float32{0, 1}, len(ids), &QueryOptions{IDs: ids, Exact: l.IntN(2) == 0, Include: IncludeAll})
		if err != nil {
			return unlessCancelled(err)
		}
		for _, m := range found {
			recs = append(recs, m.Record)
		}
	} else {
		for r, err := range l.c.Get(ctx, Selection{IDs: ids}, IncludeAll) {
			if err != nil {
				return unlessCancelled(err)
			}
			recs = append(recs, r)
		}
	}
	in, out := make([]touch, len(ids)), make([]touched, len(ids))
	for i, id := range ids {
		in[i] = touch{id: id, kind: touchRead}
	}
	for _, r := range recs {
		i := slices.Index(ids, r.ID)
		if i < 0 || out[i].value != 0 {
			return fmt.Errorf("asked for %v, found %s", ids, r.ID)
		}
		out[i].value = int(r.Embedding[0])
		if r.Document == nil || *r.Document != strconv.Itoa(out[i].value) {
			return fmt.Errorf("%s: a document of one write with the embedding of another: %v, %v", r.ID, show(r.Document), r.Embedding)
		}
	}
	l.h.record(l.number, begin, in, out)
	return nil
}

func unlessCancelled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// linearRun is one history: clients at work, the store opened again, by turns
// after Close and after a power cut, and every id read once more.
func linearRun(t *testing.T, seed uint64) []porcupine.Operation {
	ctx := t.Context()
	rng := rand.New(rand.NewPCG(seed, 16))
	fs := faultfs.New(seed)
	o := busy(keysOf(seed, fs))
	o.MemtableRows = 1 + rng.IntN(40)
	db := openOn(t, fs, o)
	h := &recorder{}
	c := newCollection(t, db, "c")
	var left atomic.Int64
	left.Store(linearHistory)
	var wg sync.WaitGroup
	for n := range linearClients {
		l := &linearClient{rand.New(rand.NewPCG(seed, uint64(n))), n, h, db, c}
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := l.step(ctx); err != nil {
					t.Errorf("seed %d, client %d: %v", seed, n, err)
					left.Store(0)
				}
			}
		})
	}
	wg.Wait()
	if rng.IntN(2) == 0 {
		fs = fs.Crash(rng)
		db.Close() // on a disk without power
	} else {
		check(t, db.Close())
	}
	db = openOn(t, fs, o)
	l := &linearClient{rng, linearClients, h, db, collection(t, db, "c")}
	for i := range linearIDs {
		check(t, l.read(ctx, []string{linearID(i)}, i%2 == 0))
	}
	check(t, db.Close())
	return h.ops
}

// Each id behaves like a variable of its own that many clients write and read
// at once: there is an order of all calls, each between its begin and its end,
// in which every answer is right. Histories are searched for such an order with
// the algorithm of Lowe, "Testing for linearizability" (2017).
func TestLinearizable(t *testing.T) {
	histories := max(1, *linearOps/linearHistory)
	if testing.Short() {
		histories = max(1, histories/4)
	}
	touches, unknown := 0, 0
	for n := range histories {
		seed := *linearSeed + uint64(n)
		ops := linearRun(t, seed)
		touches += len(ops)
		for _, o := range ops {
			if o.Output.(touched).unknown {
				unknown++
			}
		}
		if result, info := porcupine.CheckOperationsVerbose(linearModel, ops, 0); result != porcupine.Ok {
			page := path.Join(t.ArtifactDir(), "history.html")
			if err := porcupine.VisualizePath(linearModel, info, page); err != nil {
				t.Error(err)
			}
			t.Fatalf("no order of calls explains the answers; SEED=%d, history in %s (kept with -artifacts)", seed, page)
		}
	}
	if unknown == 0 && histories > 4 {
		t.Error("no outcome was unknown: the clients that give up prove nothing")
	}
	t.Logf("%d histories, %d touches of %d ids by %d clients, %d with unknown outcome", histories, touches, linearIDs, linearClients, unknown)
}

// The checker refuses histories that no store of one copy can have.
func TestLinearizableModel(t *testing.T) {
	op := func(begin, end int64, k touchKind, v int, out touched) porcupine.Operation {
		return porcupine.Operation{Call: begin, Return: end, Input: touch{"a", k, v}, Output: out}
	}
	for _, tc := range []struct {
		name string
		want bool
		ops  []porcupine.Operation
	}{
		{"read of what was written", true, []porcupine.Operation{op(1, 2, touchAdd, 7, touched{}), op(3, 4, touchRead, 0, touched{value: 7})}},
		{"acknowledged and not there", false, []porcupine.Operation{op(1, 2, touchAdd, 7, touched{}), op(3, 4, touchRead, 0, touched{})}},
		{"seen before it is written, at the same time", true, []porcupine.Operation{op(1, 9, touchUpsert, 7, touched{}), op(3, 4, touchRead, 0, touched{value: 7})}},
		{"seen and unseen again", false, []porcupine.Operation{op(1, 9, touchUpsert, 7, touched{}), op(2, 3, touchRead, 0, touched{value: 7}), op(4, 5, touchRead, 0, touched{})}},
		{"unknown and seen late", true, []porcupine.Operation{op(1, math.MaxInt64, touchUpsert, 7, touched{unknown: true}), op(3, 4, touchRead, 0, touched{}), op(5, 6, touchRead, 0, touched{value: 7})}},
		{"unknown and never seen", true, []porcupine.Operation{op(1, math.MaxInt64, touchUpsert, 7, touched{unknown: true}), op(3, 4, touchRead, 0, touched{})}},
		{"an add over a record", false, []porcupine.Operation{op(1, 2, touchAdd, 7, touched{}), op(3, 4, touchAdd, 8, touched{}), op(5, 6, touchRead, 0, touched{value: 8})}},
		{"an update of nothing", false, []porcupine.Operation{op(1, 2, touchUpdate, 7, touched{}), op(3, 4, touchRead, 0, touched{value: 7})}},
		{"a delete that miscounts", false, []porcupine.Operation{op(1, 2, touchDelete, 0, touched{removed: 1})}},
		{"a deleted record", false, []porcupine.Operation{op(1, 2, touchAdd, 7, touched{}), op(3, 4, touchDelete, 0, touched{removed: 1}), op(5, 6, touchRead, 0, touched{value: 7})}},
	} {
		if got := porcupine.CheckOperations(linearModel, tc.ops); got != tc.want {
			t.Errorf("%s: %t, want %t", tc.name, got, tc.want)
		}
	}
}
