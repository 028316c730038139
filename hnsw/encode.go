package hnsw

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unsafe"
)

// The bytes of a graph, drawn in docs/format/graph.md: a header and six
// arrays, each of which begins at a multiple of 64.
const (
	graphVersion = 1
	graphAlign   = 64
	headerBytes  = 24 // in use; the rest of the first 64 is zero
)

// layout says where the arrays begin.
type layout struct {
	links, degree, seatRow, seatFirst, upper, upperDegree, size int64
}

func layoutOf(rows, m, seats, lists int64) (l layout) {
	at := int64(graphAlign)
	array := func(start *int64, bytes int64) {
		*start = at
		at = (at + bytes + graphAlign - 1) / graphAlign * graphAlign
	}
	array(&l.links, rows*2*m*4)
	array(&l.degree, rows)
	array(&l.seatRow, seats*4)
	array(&l.seatFirst, (seats+1)*4)
	array(&l.upper, lists*m*4)
	array(&l.upperDegree, lists)
	l.size = at
	return l
}

func (g *Graph) layout() layout {
	return layoutOf(int64(g.rows), int64(g.m), int64(len(g.seatRow)), int64(len(g.upperDegree)))
}

// AppendBinary appends the bytes of the graph to b. The error is always nil.
func (g *Graph) AppendBinary(b []byte) ([]byte, error) {
	l := g.layout()
	start := len(b)
	b = slices.Grow(b, int(l.size))
	to := func(at int64) {
		b = append(b, make([]byte, start+int(at)-len(b))...)
	}
	words := func(at int64, list []uint32) {
		to(at)
		for _, w := range list {
			b = binary.LittleEndian.AppendUint32(b, w)
		}
	}
	words(0, []uint32{graphVersion, uint32(g.rows), uint32(g.m), g.entry, uint32(len(g.seatRow)), uint32(len(g.upperDegree))})
	words(l.links, g.links)
	to(l.degree)
	b = append(b, g.degree...)
	words(l.seatRow, g.seatRow)
	words(l.seatFirst, g.seatFirst)
	words(l.upper, g.upper)
	to(l.upperDegree)
	b = append(b, g.upperDegree...)
	to(l.size)
	return b, nil
}

// Decode reads the bytes that AppendBinary wrote for a graph of rows rows. It
// checks everything that a search relies on, so no bytes make a search fail.
// The graph uses b instead of copying it, where b begins at a multiple of
// four and the processor is little endian: b must not change, and must live
// as long as the graph.
func Decode(b []byte, rows int) (*Graph, error) {
	g, err := decode(b, rows)
	if err != nil {
		return nil, fmt.Errorf("graph: %w", err)
	}
	return g, nil
}

func decode(b []byte, rows int) (*Graph, error) {
	if len(b) < graphAlign {
		return nil, fmt.Errorf("%d bytes", len(b))
	}
	u32 := func(at int) int64 { return int64(binary.LittleEndian.Uint32(b[at:])) }
	version, n, m, entry, seats, lists := u32(0), u32(4), u32(8), u32(12), u32(16), u32(20)
	switch {
	case version != graphVersion:
		return nil, fmt.Errorf("version %d", version)
	case n != int64(rows) || n >= maxRows:
		return nil, fmt.Errorf("%d rows instead of %d", n, rows)
	case m < minM || m > maxM:
		return nil, fmt.Errorf("parameter M %d", m)
	case seats > n || lists < seats || lists > seats*maxLevel:
		return nil, fmt.Errorf("%d seats and %d upper lists for %d rows", seats, lists, n)
	case entry >= max(n, 1):
		return nil, fmt.Errorf("entry %d of %d rows", entry, n)
	}
	l := layoutOf(n, m, seats, lists)
	if l.size != int64(len(b)) {
		return nil, fmt.Errorf("%d bytes instead of %d", len(b), l.size)
	}
	g := &Graph{
		rows: rows, m: int(m), entry: uint32(entry),
		links:       words(b[l.links:], n*2*m),
		degree:      b[l.degree:][:n:n],
		seatRow:     words(b[l.seatRow:], seats),
		seatFirst:   words(b[l.seatFirst:], seats+1),
		upper:       words(b[l.upper:], lists*m),
		upperDegree: b[l.upperDegree:][:lists:lists],
	}
	ends := [][2]int64{{headerBytes, l.links}, {l.links + n*2*m*4, l.degree}, {l.degree + n, l.seatRow},
		{l.seatRow + seats*4, l.seatFirst}, {l.seatFirst + (seats+1)*4, l.upper}, {l.upper + lists*m*4, l.upperDegree},
		{l.upperDegree + lists, l.size}}
	for _, gap := range ends {
		if slices.ContainsFunc(b[gap[0]:gap[1]], func(x byte) bool { return x != 0 }) {
			return nil, fmt.Errorf("gap at %d is not zero", gap[0])
		}
	}
	if err := g.checkSeats(); err != nil {
		return nil, err
	}
	g.entrySeat = g.seat(g.entry)
	return g, g.checkLinks()
}

// checkSeats checks the table that gives rows their upper lists.
func (g *Graph) checkSeats() error {
	if g.seatFirst[0] != 0 || int(g.seatFirst[len(g.seatRow)]) != len(g.upperDegree) {
		return errors.New("table of seats does not cover the upper lists")
	}
	most := 0
	for s, row := range g.seatRow {
		if int(row) >= g.rows || s > 0 && row <= g.seatRow[s-1] {
			return fmt.Errorf("seat %d: row %d", s, row)
		}
		if g.seatFirst[s+1] <= g.seatFirst[s] || g.seatFirst[s+1]-g.seatFirst[s] > maxLevel {
			return fmt.Errorf("seat %d: upper lists %d to %d", s, g.seatFirst[s], g.seatFirst[s+1])
		}
		most = max(most, g.seatLevel(uint32(s)))
	}
	if s := g.seat(g.entry); len(g.seatRow) > 0 && (s < 0 || g.seatLevel(uint32(s)) != most) {
		return fmt.Errorf("entry %d is not at level %d", g.entry, most)
	}
	return nil
}

// checkLinks checks every slot, used or not.
func (g *Graph) checkLinks() error {
	for r := range uint32(g.rows) {
		if err := g.checkNode(0, r); err != nil {
			return err
		}
	}
	for s := range uint32(len(g.seatRow)) {
		for level := 1; level <= g.seatLevel(s); level++ {
			if err := g.checkNode(level, s); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *Graph) checkNode(level int, node uint32) error {
	slots, used := g.slots(level, node)
	if int(*used) > len(slots) {
		return fmt.Errorf("level %d node %d: %d links", level, node, *used)
	}
	nodes := uint32(g.nodes(level))
	for _, n := range slots[:*used] {
		if n >= nodes || n == node || level > 0 && g.seatLevel(n) < level {
			return fmt.Errorf("level %d node %d: link to %d", level, node, n)
		}
	}
	for _, n := range slots[*used:] {
		if n != node {
			return fmt.Errorf("level %d node %d: unused link to %d", level, node, n)
		}
	}
	return nil
}

// words returns the first n little endian words of b, in place where the
// processor can read them so.
func words(b []byte, n int64) []uint32 {
	if n == 0 {
		return nil
	}
	b = b[:4*n]
	aligned := uintptr(unsafe.Pointer(&b[0]))%4 == 0
	if little := binary.NativeEndian.Uint16([]byte{1, 0}) == 1; aligned && little {
		return unsafe.Slice((*uint32)(unsafe.Pointer(&b[0])), n)
	}
	list := make([]uint32, n)
	for i := range list {
		list[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return list
}
