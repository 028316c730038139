package hnsw

import (
	"math"
	"slices"

	"github.com/chromad/chromad/internal/kernel"
)

// A bulk links all nodes of one level at once, without searching: rows that
// are near to each other are near to the same leaders, so the nodes are put
// into overlapping groups around leaders, and all nodes of a group are
// compared with each other (Rubel et al., "PiPNN: Ultra-Scalable Graph-Based
// Nearest Neighbor Indexing", arXiv 2602.21247). That turns nearly all of the
// work into products of matrices.
type bulk struct {
	*builder
	level int
	nodes []uint32 // ascending
	rows  []uint32 // of nodes
	fan   int      // groups that a node is in
	near  int      // nearest nodes that it takes from each

	groupOf []uint32 // fan of each node, that of the nearest leader first
	first   []uint32 // one more than groups: where the members of a group begin
	member  []uint32 // places in nodes, ascending in each group
	found   []uint16 // near of each node in each of its groups: places in the group
}

const (
	groupSize = 1024          // mean size of a group
	groupMost = 4 * groupSize // larger ones are split
	groupOnly = 1024          // as many nodes are one group
	noMember  = math.MaxUint16
)

// bulkLink links the nodes of level, of which the levels above are linked.
func (b *builder) bulkLink(level int, nodes []uint32) error {
	k := &bulk{builder: b, level: level, nodes: nodes, rows: nodes, fan: 8, near: 32}
	if level > 0 {
		k.rows = make([]uint32, len(nodes))
		for i, n := range nodes {
			k.rows[i] = b.g.rowOf(level, n)
		}
	}
	for _, step := range []func() error{k.partition, k.compare, k.linkOut, k.linkIn} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// compare finds the nearest nodes of every node in its groups.
func (k *bulk) compare() error {
	k.found = make([]uint16, len(k.nodes)*k.fan*k.near)
	return k.told(len(k.first)-1, 1, k.worth(4), func(w *worker, i int) { k.compareGroup(w, uint32(i)) })
}

// worth is the rows' worth of a step that takes so many tenths of the time.
func (k *bulk) worth(tenths int) int {
	if k.level > 0 {
		return 0
	}
	return len(k.nodes) / 10 * tenths
}

func (k *bulk) compareGroup(w *worker, group uint32) {
	members := k.member[k.first[group]:k.first[group+1]]
	w.rows = w.rows[:0]
	for _, m := range members {
		w.rows = append(w.rows, k.rows[m])
	}
	w.panel.fill(k.grid, w.rows)
	far := int32(math.MaxInt32)
	for i := 0; i < len(members); i += 4 {
		if i%64 == 0 && k.ctx.Err() != nil {
			return
		}
		four := w.rows[i:min(i+4, len(members))]
		w.quad.aim(k.grid, four)
		w.quad.score(&w.panel, 0, 0, w.panel.size)
		for j, row := range four {
			keys := w.quad.of(j)[:len(members)]
			keys[i+j] = math.MaxInt32
			bias := k.grid.bias[row]
			w.keys = smallest(w.keys[:0], keys, k.near, saturate(int64(far)-int64(bias)))
			k.store(members[i+j], group, w.keys)
			if len(w.keys) == k.near {
				far = saturate((int64(unbiased(w.keys[k.near-1])) + int64(bias)) * 9 / 8)
			}
		}
	}
}

// store writes the nearest of a node in a group.
func (k *bulk) store(node, group uint32, keys []uint64) {
	at := int(node) * k.fan
	at += slices.Index(k.groupOf[at:at+k.fan], group)
	list := k.found[at*k.near : (at+1)*k.near]
	for i := range list {
		list[i] = noMember
		if i < len(keys) {
			list[i] = uint16(keys[i])
		}
	}
}

// smallest returns the limit smallest of d with their indexes, as keys that
// sort by both. They are likely to be below guess: a wrong one costs time
// only.
func smallest(keys []uint64, d []int32, limit int, guess int32) []uint64 {
	if keys = keepSmallest(keys[:0], d, 0, limit, guess); len(keys) < limit && guess < math.MaxInt32 {
		keys = keepSmallest(keys[:0], d, 0, limit, math.MaxInt32)
	}
	return keys
}

// keepSmallest merges the numbers of d that are less than below into keys,
// which are ascending, and keeps the limit smallest. The index of d[i] is
// from+i; those in keys are less.
func keepSmallest(keys []uint64, d []int32, from, limit int, below int32) []uint64 {
	if len(keys) == limit {
		below = min(below, unbiased(keys[limit-1]))
	}
	for i := kernel.NextBelow(d, 0, below); i < len(d); i = kernel.NextBelow(d, i+1, below) {
		key := biased(d[i], from+i)
		if len(keys) < limit {
			keys = append(keys, key)
		}
		at := len(keys) - 1
		for ; at > 0 && keys[at-1] > key; at-- {
			keys[at] = keys[at-1]
		}
		keys[at] = key
		if len(keys) == limit {
			below = unbiased(keys[limit-1])
		}
	}
	return keys
}

// biased is a key of a number that may be negative, and an index.
func biased(d int32, i int) uint64 { return uint64(uint32(d)^1<<31)<<32 | uint64(uint32(i)) }

func unbiased(key uint64) int32 { return int32(uint32(key>>32) ^ 1<<31) }

func saturate(x int64) int32 { return int32(min(max(x, math.MinInt32), math.MaxInt32)) }

// A panel is rows side by side, to be compared with four others at a time.
type panel struct {
	size  int // rows, rounded up
	bytes []byte
	norm  []int32
}

func (p *panel) fill(g *grid, rows []uint32) {
	p.size = (len(rows) + 31) &^ 31
	p.bytes = slices.Grow(p.bytes[:0], p.size*g.stride)[:p.size*g.stride]
	p.norm = slices.Grow(p.norm[:0], p.size)[:p.size]
	kernel.Pack8(p.bytes, g.codes, g.stride, rows)
	for i := range p.norm {
		p.norm[i] = g.norm[rows[min(i, len(rows)-1)]]
	}
}

// A quad compares rows, four at a time, with those of a panel.
type quad struct {
	stride  int
	queries []int8
	keys    []int32
	width   int // keys of each of the four
}

// aim takes rows as queries.
func (q *quad) aim(g *grid, rows []uint32) {
	n := (len(rows) + 3) &^ 3 * g.stride
	q.stride = g.stride
	q.queries = slices.Grow(q.queries[:0], n)[:n]
	for i, r := range rows {
		kernel.Signed8(q.queries[i*g.stride:(i+1)*g.stride], g.code(r))
	}
}

// score compares the four queries from the i-th on with the rows from to end
// of the panel, both multiples of 32. The keys are their distances but for
// what is the same for all rows, the query's bias.
func (q *quad) score(p *panel, i, from, end int) {
	q.width = end - from
	q.keys = slices.Grow(q.keys[:0], 4*q.width)[:4*q.width]
	kernel.Dot8x4(q.queries[i*q.stride:], q.stride, p.bytes[from*q.stride:end*q.stride], q.keys, q.width)
	for j := range 4 {
		kernel.Keys8(q.of(j), p.norm[from:end])
	}
}

// of returns the keys of the j-th of the four.
func (q *quad) of(j int) []int32 { return q.keys[j*q.width : (j+1)*q.width] }
