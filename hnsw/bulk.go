package hnsw

import (
	"math"
	"slices"
	"sort"

	"github.com/chromad/chromad/internal/kernel"
)

// A bulk links all nodes of one level at once, without searching: rows that
// are near to each other are near to the same leaders, so the nodes are put
// into overlapping groups around leaders, and all nodes of a group are
// compared with each other (PiPNN, arXiv 2602.21247). That turns the bulk of
// the work into products of matrices.
//
// Beside the grid and the links it takes some 300 bytes a node: its groups
// and, for a part of the nodes at a time, what was found there. Where distances are computed
// once, a worker has up to 10 MB of them, 1 MB as a rule.
type bulk struct {
	*builder
	level int
	nodes []uint32 // those near to each other one after the other, see arrange
	rows  []uint32 // of nodes
	fan   int      // groups that a node is in
	near  int      // nearest nodes that it takes from each, at least
	most  int      // and at most
	asks  []bool   // which of nodes look for links; nil: all
	width int      // coordinates by which the nodes of a group are compared
	norm  []int32  // of these, of every row
	once  bool     // each distance of a group is computed once, see comparePairs
	bias  []int32  // with once: Σ s² + 256 Σ s of the same coordinates

	groupOf []uint32 // fan of each node, that of the nearest leader first
	first   []int    // one more than groups: where the members of a group begin
	member  []uint32 // places in nodes, in each group by part, then ascending
	rank    []uint8  // of each of member, which of its groups this is
	from    int      // the part of the nodes that is being linked
	to      int
	found   []uint16 // room for most of each node of the part in each of its groups: places in the group
}

const (
	fan       = 8             // groups of a node
	groupSize = 768           // mean size of a group
	groupMost = 4 * groupSize // larger ones are split
	groupOnly = groupSize     // as many nodes are one group
	noMember  = math.MaxUint16

	// More nodes are linked in parts, to save memory.
	fewNodes  = 1 << 14
	bulkParts = 4
)

// nearOf is what a node takes from each of its groups. A bulk keeps no pool, so
// EFConstruction stands for the number of candidates: 40 to 50 in each of 8
// groups for the usual values, 100 to 200, in proportion to it below and beyond.
func nearOf(p Params) int {
	near := max(8, min(p.EFConstruction*2/5, 40), p.EFConstruction/5)
	return min(max(near, p.M), 128)
}

// bulkLink links the nodes of level, of which the levels above are linked.
// Those for which asks is false have links already and get more from the
// others only; nil stands for true.
func (b *builder) bulkLink(level int, nodes []uint32, asks []bool) error {
	k := &bulk{builder: b, level: level, nodes: nodes, rows: nodes, asks: asks, fan: fan, near: nearOf(b.p)}
	if b.parted(level) && b.linked >= len(nodes)/10*9 {
		k.fan = joinedFan
	}
	k.once = asks == nil && len(nodes) <= fewNodes && !b.parted(level)
	if level > 0 {
		k.rows = make([]uint32, len(nodes))
		for i, n := range nodes {
			k.rows[i] = b.g.rowOf(level, n)
		}
	}
	if err := k.partition(); err != nil {
		return err
	}
	k.most = k.near + k.near/4
	if err := k.narrow(); err != nil {
		return err
	}
	n, parts := len(nodes), 1
	if n > fewNodes {
		parts = bulkParts
	}
	for i := range parts {
		k.from, k.to = i*n/parts, (i+1)*n/parts
		if err := k.compare(); err != nil {
			return err
		}
		if err := k.linkOut(); err != nil {
			return err
		}
	}
	k.found, k.groupOf, k.member, k.rank, k.first, k.norm, k.bias = nil, nil, nil, nil, nil, nil, nil
	return k.linkIn()
}

// compare finds the nearest nodes of every node of the part in its groups.
func (k *bulk) compare() error {
	if n := (k.to - k.from) * k.fan * k.most; cap(k.found) < n {
		k.found = make([]uint16, n)
	}
	return k.told(len(k.first)-1, 1, k.worth(5), func(w *worker, i int) { k.compareGroup(w, uint32(i)) })
}

// worth is the rows' worth of a step on a part that takes so many tenths of
// the time.
func (k *bulk) worth(tenths int) int {
	if k.level > 0 {
		return 0
	}
	return (k.to - k.from) * tenths / 10
}

