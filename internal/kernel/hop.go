package kernel

import "unsafe"

// batch is the number of rows that a Hop holds: several rows of links.
const batch = 256

// A hopForm finds and scores the rows that one step of a search looks at.
type hopForm struct {
	// gather is Hop.Gather; there is room for the links.
	gather func(h *Hop, links []uint32)
	// score works out the keys of rows first to last of the batch, writes
	// those below h.below with their rows to place out and on, and returns
	// the place after them. The last row is repeated behind the batch.
	score byWidth[func(h *Hop, first, last, out int) int]
	// offer is Offer for checked arguments and at most poolMost entries.
	offer func(pool []uint64, n, limit int, keys []float32, rows []uint32) (int, int)
	// panels writes the keys of all rows of panels first to last, one at least.
	panels byWidth[func(h *Hop, first, last int, keys []float32)]
	// bound is the n-th smallest of numbers of which none is NaN.
	bound func(least []float32, n int32) float32
	// nearer is Nearer; there is room, and the keys fill panels.
	nearer func(keys []float32, first uint32, below float32, rows []uint32) int
	// prefetch is Prefetch; the slice is not empty.
	prefetch func(s []uint32)
}

// byWidth is a kernel for levels of 2, of 4 and of 8 bits.
type byWidth[F any] [3]F

func (k *byWidth[F]) of(h *Hop) F { return k[h.bits>>2] }

// anyWidth is a kernel that looks at the width itself.
func anyWidth[F any](kernel F) byWidth[F] { return byWidth[F]{kernel, kernel, kernel} }

var hopGeneric = hopForm{gatherGeneric, anyWidth(scoreGeneric), offerGeneric, anyWidth(panelsGeneric), boundGeneric, nearerGeneric, prefetchGeneric}

// A Hop holds the rows that one step of a search scores: a batch. Rows are
// gathered first and scored later, so that the codes, whose fetching Gather
// starts, arrive while something else is done.
//
// Assembly knows the places of the fields; see hop_layout.go.
type Hop struct {
	query   *int8
	codes   *byte
	meta    *Meta
	visited *uint64
	stride  int
	lines   int // cache lines of a code to prefetch
	n       int // rows in the batch
	mul     float32
	sub     float32
	below   float32
	bits    int32
	last    uint32 // the greatest row, what a link beyond it is taken for
	_       uint32 // registers of four rows do not lie across cache lines more often than they must
	// rows and keys have room for a whole register behind the batch.
	rows [batch + 16]uint32
	keys [batch + 16]float32
	// least are the smallest keys of rows i, i+16, ... that PanelKeys worked out.
	least [panelRows]float32

	of     *Codes
	panels *Panels // instead of codes
	words  []uint64
	aim    []int8
	all    int // rows there are
}

// Aim empties the batch and prepares for a query: one number for every level
// of a code, zeros for the padding. The key of a row is A + B*(mul*dot+sub).
// visited has one bit for every row. All of it is kept, not copied.
func (h *Hop) Aim(c *Codes, query []int8, mul, sub float32, visited []uint64) {
	aimable(c, len(query), len(visited), blockBytes)
	h.aim, h.words = query, visited
	h.query, h.codes, h.meta, h.visited = first(query), first(c.Data), first(c.Meta), first(visited)
	h.stride, h.bits, h.lines = c.Stride, int32(c.Bits), min(c.Stride/blockBytes, 4)
	h.mul, h.sub, h.n = mul, sub, 0
	h.of, h.panels, h.all, h.last = c, nil, len(c.Meta), uint32(max(len(c.Meta), 1)-1)
}

func first[T any](s []T) *T { return unsafe.SliceData(s) }

// Forget lets go of what the Hop was aimed at. It must be aimed again before it is
// used.
func (h *Hop) Forget() {
	h.query, h.codes, h.meta, h.visited, h.of, h.panels, h.words, h.aim = nil, nil, nil, nil, nil, nil, nil, nil
	h.n, h.all, h.last = 0, 0, 0
}

// AimRows is Aim where rows are gathered that Take hands out, to be compared by
// their vectors: row r begins at data[r*stride].
func (h *Hop) AimRows(data []float32, stride, rows int, visited []uint64) {
	atLeast(len(visited), (rows+63)/64)
	h.words, h.codes, h.visited = visited, (*byte)(unsafe.Pointer(first(data))), first(visited)
	h.meta = (*Meta)(unsafe.Pointer(h.codes)) // it is prefetched, and not read
	h.stride, h.lines, h.n = stride*4, min(max(stride*4/blockBytes, 1), 4), 0
	h.of, h.panels, h.all, h.last = nil, nil, rows, uint32(max(rows, 1)-1)
}

// Take empties the batch and returns its rows, valid until the next is gathered.
func (h *Hop) Take() []uint32 {
	n := h.n
	h.n = 0
	return h.rows[:n]
}

// Gather adds the rows that have no bit in visited, each once, sets their
// bits, and starts to fetch their codes. The links must fit into Room. They
// may lie in a file that others can write to, so what was checked when it was
// opened says nothing about now: a link that is no row counts as the last one.
func (h *Hop) Gather(links []uint32) {
	roomFor(len(links), h.Room())
	if len(links) > 0 && h.all > 0 {
		active.gather(h, links)
	}
}

// Add adds a row without a look at visited. It must be the number of a row.
func (h *Hop) Add(row uint32) {
	roomFor(1, h.Room())
	h.rows[h.n] = row
	h.n++
}

// Len is the number of rows in the batch.
func (h *Hop) Len() int { return h.n }

// Room is the number of rows that the batch can still take.
func (h *Hop) Room() int { return batch - h.n }

// Score works out the keys of the batch and empties it. It returns those that
// are less than below, with their rows, in the order of the batch. They are
// valid until the next call.
func (h *Hop) Score(below float32) (keys []float32, rows []uint32) {
	if h.n == 0 {
		return nil, nil
	}
	h.below = below
	for end := h.rows[h.n : h.n+4]; len(end) > 0; end = end[1:] {
		end[0] = h.rows[h.n-1]
	}
	out := 0
	score, piece := active.score.of(h), max(4, preemptAfter/h.stride&^3)
	for first := 0; first < h.n; first += piece {
		out = score(h, first, min(first+piece, h.n), out)
	}
	h.n = 0
	return h.keys[:out], h.rows[:out]
}

// Prefetch starts to fetch the first two cache lines of a row of links.
func Prefetch(s []uint32) {
	if len(s) > 0 {
		active.prefetch(s)
	}
}

func gatherGeneric(h *Hop, links []uint32) {
	n := h.n
	for _, r := range links {
		r = min(r, h.last)
		word, bit := &h.words[r/64], uint64(1)<<(r%64)
		h.rows[n] = r
		if *word&bit == 0 {
			*word |= bit
			n++
		}
	}
	h.n = n
}

func scoreGeneric(h *Hop, first, last, out int) int {
	for i := first; i < last; i++ {
		r := h.rows[i]
		at := int(r) * h.stride
		dot := dotCode(h.of.Data[at:at+h.stride], int(h.bits), h.aim)
		// Every product is rounded before the sum, in every form: keys are
		// the same bits on every machine.
		t := float32(h.mul*float32(dot)) + h.sub
		m := h.of.Meta[r]
		if key := float32(m.B*t) + m.A; key < h.below {
			h.keys[out], h.rows[out] = key, r
			out++
		}
	}
	return out
}

func prefetchGeneric([]uint32) {}
