package hnsw

import (
	"fmt"
	"math/bits"

	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/quant"
)

// Graph is the immutable result of Build, Join or Decode.
//
// The arrays of a decoded graph may lie in a file that others can write to.
// They are checked when it is decoded, and may have changed since: a search
// holds every place and every length that it takes from them to its bounds
// when it uses it. Links at level 0, which are many, kernel.Hop checks.
type Graph struct {
	rows  int
	m     int
	entry uint32 // the row where every search begins; 0 when there are no rows
	// uneven says that rows are compared by inner product and differ in
	// length: the longest are at the upper levels.
	uneven bool
	// plain says that there are no codes, since none would tell near rows apart:
	// searches walk over the vectors.
	plain bool
	// grouped says that level 1 has the heads of all tight groups: a walk looks
	// for the nearest there.
	grouped bool

	links  []uint32 // rows × 2m rows, unused slots hold the row itself
	degree []uint8  // used slots of each row

	seatRow     []uint32 // ascending rows with a level of 1 or more
	seatFirst   []uint32 // one more than seats: where the upper lists of a seat begin
	upper       []uint32 // lists of m seats, levels 1, 2, … of a seat one after the other
	upperDegree []uint8  // used slots of each list

	entrySeat int // seat of entry, -1 when no row has one

	seats []seatWord // of 64 rows each
	// high are the rows of highLevel or more, the lowest level that has few, and
	// highCodes copies of the first bytes of their codes: a search compares all of them.
	// None when it begins otherwise.
	high      []uint32
	highLevel int
	highCodes *kernel.Panels

	codec *quant.Codec // nil without rows or without dimensions: searches scan
	codes kernel.Codes // of all rows, unless codec is nil
	// copies are those codes instead, of a graph without links, see Subset.
	copies *kernel.Panels
	// long are the rows of longLevel or more, when uneven.
	long      []uint32
	longLevel int
	// coarsest is the greatest step of a code, the B of its meta.
	coarsest float32
}

// Rows returns the number of rows the graph was built over.
func (g *Graph) Rows() int { return g.rows }

// M returns the parameter M the graph was built with.
func (g *Graph) M() int { return g.m }

// Codes returns the bits of a number in the codes that searches walk over, and
// the bytes of a code: 32 and 0 when they walk over the vectors, zeroes when
// they compare all rows.
func (g *Graph) Codes() (bits, bytes int) {
	if g.plain {
		return plainBits, 0
	}
	return g.codes.Bits, g.codes.Stride
}

// HasCodes reports whether searches compare codes, and vectors at the end only.
func (g *Graph) HasCodes() bool {
	_, bytes := g.Codes()
	return bytes > 0
}

// Fits returns an error when the codes are not of vectors of dim numbers that
// are compared by m. A search makes sure of it; a decoded graph may lie.
func (g *Graph) Fits(m kernel.Metric, dim int) error {
	if g.codec != nil && (g.codec.Dim() != dim || g.codec.Metric() != m) {
		return fmt.Errorf("graph: codes of %d numbers for %v, not of %d for %v", g.codec.Dim(), g.codec.Metric(), dim, m)
	}
	return nil
}

// longRows is the number of the longest rows that every search for the inner
// product compares.
const longRows = 8192

// So many rows, by so many numbers of their codes or more, a search compares at once rather than to
// walk through the highest levels: that takes less time, and does not lose its way. The
// rotation has made all numbers alike, so that a part of them says where to begin.
const (
	highRows    = 1024
	highNumbers = 128
	highFew     = 4 // of them are compared by whole codes
)

// setFirst finds what a search begins with: the longest rows, or those of the
// highest levels. From tight groups and vectors, which are read for each row
// that is compared, it begins at the entry.
func (g *Graph) setFirst() {
	g.long, g.longLevel, g.high, g.highLevel, g.highCodes = nil, 0, nil, 0, nil
	switch {
	case g.uneven:
		g.long, g.longLevel = g.rowsFrom(longRows)
	case !g.grouped && !g.plain && g.codec != nil && g.top() > 0:
		if high, level := g.rowsFrom(highRows); len(high) <= highRows {
			part := highNumbers * g.codes.Bits / 8
			if dim := g.codec.Dim(); part < 64 && dim < 4*highNumbers {
				part = 64 // half of a block has not so many numbers of them
			}
			part = min(part, g.codes.Stride)
			g.high, g.highLevel, g.highCodes = high, level, kernel.NewPanels(&g.codes, part, high)
		}
	}
}

// rowsFrom returns the rows of the lowest level that has at most so many, or, when
// they are more there, of the highest.
func (g *Graph) rowsFrom(most int) (list []uint32, level int) {
	var at [maxLevel + 1]int // seats whose highest level it is
	for s := range uint32(len(g.seatRow)) {
		at[g.seatLevel(s)]++
	}
	level, rows := g.top(), 0
	for ; level > 1 && rows+at[level]+at[level-1] <= most; level-- {
		rows += at[level]
	}
	for s, row := range g.seatRow {
		if g.seatLevel(uint32(s)) >= level && int(row) < g.rows { // the bytes may have changed since they were checked
			list = append(list, row)
		}
	}
	return list, level
}

