package hnsw

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"unsafe"

	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/quant"
)

// The bytes of a graph, drawn in docs/format/graph.md: a header and arrays,
// each of which begins at a multiple of 64.
const (
	graphVersion = 2
	graphAlign   = 64
	headerBytes  = 32 // in use; the rest of the first 64 is zero
	metaBytes    = 8

	// Bits of the last word of the header.
	flagUneven  = 1
	flagPlain   = 2
	flagGrouped = 4
	flags       = flagUneven | flagPlain | flagGrouped
)

// sizes are the numbers in a header that give the lengths of the arrays.
type sizes struct {
	rows, m, seats, lists, codec, stride int64
}

// An extent is where an array begins and how many bytes it has.
type extent struct{ at, len int64 }

func (e extent) of(b []byte) []byte { return b[e.at : e.at+e.len : e.at+e.len] }

// layout says where the arrays are.
type layout struct {
	codec, codes, meta, links, degree, seatRow, seatFirst, upper, upperDegree extent
	size                                                                      int64
}

func layoutOf(s sizes) (l layout) {
	at := int64(graphAlign)
	array := func(e *extent, bytes int64) {
		*e = extent{at, bytes}
		at = (at + bytes + graphAlign - 1) / graphAlign * graphAlign
	}
	array(&l.codec, s.codec)
	array(&l.codes, s.rows*s.stride)
	if s.stride > 0 {
		array(&l.meta, s.rows*metaBytes)
	} else {
		array(&l.meta, 0)
	}
	array(&l.links, s.rows*2*s.m*4)
	array(&l.degree, s.rows)
	array(&l.seatRow, s.seats*4)
	array(&l.seatFirst, (s.seats+1)*4)
	array(&l.upper, s.lists*s.m*4)
	array(&l.upperDegree, s.lists)
	l.size = at
	return l
}

// arrays are the extents in their order.
func (l *layout) arrays() [9]extent {
	return [9]extent{l.codec, l.codes, l.meta, l.links, l.degree, l.seatRow, l.seatFirst, l.upper, l.upperDegree}
}

func (g *Graph) layout(codec int) layout {
	return layoutOf(sizes{int64(g.rows), int64(g.m), int64(len(g.seatRow)), int64(len(g.upperDegree)), int64(codec), int64(g.codes.Stride)})
}

