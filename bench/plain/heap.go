package plain

// near is a row and its distance.
type near struct {
	distance float32
	row      uint32
}

// A heap has the smallest distance first, or the largest when it is told so.
type heap struct {
	items   []near
	largest bool
}

func (h *heap) before(a, b near) bool {
	if h.largest {
		a, b = b, a
	}
	return a.distance < b.distance || a.distance == b.distance && a.row < b.row
}

func (h *heap) top() near { return h.items[0] }

func (h *heap) push(n near) {
	h.items = append(h.items, n)
	for i := len(h.items) - 1; i > 0; {
		up := (i - 1) / 2
		if !h.before(h.items[i], h.items[up]) {
			return
		}
		h.items[i], h.items[up] = h.items[up], h.items[i]
		i = up
	}
}

func (h *heap) pop() near {
	first, last := h.items[0], len(h.items)-1
	h.items[0] = h.items[last]
	h.items = h.items[:last]
	for i := 0; ; {
		down := 2*i + 1
		if down >= last {
			return first
		}
		if down+1 < last && h.before(h.items[down+1], h.items[down]) {
			down++
		}
		if !h.before(h.items[down], h.items[i]) {
			return first
		}
		h.items[i], h.items[down] = h.items[down], h.items[i]
		i = down
	}
}
