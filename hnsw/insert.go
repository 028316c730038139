package hnsw

import "slices"

// sort puts rows into the order of insertion: high levels first, so that the
// upper levels are complete before most rows need them, and random within a
// level, so that rows that arrived together do not meet an empty
// neighbourhood together.
func (b *builder) sort(rows []uint32, levels []uint8) {
	keys := make([]uint64, len(rows))
	for i, r := range rows {
		random := mix(mix(b.p.Seed+1)^uint64(r)) >> 36
		keys[i] = uint64(maxLevel-levels[r])<<60 | random<<32 | uint64(r)
	}
	slices.Sort(keys)
	for i, key := range keys {
		rows[i] = uint32(key)
	}
}

// insert places rows in batches beside those that are in the graph already. A
// batch is searched against the graph as it was before it, so all its rows can
// be searched at once and the outcome does not depend on who does it
// (ParlayANN, arXiv 2305.04359, section 3). Batches grow with the graph:
// against a small one, rows of the same batch would be each other's
// neighbours.
func (b *builder) insert(rows []uint32, placed int) error {
	most := max(256, b.v.Rows/50)
	for len(rows) > 0 {
		n := min(len(rows), most, max(1, placed/16))
		if err := b.insertBatch(rows[:n]); err != nil {
			return err
		}
		placed += n
		rows = rows[n:]
		b.tell(placed)
	}
	return nil
}

// A place is the insertion of one row at one level.
type place struct {
	node  uint32
	found []uint64 // candidates, ascending
	peers []uint32 // nodes of the same batch that may be near
	links []uint32 // those chosen
}

// A batch is the rows that are being inserted. They are ordered by level,
// highest first, so the rows that have a place at a level are the first ones,
// and levels[l][i] is the place of row i. The memory serves all batches.
type batch struct {
	levels [][]place
	near   []uint64
}

// insertBatch places rows at all their levels.
func (b *builder) insertBatch(rows []uint32) error {
	b.prepare(rows)
	if err := b.each(len(rows), func(w *worker, i int) { b.search(w, rows[i], i) }); err != nil {
		return err
	}
	for level := len(b.batch.levels) - 1; level >= 0; level-- {
		places := b.batch.levels[level]
		b.findPeers(places)
		err := b.each(len(places), func(w *worker, i int) { b.choosePlace(w, level, &places[i]) })
		if err != nil {
			return err
		}
		if err := b.link(level, places); err != nil {
			return err
		}
	}
	if s := b.g.seat(rows[0]); s >= 0 && b.g.seatLevel(uint32(s)) > b.g.top() {
		b.g.setEntry(rows[0])
	}
	return nil
}

// prepare lays out the places of rows.
func (b *builder) prepare(rows []uint32) {
	levels := b.batch.levels[:cap(b.batch.levels)]
	for len(levels) <= maxLevel {
		levels = append(levels, nil)
	}
	for l := range levels {
		levels[l] = levels[l][:0]
	}
	add := func(level int, node uint32) {
		n := len(levels[level])
		if n == cap(levels[level]) {
			levels[level] = append(levels[level], place{})
		}
		levels[level] = levels[level][:n+1]
		p := &levels[level][n]
		*p = place{node, p.found[:0], p.peers[:0], p.links[:0]}
	}
	for _, r := range rows {
		add(0, r)
		if s := b.g.seat(r); s >= 0 {
			for l := 1; l <= b.g.seatLevel(uint32(s)); l++ {
				add(l, uint32(s))
			}
		}
	}
	b.batch.levels = levels
}

// search finds the candidates of the i-th row of the batch at all its levels
// (algorithm 1 of the paper). Levels above the graph's top have none.
func (b *builder) search(w *worker, row uint32, i int) {
	g := b.g
	w.aim(b.grid, row)
	own := 0
	if s := g.seat(row); s >= 0 {
		own = g.seatLevel(uint32(s))
	}
	level := min(own, g.top())
	first := b.descend(w, level)
	for {
		w.walk.begin(g.nodes(level), b.p.EFConstruction, first)
		b.walk(w, level)
		p := &b.batch.levels[level][i]
		for _, key := range w.walk.pool {
			p.found = append(p.found, key&^expandedNode)
		}
		if level == 0 {
			return
		}
		first = p.found[0]
		if level--; level == 0 {
			first = keyOf(distanceIn(first), g.seatRow[nodeIn(first)])
		}
	}
}