func (k *bulk) compareGroup(w *worker, group uint32) {
	first := k.first[group]
	members := k.member[first:k.first[group+1]]
	w.rows, w.asking = w.rows[:0], w.asking[:0]
	for i, m := range members {
		w.rows = append(w.rows, k.rows[m])
		if int(m) >= k.from && int(m) < k.to && (k.asks == nil || k.asks[m]) {
			w.asking = append(w.asking, i)
		}
	}
	if len(w.asking) == 0 {
		return
	}
	w.panel.fill(k.grid, w.rows, k.width, k.norm)
	if k.once {
		k.comparePairs(w, first)
		return
	}
	for i, asking := 0, w.asking; len(asking) > 0; i++ {
		if i%8 == 0 && k.ctx.Err() != nil {
			return
		}
		some, near, most := asking[:min(octetRows, len(asking))], k.near, k.most
		// Rows from to end are known. Whole packs of them, from skip to on, are not looked at.
		from, end := k.know(w.rows, some[0])
		skip, on := packsOf(from, end)
		if on > skip {
			some = some[:sort.SearchInts(some, end)] // one part after the other
			near = max(near*(len(members)-(end-from))/len(members), min(near, k.p.M/2))
			most = near + near/4
		}
		for n, at := range some {
			if at < end {
				continue
			}
			if skip, on := packsOf(k.know(w.rows, at)); on > skip {
				some = some[:n]
				break
			}
		}
		asking = asking[len(some):]
		w.list = w.list[:0]
		for _, at := range some {
			w.list = append(w.list, w.rows[at])
		}
		w.octet.aim(k.grid, w.list, k.width)
		w.octet.room(octetRows, w.panel.size-(on-skip))
		w.octet.score(&w.panel, 0, 0, 0, skip)
		w.octet.score(&w.panel, 0, skip, on, w.panel.size)
		for j, at := range some {
			keys := w.octet.of(j)[:len(members)-(on-skip)]
			if on > skip {
				for i := from; i < end-(on-skip); i++ {
					keys[i] = math.MaxInt32 // it is among them
				}
			} else {
				keys[at] = math.MaxInt32
			}
			places := w.sieve.nearest(keys, near, most)
			for n, place := range places {
				if int(place) >= skip {
					places[n] = place + uint16(on-skip)
				}
			}
			k.store(first+at, places)
		}
	}
}

// packsOf is where the whole packs lie among the rows from to end of a panel: at 0, and none, where
// there is not one.
func packsOf(from, end int) (first, limit int) {
	first, limit = (from+packRows-1)/packRows*packRows, end/packRows*packRows
	if first >= limit {
		return 0, 0
	}
	return first, limit
}

// store writes the nearest of the i-th of all members, in its group.
func (k *bulk) store(i int, places []uint16) {
	list := k.foundBy(int(k.member[i]), int(k.rank[i]))
	if n := copy(list, places); n < len(list) {
		list[n] = noMember
	}
}

// foundBy is what the i-th node has found in one of its groups.
func (k *bulk) foundBy(i, rank int) []uint16 {
	at := ((i-k.from)*k.fan + rank) * k.most
	return k.found[at : at+k.most]
}

// A panel is rows side by side, to be compared with eight others at a time.
type panel struct {
	size  int // rows, rounded up
	bytes []byte
	norm  []int32
}

// fill takes the first coordinates of rows, so many and their norms.
func (p *panel) fill(g *grid, rows []uint32, width int, norm []int32) {
	p.size = (len(rows) + packRows - 1) / packRows * packRows
	p.bytes = slices.Grow(p.bytes[:0], p.size*width)[:p.size*width]
	p.norm = slices.Grow(p.norm[:0], p.size)[:p.size]
	kernel.Pack8(p.bytes, g.codes, g.stride, width, rows)
	for i := range p.norm {
		p.norm[i] = norm[rows[min(i, len(rows)-1)]]
	}
}

const (
	octetRows = 8  // rows that kernel.Dot8x8 compares with a panel
	packRows  = 32 // of a panel that it takes together
)

// An octet compares rows, eight at a time, with those of a panel.
type octet struct {
	stride  int // coordinates that are compared
	queries []int8
	keys    []int32
	width   int // keys of each row
	bias    [octetRows]int32
}

// room makes room for so many keys of each of so many rows, a multiple of octetRows.
func (q *octet) room(rows, width int) {
	q.width = width
	q.keys = slices.Grow(q.keys[:0], rows*width)[:rows*width]
}

// aim takes the first coordinates of rows as queries.
func (q *octet) aim(g *grid, rows []uint32, width int) {
	n := (len(rows) + octetRows - 1) / octetRows * octetRows * width
	q.stride = width
	q.queries = slices.Grow(q.queries[:0], n)[:n]
	for i, r := range rows {
		kernel.Signed8(q.queries[i*width:(i+1)*width], g.code(r)[:width])
	}
}

// score compares the eight queries from the i-th on with the rows from to end
// of the panel, both multiples of packRows, and puts the keys to the place at and on. They are
// distances but for what is the same for all rows, the query's bias.
func (q *octet) score(p *panel, i, at, from, end int) {
	if from == end {
		return
	}
	kernel.Dot8x8(q.queries[i*q.stride:], q.stride, p.bytes[from*q.stride:end*q.stride], q.keys[at:], q.width)
	for j := range octetRows {
		kernel.Keys8(q.of(j)[at:at+end-from], p.norm[from:end])
	}
}

// of returns the keys of the j-th row.
func (q *octet) of(j int) []int32 { return q.keys[j*q.width : (j+1)*q.width] }
