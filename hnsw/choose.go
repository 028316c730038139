package hnsw

// fewLinks is the number of links below which a node also takes candidates
// that lie behind others. It matters where all rows lie on a line, as those
// of equal direction do for the cosine: the heuristic alone leaves one link.
const fewLinks = 4

// choose appends up to most of the candidates, ascending keys seen from the
// node that is to be linked: the nearest first, and then only those that are
// nearer to the node than to any chosen before (algorithm 4 of the paper).
// Links lead into different directions that way. A candidate that equals a
// chosen one adds no direction and is passed over too.
func (b *builder) choose(w *worker, level int, candidates []uint64, most int, chosen []uint32) []uint32 {
	alive := append(w.cand[:0], candidates...)
	lost := w.lost[:0]
	w.cand, w.lost = alive, lost
	for len(alive) > 0 && len(chosen) < most {
		c := nodeOf(alive[0])
		chosen = append(chosen, c)
		alive = alive[1:]
		if len(chosen) == most || len(alive) == 0 {
			break
		}
		kept := alive[:0]
		for i, d := range b.from(w, level, c, alive) {
			if d < distanceOf(alive[i]) || d <= 0 {
				if len(lost) < fewLinks {
					lost = append(lost, alive[i])
				}
			} else {
				kept = append(kept, alive[i])
			}
		}
		alive = kept
	}
	w.lost = lost
	for _, key := range lost {
		if len(chosen) >= min(fewLinks, most) {
			break
		}
		chosen = append(chosen, nodeOf(key))
	}
	return chosen
}

// from returns the distances from node to the nodes of keys.
func (b *builder) from(w *worker, level int, node uint32, keys []uint64) []float32 {
	rows := w.s.rows[:0]
	for _, key := range keys {
		rows = append(rows, b.g.rowOf(level, nodeOf(key)))
	}
	w.s.rows = rows
	w.dist = append(w.dist[:0], make([]float32, len(rows))...)
	w.near.aimRow(b.g.rowOf(level, node))
	w.near.score(rows, w.dist)
	return w.dist
}