// AppendBinary appends the bytes of the graph to b. The error is that of its
// codec, which has none today.
func (g *Graph) AppendBinary(b []byte) ([]byte, error) {
	var codec []byte
	if g.codec != nil {
		var err error
		if codec, err = g.codec.AppendBinary(nil); err != nil {
			return b, fmt.Errorf("graph: %w", err)
		}
	}
	l := g.layout(len(codec))
	start := len(b)
	b = slices.Grow(b, int(l.size))
	to := func(at int64) {
		b = append(b, make([]byte, start+int(at)-len(b))...)
	}
	for _, w := range []uint32{graphVersion, uint32(g.rows), uint32(g.m), g.entry, uint32(len(g.seatRow)), uint32(len(g.upperDegree)), uint32(len(codec)), g.flags()} {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	to(l.codec.at)
	b = append(b, codec...)
	to(l.codes.at)
	b = append(b, g.codes.Data[:l.codes.len]...)
	to(l.meta.at)
	b = appendMeta(b, g.codes.Meta)
	to(l.links.at)
	b = appendWords(b, g.links)
	to(l.degree.at)
	b = append(b, g.degree...)
	to(l.seatRow.at)
	b = appendWords(b, g.seatRow)
	to(l.seatFirst.at)
	b = appendWords(b, g.seatFirst)
	to(l.upper.at)
	b = appendWords(b, g.upper)
	to(l.upperDegree.at)
	b = append(b, g.upperDegree...)
	to(l.size)
	return b, nil
}

// Decode reads the bytes that AppendBinary wrote for a graph of rows rows. It
// checks everything that keeps a search within its memory and lets it end, so
// no bytes make a search fail; Check looks for what makes answers poor. The
// graph uses b instead of copying it, where b begins at a multiple of four
// and the processor is little endian: b must live as long as the graph. Should
// it change, which a file can, answers become poor, and a search stays within
// its memory and ends all the same. Join does not: it asks for bytes that
// nobody else can write to.
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
	version, entry, kind := u32(0), u32(12), u32(28)
	s := sizes{rows: u32(4), m: u32(8), seats: u32(16), lists: u32(20), codec: u32(24)}
	switch {
	case version != graphVersion:
		return nil, fmt.Errorf("version %d", version)
	case s.rows != int64(rows) || s.rows >= maxRows:
		return nil, fmt.Errorf("%d rows instead of %d", s.rows, rows)
	case s.m < minM || s.m > maxM:
		return nil, fmt.Errorf("parameter M %d", s.m)
	case s.seats > s.rows || s.lists < s.seats || s.lists > s.seats*maxLevel:
		return nil, fmt.Errorf("%d seats and %d upper lists for %d rows", s.seats, s.lists, s.rows)
	case entry >= max(s.rows, 1):
		return nil, fmt.Errorf("entry %d of %d rows", entry, s.rows)
	case kind&^flags != 0:
		return nil, fmt.Errorf("unknown kind of graph %#x", kind)
	case kind&flagPlain != 0 && (s.rows == 0 || s.codec != 0):
		return nil, fmt.Errorf("codec of %d bytes for %d rows that have no codes", s.codec, s.rows)
	case s.codec > int64(len(b))-graphAlign:
		return nil, fmt.Errorf("codec of %d bytes in %d", s.codec, len(b))
	}
	g := &Graph{rows: rows, m: int(s.m), entry: uint32(entry), uneven: kind&flagUneven != 0, plain: kind&flagPlain != 0, grouped: kind&flagGrouped != 0}
	if err := g.decodeCodec(b[graphAlign:][:s.codec]); err != nil {
		return nil, err
	}
	s.stride = int64(g.codes.Stride)
	l := layoutOf(s)
	if l.size != int64(len(b)) {
		return nil, fmt.Errorf("%d bytes instead of %d", len(b), l.size)
	}
	g.codes.Data = l.codes.of(b)
	g.codes.Meta = metas(l.meta.of(b))
	g.setCoarsest()
	g.links = words(l.links.of(b))
	g.degree = l.degree.of(b)
	g.seatRow = words(l.seatRow.of(b))
	g.seatFirst = words(l.seatFirst.of(b))
	g.upper = words(l.upper.of(b))
	g.upperDegree = l.upperDegree.of(b)
	if err := checkGaps(b, &l); err != nil {
		return nil, err
	}
	if err := g.checkSeats(); err != nil {
		return nil, err
	}
	g.entrySeat = g.seat(g.entry)
	g.setFirst()
	return g, g.checkLinks()
}

// maxStride keeps the length of all codes within an int64.
const maxStride = 1 << 20

func (g *Graph) decodeCodec(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	codec, n, err := quant.Decode(b)
	if err != nil {
		return err
	}
	if n != len(b) || g.rows == 0 {
		return fmt.Errorf("codec of %d bytes in %d, for %d rows", n, len(b), g.rows)
	}
	if codec.Stride() <= 0 || codec.Stride() > maxStride {
		return fmt.Errorf("codes of %d bytes", codec.Stride())
	}
	g.codec = codec
	g.codes.Bits, g.codes.Stride = codec.Bits(), codec.Stride()
	return nil
}

// checkGaps checks that nothing is hidden between the arrays.
func checkGaps(b []byte, l *layout) error {
	end := int64(headerBytes)
	check := func(to int64) error {
		if slices.ContainsFunc(b[end:to], func(x byte) bool { return x != 0 }) {
			return fmt.Errorf("gap at %d is not zero", end)
		}
		return nil
	}
	for _, a := range l.arrays() {
		if err := check(a.at); err != nil {
			return err
		}
		end = a.at + a.len
	}
	return check(l.size)
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
	g.setSeats()
	if s := g.seat(g.entry); len(g.seatRow) > 0 && (s < 0 || g.seatLevel(uint32(s)) != most) {
		return fmt.Errorf("entry %d is not at level %d", g.entry, most)
	}
	return nil
}