const (
	groupsOfPlace = 2 // nearest candidates by which a place looks for peers
	peersAside    = 8 // peers to each side of it in a group
)

// findPeers gives every place the nodes of the batch that share one of its
// nearest candidates. The search cannot have seen them: they are not in the
// graph yet.
func (b *builder) findPeers(places []place) {
	near := b.batch.near[:0]
	for i := range places {
		p := &places[i]
		for _, key := range p.found[:min(len(p.found), groupsOfPlace)] {
			near = append(near, uint64(nodeIn(key))<<32|uint64(i))
		}
		if len(p.found) == 0 {
			near = append(near, 1<<63|uint64(i))
		}
	}
	slices.Sort(near)
	for from := 0; from < len(near); {
		end := from + 1
		for end < len(near) && near[end]>>32 == near[from]>>32 {
			end++
		}
		for i := from; end-from > 1 && i < end; i++ {
			p := &places[uint32(near[i])]
			for j := max(from, i-peersAside); j < min(end, i+peersAside+1); j++ {
				if j != i {
					p.peers = append(p.peers, places[uint32(near[j])].node)
				}
			}
		}
		from = end
	}
	b.batch.near = near
}

// choosePlace chooses the links of one place.
func (b *builder) choosePlace(w *worker, level int, p *place) {
	if len(p.peers) > 0 {
		slices.Sort(p.peers)
		p.peers = slices.Compact(p.peers)
		w.aim(b.grid, b.g.rowOf(level, p.node))
		for i, d := range w.distances(b.rowsOf(w, level, p.peers)) {
			p.found = append(p.found, keyOf(d, p.peers[i]))
		}
		slices.Sort(p.found)
	}
	p.links = b.choose(w, level, p.found, b.p.M, p.links)
}

// link stores the links of places and the links back from their targets.
func (b *builder) link(level int, places []place) error {
	e := &b.edges
	e.reset(b.g.nodes(level))
	for i := range places {
		b.g.setNeighbours(level, places[i].node, places[i].links)
		for _, t := range places[i].links {
			e.count(t)
		}
	}
	e.layOut()
	for i := range places {
		for _, t := range places[i].links {
			e.put(t, places[i].node)
		}
	}
	return b.each(len(e.targets), func(w *worker, i int) {
		b.linkBack(w, level, e.targets[i], e.of(i))
	})
}

// mostBack bounds the links back that one node considers at a time: beyond
// it, only the nearest matter.
const mostBack = 512

// linkBack adds sources to the links of node and, when they do not fit,
// chooses among all of them.
func (b *builder) linkBack(w *worker, level int, node uint32, sources []uint32) {
	g := b.g
	list := append(w.list[:0], g.neighbours(level, node)...)
	had := len(list)
	for _, s := range sources {
		if !slices.Contains(list[:had], s) {
			list = append(list, s)
		}
	}
	w.list = list
	if len(list) > g.width(level) {
		list = b.chooseAmong(w, level, node, list)
	}
	g.setNeighbours(level, node, list)
}

// edges groups the sources of links by target with a counting sort. Targets
// are numbered as they come up, so its cost depends on the links alone.
type edges struct {
	slot    []uint32 // of each node: 1 + its index in targets, 0 for none
	targets []uint32
	ends    []uint32 // of each target: where its sources end
	sources []uint32
}

func (e *edges) reset(nodes int) {
	for _, t := range e.targets {
		e.slot[t] = 0
	}
	if len(e.slot) < nodes {
		e.slot = make([]uint32, nodes)
	}
	e.targets, e.ends = e.targets[:0], e.ends[:0]
}

func (e *edges) count(target uint32) {
	if e.slot[target] == 0 {
		e.targets = append(e.targets, target)
		e.ends = append(e.ends, 0)
		e.slot[target] = uint32(len(e.targets))
	}
	e.ends[e.slot[target]-1]++
}

// layOut turns counts into places: put then moves each end to where it
// belongs.
func (e *edges) layOut() {
	sum := uint32(0)
	for i, n := range e.ends {
		e.ends[i] = sum
		sum += n
	}
	e.sources = slices.Grow(e.sources[:0], int(sum))[:sum]
}

func (e *edges) put(target, source uint32) {
	end := &e.ends[e.slot[target]-1]
	e.sources[*end] = source
	*end++
}

// of returns the sources of the i-th target, in the order they were put.
func (e *edges) of(i int) []uint32 {
	from := uint32(0)
	if i > 0 {
		from = e.ends[i-1]
	}
	return e.sources[from:e.ends[i]]
}
