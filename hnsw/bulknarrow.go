package hnsw

import (
	"slices"

	"github.com/chromad/chromad/internal/kernel"
)

// The rotation makes all coordinates alike, so that a part of them tells what is
// near, if less exactly (Johnson and Lindenstrauss, "Extensions of Lipschitz mappings
// into a Hilbert space", 1984). Nodes of a group are compared by that part; links are
// chosen among the candidates by all of them.
const (
	narrowFrom  = 4096 // nodes; fewer are compared by all coordinates
	narrowStep  = 64   // coordinates
	narrowMost  = 75   // percent of all coordinates that are worth it
	narrowRows  = 24   // nodes that are looked at
	narrowShare = 985  // per mille of what is nearest to them that must be found
)

// A probe is a node with the group of its nearest leader.
type probe struct {
	node uint32   // its row
	rows []uint32 // of the others in the group
	best []int    // places of those that are nearest
}

// narrow sets by how many coordinates the nodes of a group are compared: the
// fewest by which nearly all of a node's nearest are among the candidates that
// its group gives it. Isotropic noise needs all of them, data much fewer.
func (k *bulk) narrow() error {
	g, w := k.grid, k.workers[0]
	k.width, k.norm, k.bias = g.stride, g.norm, g.bias
	if len(k.nodes) < narrowFrom || g.stride*narrowMost/100 < narrowStep {
		return nil
	}
	probes := make([]probe, narrowRows)
	for i := range probes {
		probes[i] = k.probe(w, i*len(k.nodes)/narrowRows)
	}
	norm, bias := make([]int32, len(g.norm)), []int32(nil)
	if k.once {
		bias = make([]int32, len(g.bias))
	}
	for width := narrowStep; width <= g.stride*narrowMost/100; width += narrowStep {
		err := k.each(len(k.rows), func(w *worker, i int) {
			r := k.rows[i]
			squares, sum := w.sumsOf(g.code(r)[width-narrowStep : width])
			if norm[r] += squares; k.once {
				bias[r] += squares + 256*sum
			}
		})
		if err != nil {
			return err
		}
		found, all := 0, 0
		for i := range probes {
			found += k.hits(w, &probes[i], norm, width)
			all += len(probes[i].best)
		}
		if found*1000 >= all*narrowShare {
			k.width, k.norm, k.bias = width, norm, bias
			break
		}
	}
	return k.ctx.Err()
}

// probe compares the i-th node with its group by all coordinates.
func (k *bulk) probe(w *worker, i int) probe {
	p := probe{node: k.rows[i]}
	group := k.groupOf[i*k.fan]
	for _, m := range k.member[k.first[group]:k.first[group+1]] {
		if int(m) != i {
			p.rows = append(p.rows, k.rows[m])
		}
	}
	w.aim(k.grid, p.node)
	var keys []uint64
	for at, d := range w.distances(p.rows) {
		keys = insert(keys, biased(d, at), min(k.p.M, len(p.rows)))
	}
	for _, key := range keys {
		p.best = append(p.best, int(uint32(key)))
	}
	return p
}

// hits is how many of the nearest are candidates by the first coordinates, whose norms are
// given.
func (k *bulk) hits(w *worker, p *probe, norm []int32, width int) int {
	g := k.grid
	w.aim(g, p.node)
	d := slices.Grow(w.dots[:0], len(p.rows))[:len(p.rows)]
	kernel.Dot8Rows(w.query[:width], g.codes, g.stride, p.rows, d)
	for i, r := range p.rows {
		d[i] = norm[r] - 2*d[i]
	}
	w.dots = d
	n := 0
	for _, at := range p.best {
		if kernel.CountBelow(d, d[at]) < k.near {
			n++
		}
	}
	return n
}