// step is the B of the code of a row.
func (g *Graph) step(row uint32) float32 {
	if g.copies != nil {
		return g.copies.Meta(row).B
	}
	return g.codes.Meta[row].B
}

// setCoarsest looks at all codes.
func (g *Graph) setCoarsest() {
	for _, m := range g.codes.Meta {
		if m.B > g.coarsest {
			g.coarsest = m.B
		}
	}
}

// newGraph returns a graph without links over rows whose levels are given.
func newGraph(levels []uint8, m int) *Graph {
	g := &Graph{rows: len(levels), m: m, entrySeat: -1}
	g.links = make([]uint32, len(levels)*2*m)
	g.degree = make([]uint8, len(levels))
	g.seatFirst = append(g.seatFirst, 0)
	lists := 0
	for r, level := range levels {
		if level > 0 {
			lists += int(level)
			g.seatRow = append(g.seatRow, uint32(r))
			g.seatFirst = append(g.seatFirst, uint32(lists))
		}
	}
	g.upper = make([]uint32, lists*m)
	g.upperDegree = make([]uint8, lists)
	g.setSeats()
	for r := range g.rows {
		g.setNeighbours(0, uint32(r), nil)
	}
	for s := range g.seatRow {
		for l := 1; l <= g.seatLevel(uint32(s)); l++ {
			g.setNeighbours(l, uint32(s), nil)
		}
	}
	return g
}

// A seatWord tells which of 64 rows have a seat, and how many rows before them do:
// counting bits takes less time than a search in seatRow, whose every step is one
// more guess of the processor's.
type seatWord struct {
	has    uint64
	before uint32
}

// setSeats counts the rows in seatRow, which are ascending.
func (g *Graph) setSeats() {
	g.seats = make([]seatWord, (g.rows+63)/64)
	for _, row := range g.seatRow {
		if int(row) < g.rows { // the bytes may have changed since they were checked
			g.seats[row>>6].has |= 1 << (row & 63)
		}
	}
	before := 0
	for i := range g.seats {
		g.seats[i].before = uint32(before)
		before += bits.OnesCount64(g.seats[i].has)
	}
}

// seat returns the seat of a row, -1 when its level is 0.
func (g *Graph) seat(row uint32) int {
	if int(row>>6) >= len(g.seats) {
		return -1
	}
	w := &g.seats[row>>6]
	if w.has>>(row&63)&1 == 0 {
		return -1
	}
	return int(w.before) + bits.OnesCount64(w.has&(1<<(row&63)-1))
}

// seatLevel is at most maxLevel, whatever the bytes have become.
func (g *Graph) seatLevel(seat uint32) int {
	return int(min(g.seatFirst[seat+1]-g.seatFirst[seat], maxLevel))
}

// top is the level where a search begins.
func (g *Graph) top() int {
	if g.entrySeat < 0 {
		return 0
	}
	return g.seatLevel(uint32(g.entrySeat))
}

// setEntry makes row the place where searches begin.
func (g *Graph) setEntry(row uint32) {
	g.entry, g.entrySeat = row, g.seat(row)
}

// entryNode is the entry as a node of level.
func (g *Graph) entryNode(level int) uint32 {
	if level > 0 {
		return uint32(g.entrySeat)
	}
	return g.entry
}

// rowOf is the row of a node of level.
func (g *Graph) rowOf(level int, node uint32) uint32 {
	if level > 0 {
		return g.seatRow[node]
	}
	return node
}

// width is the room for links of a node of level.
func (g *Graph) width(level int) int {
	if level > 0 {
		return g.m
	}
	return 2 * g.m
}

// nodes is the number of node numbers that level uses.
func (g *Graph) nodes(level int) int {
	if level > 0 {
		return len(g.seatRow)
	}
	return g.rows
}

// slots returns all slots of a node and the counter of the used ones.
func (g *Graph) slots(level int, node uint32) ([]uint32, *uint8) {
	if level == 0 {
		w := 2 * g.m
		o := int(node) * w
		return g.links[o : o+w : o+w], &g.degree[node]
	}
	list := min(int(g.seatFirst[node])+level, len(g.upperDegree)) - 1
	o := list * g.m
	return g.upper[o : o+g.m : o+g.m], &g.upperDegree[list]
}

// neighbours returns the links of a node; the caller must not change them.
func (g *Graph) neighbours(level int, node uint32) []uint32 {
	slots, used := g.slots(level, node)
	return slots[:min(int(*used), len(slots))]
}

// linksAbove appends the rows that row has links to at an upper level to rows.
func (g *Graph) linksAbove(rows []uint32, level int, row uint32) []uint32 {
	seat := g.seat(row)
	if seat < 0 {
		return rows
	}
	for _, n := range g.neighbours(level, uint32(seat)) {
		if int(n) < len(g.seatRow) {
			rows = append(rows, g.seatRow[n])
		}
	}
	return rows
}

// setNeighbours replaces the links of a node, which may alias list.
func (g *Graph) setNeighbours(level int, node uint32, list []uint32) {
	slots, used := g.slots(level, node)
	n := copy(slots, list)
	*used = uint8(n)
	for i := n; i < len(slots); i++ {
		slots[i] = node
	}
}
