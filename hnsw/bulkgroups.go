package hnsw

import (
	"math"
	"slices"
)

// partition puts every node into the groups of its nearest leaders.
func (k *bulk) partition() error {
	n := len(k.nodes)
	if n <= groupOnly {
		k.near, k.fan = min(k.fan*k.near/2, max(1, n-1)), 1
		k.groupOf = make([]uint32, n)
		return k.layOut(1)
	}
	leaders := k.leaders(n * k.fan / groupSize)
	k.fan = min(k.fan, len(leaders))
	k.groupOf = make([]uint32, n*k.fan)
	places := make([]uint32, n)
	for i := range places {
		places[i] = uint32(i)
	}
	err := k.assign(places, leaders, k.fan, func(i, rank int, leader uint32) {
		k.groupOf[i*k.fan+rank] = leader
	})
	if err != nil {
		return err
	}
	k.arrange(len(leaders))
	if err := k.layOut(len(leaders)); err != nil {
		return err
	}
	return k.split()
}

// arrange orders nodes by their nearest leader: those that are near to each
// other are linked one after the other, while what they have in common is in
// the cache.
func (k *bulk) arrange(leaders int) {
	next := make([]int, leaders+1)
	for i := 0; i < len(k.groupOf); i += k.fan {
		next[k.groupOf[i]+1]++
	}
	for l := range leaders {
		next[l+1] += next[l]
	}
	nodes, rows := make([]uint32, len(k.nodes)), make([]uint32, len(k.nodes))
	groupOf, asks := make([]uint32, len(k.groupOf)), make([]bool, len(k.asks))
	for i, n := range k.nodes {
		groups := k.groupOf[i*k.fan : (i+1)*k.fan]
		at := next[groups[0]]
		next[groups[0]]++
		nodes[at], rows[at] = n, k.rows[i]
		copy(groupOf[at*k.fan:], groups)
		if k.asks != nil {
			asks[at] = k.asks[i]
		}
	}
	k.nodes, k.rows, k.groupOf = nodes, rows, groupOf
	if k.asks != nil {
		k.asks = asks
	}
}

// leaders draws about count of the places of nodes, at least one.
func (k *bulk) leaders(count int) []uint32 {
	bound := uint64(math.MaxUint64) / uint64(len(k.nodes)) * uint64(count)
	var list []uint32
	for i, r := range k.rows {
		if mix(mix(k.p.Seed+3)^uint64(r)) < bound {
			list = append(list, uint32(i))
		}
	}
	if len(list) == 0 {
		list = append(list, 0)
	}
	return list
}

const (
	assignShare = 64  // places that are compared with one leader after the other
	assignBlock = 256 // leaders that stay in the cache meanwhile
)

// assign tells each of places its most nearest leaders, as indexes of leaders.
func (k *bulk) assign(places, leaders []uint32, most int, tell func(i, rank int, leader uint32)) error {
	rows := make([]uint32, len(leaders))
	for i, l := range leaders {
		rows[i] = k.rows[l]
	}
	var p panel
	p.fill(k.grid, rows, k.grid.stride, k.grid.norm)
	return k.shares((len(places)+assignShare-1)/assignShare, 1, func(w *worker, i int) {
		from := i * assignShare
		k.nearestLeaders(w, places[from:min(from+assignShare, len(places))], &p, len(leaders), most)
		for i, list := range w.lists {
			for rank, key := range list {
				tell(from+i, rank, uint32(key))
			}
		}
	})
}

// nearestLeaders sets w.lists to the keys of the nearest of the panel's rows to
// each of places.
func (k *bulk) nearestLeaders(w *worker, places []uint32, p *panel, leaders, most int) {
	w.rows, w.lists = w.rows[:0], w.lists[:0]
	w.keys = slices.Grow(w.keys[:0], len(places)*most)[:len(places)*most]
	for i, place := range places {
		w.rows = append(w.rows, k.rows[place])
		w.lists = append(w.lists, w.keys[i*most:i*most:(i+1)*most])
	}
	w.octet.aim(k.grid, w.rows, k.grid.stride)
	for from := 0; from < leaders; from += assignBlock {
		end := min(from+assignBlock, p.size)
		for i := 0; i < len(places); i += octetRows {
			w.octet.room(octetRows, end-from)
			w.octet.score(p, i, 0, from, end)
			for j := range min(octetRows, len(places)-i) {
				keys := w.octet.of(j)[:min(end, leaders)-from]
				w.lists[i+j] = w.sieve.merge(w.lists[i+j], keys, from, most)
			}
		}
	}
}

// layOut lists the members of groups, and which of its groups that is of each, by groupOf.
func (k *bulk) layOut(groups int) error {
	k.first = make([]int, groups+1)
	for _, g := range k.groupOf {
		k.first[g+1]++
	}
	for g := range groups {
		k.first[g+1] += k.first[g]
	}
	k.member, k.rank = make([]uint32, len(k.groupOf)), make([]uint8, len(k.groupOf))
	next := slices.Clone(k.first)
	add := func(place uint32) {
		for rank, g := range k.groupOf[int(place)*k.fan:][:k.fan] {
			k.member[next[g]], k.rank[next[g]] = place, uint8(rank)
			next[g]++
		}
	}
	if k.parted(k.level) {
		for _, place := range k.byPart() {
			add(place)
		}
		return k.ctx.Err()
	}
	for place := range k.nodes {
		add(uint32(place))
	}
	return k.ctx.Err()
}

// split divides the groups that are too large, as many rounds as it takes.
// Most are divided among the nearest of some leaders of their own. A group
// that this leaves nearly as it was is cut into pieces.
func (k *bulk) split() error {
	for {
		groups := len(k.first) - 1
		next := groups
		for g := range groups {
			from, end := k.first[g], k.first[g+1]
			if end-from <= groupMost {
				continue
			}
			n, err := k.splitGroup(uint32(g), k.member[from:end], next)
			if err != nil {
				return err
			}
			next += n
		}
		if next == groups {
			return nil
		}
		if err := k.layOut(next); err != nil {
			return err
		}
	}
}

// splitGroup puts most of the members of a group into others, that are
// numbered from next on, and returns how many these are.
func (k *bulk) splitGroup(group uint32, members []uint32, next int) (int, error) {
	count := len(members)/groupSize + 1
	leaders := make([]uint32, count)
	for i := range leaders {
		from, to := i*len(members)/count, (i+1)*len(members)/count
		leaders[i] = members[from+int(mix(k.p.Seed^uint64(members[from]))%uint64(to-from))]
	}
	to, sizes := make([]uint32, len(members)), make([]int, count)
	err := k.assign(members, leaders, 1, func(i, _ int, leader uint32) { to[i] = leader })
	if err != nil {
		return 0, err
	}
	for _, l := range to {
		sizes[l]++
	}
	if slices.Max(sizes) > len(members)/8*7 {
		for i := range to {
			if to[i] = uint32(i * count / len(members)); k.parted(k.level) {
				to[i] = uint32(i % count) // of all parts, or they would not meet
			}
		}
	}
	for i, m := range members {
		if to[i] > 0 {
			own := k.groupOf[int(m)*k.fan : (int(m)+1)*k.fan]
			own[slices.Index(own, group)] = uint32(next-1) + to[i]
		}
	}
	return count - 1, nil
}