// checkLinks checks that every slot, used or not, holds a node of its level.
func (g *Graph) checkLinks() error {
	if !allBelow(g.links, uint32(g.rows)) {
		return fmt.Errorf("level 0: a link beyond row %d", g.rows)
	}
	if n := 2 * g.m; g.rows > 0 && int(slices.Max(g.degree)) > n {
		return fmt.Errorf("level 0: more than %d links", n)
	}
	seats := uint32(len(g.seatRow))
	if !allBelow(g.upper, seats) {
		return fmt.Errorf("upper levels: a link beyond seat %d", seats)
	}
	for s := range seats {
		for level := 1; level <= g.seatLevel(s); level++ {
			slots, used := g.slots(level, s)
			n := int(*used)
			if n > len(slots) {
				return fmt.Errorf("level %d node %d: %d links", level, s, n)
			}
			for _, n := range slots[:n] {
				if n >= seats || g.seatLevel(n) < level {
					return fmt.Errorf("level %d node %d: link to %d", level, s, n)
				}
			}
		}
	}
	return nil
}

// allBelow reports whether every number of list is less than n, which is at
// most 2^31. It compares without a branch in four chains, which is as fast as
// memory: a large graph is checked while it is opened.
func allBelow(list []uint32, n uint32) bool {
	var a, b, c, d uint32
	rest := list
	for len(rest) >= 8 {
		x := (*[8]uint32)(rest)
		a = max(a, x[0], x[4])
		b = max(b, x[1], x[5])
		c = max(c, x[2], x[6])
		d = max(d, x[3], x[7])
		rest = rest[8:]
	}
	for _, x := range rest {
		a = max(a, x)
	}
	return len(list) == 0 || max(a, b, c, d) < n
}

// Check looks for what Decode lets pass, since no search fails of it: links
// of a node to itself, and unused slots that do not hold their own node.
func (g *Graph) Check() error {
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
	links := min(int(*used), len(slots))
	for _, n := range slots[:links] {
		if n == node {
			return fmt.Errorf("graph: level %d node %d: link to itself", level, node)
		}
	}
	for _, n := range slots[links:] {
		if n != node {
			return fmt.Errorf("graph: level %d node %d: unused link to %d", level, node, n)
		}
	}
	return nil
}

func (g *Graph) flags() (kind uint32) {
	if g.uneven {
		kind |= flagUneven
	}
	if g.plain {
		kind |= flagPlain
	}
	if g.grouped {
		kind |= flagGrouped
	}
	return kind
}

// inPlace reports whether b can be read as an array of words.
func inPlace(b []byte) bool {
	return littleEndian() && uintptr(unsafe.Pointer(unsafe.SliceData(b)))%4 == 0
}

func littleEndian() bool { return binary.NativeEndian.Uint16([]byte{1, 0}) == 1 }

// words returns the little endian words of b, in place where the processor
// can read them so.
func words(b []byte) []uint32 {
	n := len(b) / 4
	if n == 0 {
		return nil
	}
	if inPlace(b) {
		return unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(b))), n)
	}
	list := make([]uint32, n)
	for i := range list {
		list[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return list
}

// metas is words for the numbers beside each code.
func metas(b []byte) []kernel.Meta {
	n := len(b) / metaBytes
	if n == 0 {
		return nil
	}
	if inPlace(b) {
		return unsafe.Slice((*kernel.Meta)(unsafe.Pointer(unsafe.SliceData(b))), n)
	}
	list := make([]kernel.Meta, n)
	for i := range list {
		list[i].A = math.Float32frombits(binary.LittleEndian.Uint32(b[metaBytes*i:]))
		list[i].B = math.Float32frombits(binary.LittleEndian.Uint32(b[metaBytes*i+4:]))
	}
	return list
}

func appendWords(b []byte, list []uint32) []byte {
	if len(list) > 0 && littleEndian() {
		return append(b, unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(list))), 4*len(list))...)
	}
	for _, w := range list {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b
}

func appendMeta(b []byte, list []kernel.Meta) []byte {
	if len(list) > 0 && littleEndian() {
		return append(b, unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(list))), metaBytes*len(list))...)
	}
	for _, m := range list {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(m.A))
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(m.B))
	}
	return b
}
