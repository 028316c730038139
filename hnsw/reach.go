package hnsw

// A reacher makes sure that every node of a level can be reached from the
// entry by links of that level.
type reacher struct {
	b       *builder
	level   int
	reached []uint64
	parent  []uint32 // the node through which each node was reached first
	queue   []uint32
}

// reach links the nodes of level that cannot be reached.
func (b *builder) reach(level int) error {
	g := b.g
	if b.v.Rows == 0 {
		return nil
	}
	n := g.nodes(level)
	r := &reacher{b: b, level: level, reached: make([]uint64, (n+63)/64), parent: make([]uint32, n)}
	r.mark(g.entryNode(level), g.entryNode(level))
	r.flood()
	for node := range uint32(n) {
		if has(r.reached, node) || level > 0 && g.seatLevel(node) < level {
			continue
		}
		if err := b.ctx.Err(); err != nil {
			return err
		}
		r.attach(node)
		r.flood()
	}
	return nil
}

func (r *reacher) mark(node, parent uint32) {
	r.reached[node>>6] |= 1 << (node & 63)
	r.parent[node] = parent
	r.queue = append(r.queue, node)
}

// floodEvery is how many nodes take a millisecond or so.
const floodEvery = 1 << 14

func (r *reacher) flood() {
	for n := 0; len(r.queue) > 0; n++ {
		if n%floodEvery == 0 && r.b.ctx.Err() != nil {
			return // reach, and whoever asked for it, see that too
		}
		node := r.queue[len(r.queue)-1]
		r.queue = r.queue[:len(r.queue)-1]
		for _, n := range r.b.g.neighbours(r.level, node) {
			if !has(r.reached, n) {
				r.mark(n, node)
			}
		}
	}
}

const (
	attachEF   = 64 // nodes near a lost one that are looked at
	attachRoom = 16 // of these, how many may be passed by to find one with room
)

// attach links a node that was not reached from one nearby that was.
func (r *reacher) attach(node uint32) {
	b, g := r.b, r.b.g
	w := b.workers[0]
	w.aim(b.grid, g.rowOf(r.level, node))
	w.walk.begin(g.nodes(r.level), attachEF, b.descend(w, r.level))
	b.walk(w, r.level)
	near := w.list[:0]
	for _, key := range w.walk.pool {
		if n := nodeIn(key); has(r.reached, n) {
			near = append(near, n)
		}
	}
	w.list = near
	from, ok := r.linkTo(near, node)
	// Far away, then: as a tree of n nodes has n-1 links and every node has
	// room for two or more, some reached node has one to spare.
	for n := uint32(0); !ok && int(n) < g.nodes(r.level); n++ {
		if has(r.reached, n) {
			from, ok = r.linkTo([]uint32{n}, node)
		}
	}
	r.mark(node, from)
	if _, used := g.slots(r.level, node); *used == 0 {
		g.setNeighbours(r.level, node, []uint32{from})
	}
}

// linkTo links one of near to node: the nearest that has room, or the nearest
// that has a link which is not the way to any other node.
func (r *reacher) linkTo(near []uint32, node uint32) (from uint32, ok bool) {
	g := r.b.g
	for _, n := range near[:min(len(near), attachRoom)] {
		if slots, used := g.slots(r.level, n); int(*used) < len(slots) {
			slots[*used] = node
			*used++
			return n, true
		}
	}
	for _, n := range near {
		list := g.neighbours(r.level, n)
		for i := len(list) - 1; i >= 0; i-- {
			if r.parent[list[i]] != n {
				list[i] = node
				return n, true
			}
		}
	}
	return 0, false
}
