package hnsw

import "slices"

// linkOut gives every node of the part its first links: the best among those
// found in its groups and, on the ways of long range that lie there, the
// neighbours that it has a level above.
func (k *bulk) linkOut() error {
	most := k.p.M
	if k.asks != nil {
		most = min(most+most/2, k.g.width(k.level)) // the others do not look for links to these
	}
	return k.told(k.to-k.from, 8, k.worth(3), func(w *worker, i int) {
		if i += k.from; k.asks != nil && !k.asks[i] {
			return
		}
		w.list = k.candidates(w, i, w.list[:0])
		w.aim(k.grid, k.rows[i])
		if k.parted(k.level) { // among the links that it has too, where one found again is as if it were equal
			w.list = append(w.list, k.g.neighbours(0, k.nodes[i])...)
			w.chosen = k.choose(w, k.level, w.list, most, w.chosen[:0])
			k.g.setNeighbours(0, k.nodes[i], w.chosen)
			return
		}
		w.chosen = k.choose(w, k.level, w.list, most, w.chosen[:0])
		k.linkBack(w, k.level, k.nodes[i], w.chosen) // it may have links already
	})
}

// candidates appends the i-th node's candidates, each once. No branch depends
// on whether one was there before: nobody could predict it.
func (k *bulk) candidates(w *worker, i int, list []uint32) []uint32 {
	if len(w.seen) < len(k.nodes) {
		w.seen = make([]uint8, len(k.nodes))
	}
	list = slices.Grow(list, k.fan*k.most)
	room, seen, nodes := list[:cap(list)], w.seen, k.nodes
	n := 0
	for rank, group := range k.groupOf[i*k.fan : (i+1)*k.fan] {
		members := k.member[k.first[group]:k.first[group+1]]
		for _, m := range k.foundBy(i, rank) {
			if m == noMember {
				break
			}
			place := members[m]
			room[n] = place
			n += int(1 - seen[place])
			seen[place] = 1
		}
	}
	list = room[:n]
	for at, place := range list {
		seen[place] = 0
		list[at] = nodes[place]
	}
	for _, m := range k.above(k.nodes[i]) {
		if !slices.Contains(list[:n], m) {
			list = append(list, m)
		}
	}
	return list
}

// above returns the neighbours that node has at the next level, as nodes of
// this one.
func (k *bulk) above(node uint32) []uint32 {
	g := k.g
	if k.level > 0 {
		if g.seatLevel(node) > k.level {
			return g.neighbours(k.level+1, node)
		}
		return nil
	}
	s := g.seat(node)
	if s < 0 {
		return nil
	}
	list := slices.Clone(g.neighbours(1, uint32(s)))
	for i, n := range list {
		list[i] = g.seatRow[n]
	}
	return list
}

// linkIn adds to every node links to those that have asked and link to it.
func (k *bulk) linkIn() error {
	g := k.g
	each := func(f func(source, target uint32)) {
		for i, n := range k.nodes {
			if k.asks == nil || k.asks[i] {
				for _, t := range g.neighbours(k.level, n) {
					f(n, t)
				}
			}
		}
	}
	ends := make([]int, g.nodes(k.level)) // all links may be more than 2^32
	each(func(_, t uint32) { ends[t]++ })
	sum := 0
	for t, n := range ends {
		ends[t] = sum
		sum += n
	}
	sources := make([]uint32, sum)
	each(func(n, t uint32) {
		sources[ends[t]] = n
		ends[t]++
	})
	k.from, k.to = 0, len(k.nodes)
	return k.told(len(k.nodes), 8, k.worth(1), func(w *worker, i int) {
		n, from := k.nodes[i], 0
		if n > 0 {
			from = ends[n-1]
		}
		if from < ends[n] {
			k.linkBack(w, k.level, n, sources[from:ends[n]])
		}
	})
}

// mostBack bounds the links back that one node considers at a time: beyond
// it, only the nearest matter.
const mostBack = 512

// linkBack adds sources to the links of node and, when they do not fit,
// chooses among all of them.
func (b *builder) linkBack(w *worker, level int, node uint32, sources []uint32) {
	list := append(w.list[:0], b.g.neighbours(level, node)...)
	had := len(list)
	for _, s := range sources {
		if !slices.Contains(list[:had], s) {
			list = append(list, s)
		}
	}
	w.list = list
	if len(list) > b.g.width(level) {
		list = b.chooseAmong(w, level, node, list)
	}
	b.g.setNeighbours(level, node, list)
}
