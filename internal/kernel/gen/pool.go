package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// poolMost is the largest pool that has room in the set of places on the
// stack: the constant of that name in package kernel.
const poolMost = 4096

// A merger is what differs between the instruction sets when keys are merged
// into a pool. It works with lanes keys and with lanes places at a time.
type merger interface {
	name() string
	lanes() int
	// poolConstants loads what the rest needs.
	poolConstants()
	// pack makes entries of count keys and rows. Those that are missing to a
	// whole register are the largest there are.
	pack(keys, rows operand.Mem, count reg.GPVirtual)
	// next takes the next entry of pack. It sets lt to those that are less,
	// and le to those that are not greater.
	next(entry, lt, le reg.GPVirtual)
	// put gives the entry of next its place among the sorted ones.
	put(place reg.GPVirtual)
	// upTo sets le to which of the 2*lanes entries at src are not greater
	// than the entry of next.
	upTo(src reg.GPVirtual, le reg.GPVirtual)
	// spread takes sorted entries, from skip on, to the places in set, entries
	// from pool to the others, and writes them to dst.
	spread(set, skip reg.GPVirtual, pool, dst operand.Mem)
}

// pools writes the kernels behind Offer.
func pools() {
	for _, m := range []merger{avx512{numbers: lanesTable(8, 8)}, avx2{numbers: lanesTable(4, 4), numbers64: lanesTable(4, 8), expand: expandTable()}} {
		writeOffer(m)
	}
}

// An offer is one of them. The entries offered are sorted by counting, for
// each, how many are less. Their places in the merged pool are that and the
// number of entries of the pool that are not greater, which a search finds. A
// set of bits holds the places; in one pass from the end of the pool to the
// first of them, each register of it is put together from both. No branch
// depends on a comparison: nobody could predict it.
type offer struct {
	merger
	pool   reg.GPVirtual
	n      reg.GPVirtual
	done   reg.GPVirtual // entries merged before these
	count  reg.GPVirtual // of these
	low    reg.GPVirtual // the first of their places
	before reg.GPVirtual // how many of them have places before the end of the block to write
	places operand.Mem
}

func writeOffer(m merger) {
	TEXT("offer"+m.name(), 0, "func(pool []uint64, n, limit int, keys []float32, rows []uint32) (n2, first int)")
	Doc("offer" + m.name() + " merges keys into a pool of at most poolMost entries.")
	Pragma("noescape")
	o := &offer{merger: m, pool: GP64(), n: GP64(), done: GP64(), count: GP64(), low: GP64(), before: GP64()}
	o.places = AllocLocal(poolMost/8 + 8)
	Load(Param("pool").Base(), o.pool)
	Load(Param("n"), o.n)
	XORQ(o.done, o.done)
	first := GP64()
	Load(Param("limit"), first)
	Store(first, Return("first"))
	m.poolConstants()

	Label("next_entries")
	o.forget()
	keys, rows, most := GP64(), GP64(), GP64()
	Load(Param("keys").Len(), o.count)
	SUBQ(o.done, o.count)
	MOVQ(operand.U32(uint32(m.lanes())), most)
	CMPQ(o.count, most)
	CMOVQGT(most, o.count)
	Load(Param("keys").Base(), keys)
	Load(Param("rows").Base(), rows)
	m.pack(indexed(keys, o.done, 4, 0), indexed(rows, o.done, 4, 0), o.count)
	o.place()
	o.merge()
	ADDQ(o.count, o.done)
	size := GP64()
	Load(Param("keys").Len(), size)
	CMPQ(o.done, size)
	JLT(operand.LabelRef("next_entries"))

	VZEROUPPER()
	Load(Return("first"), first)
	CMPQ(o.n, first)
	CMOVQLT(o.n, first)
	Store(o.n, Return("n2"))
	Store(first, Return("first"))
	RET()
}

// forget empties the set of places, as far as it is used.
func (o *offer) forget() {
	words, zero := GP64(), GP64()
	XORQ(zero, zero)
	Load(Param("limit"), words)
	ADDQ(operand.Imm(8), words)
	SHRQ(operand.Imm(6), words)
	Label("next_word")
	MOVQ(zero, o.places.Idx(words, 8))
	DECQ(words)
	JGE(operand.LabelRef("next_word"))
}

// size sets n2 to the number of entries of the merged pool.
func (o *offer) size(n2 reg.GPVirtual) {
	limit := GP64()
	Load(Param("limit"), limit)
	LEAQ(indexed(o.n, o.count, 1, 0), n2)
	CMPQ(n2, limit)
	CMOVQGT(limit, n2)
}

// place finds the places of the entries, sorts them, and sets low and before.
func (o *offer) place() {
	end, i := GP64(), GP64()
	o.size(end)
	DECQ(end)
	ANDQ(operand.I8(int8(-o.lanes())), end)
	ADDQ(operand.Imm(uint64(o.lanes())), end)
	XORQ(o.before, o.before)
	XORQ(i, i)
	MOVQ(operand.I32(-1), o.low)

	Label("next_entry")
	entry, place, le := GP64(), GP64(), GP64()
	o.next(entry, place, le)
	BZHIL(i.As32(), le.As32(), le.As32()) // equal entries rank as they came
	ORL(le.As32(), place.As32())
	POPCNTL(place.As32(), place.As32())
	o.put(place)
	o.search(entry, place)

	CMPQ(place, end)
	ADCQ(operand.Imm(0), o.before) // the carry says that the place comes before the end
	CMPQ(place, o.low)
	CMOVQCS(place, o.low)
	word, bits := GP64(), GP64()
	MOVQ(place, word)
	SHRQ(operand.Imm(6), word)
	MOVQ(o.places.Idx(word, 8), bits)
	BTSQ(place, bits)
	MOVQ(bits, o.places.Idx(word, 8))
	INCQ(i)
	CMPQ(i, o.count)
	JLT(operand.LabelRef("next_entry"))
}

// search adds to place the number of entries of the pool that are not greater.
func (o *offer) search(entry, place reg.GPVirtual) {
	base, size, half, probe := GP64(), GP64(), GP64(), GP64()
	window := operand.Imm(uint64(2 * o.lanes()))
	MOVQ(o.pool, base)
	MOVQ(o.n, size)
	CMPQ(size, window)
	JLE(operand.LabelRef("near"))
	Label("halve")
	MOVQ(size, half)
	SHRQ(operand.Imm(1), half)
	LEAQ(indexed(base, half, 8, 0), probe)
	CMPQ(entry, at(probe, -8))
	CMOVQCC(probe, base)
	SUBQ(half, size)
	CMPQ(size, window)
	JGT(operand.LabelRef("halve"))
	Label("near")
	o.upTo(base, half)
	BZHIL(size.As32(), half.As32(), half.As32())
	POPCNTL(half.As32(), half.As32())
	ADDQ(half, place)
	SUBQ(o.pool, base)
	SHRQ(operand.Imm(3), base)
	ADDQ(base, place)
}

// merge writes the blocks from the last to that of the first place.
func (o *offer) merge() {
	block, set, kept, from := GP64(), GP64(), GP64(), GP64()
	lanes := o.lanes()
	o.size(o.n)
	LEAQ(at(o.n, -1), block)
	CMPQ(o.low, block)
	JGT(operand.LabelRef("merged"))
	first := GP64()
	Load(Return("first"), first)
	CMPQ(o.low, first)
	CMOVQLT(o.low, first)
	Store(first, Return("first"))
	ANDQ(operand.I8(int8(-lanes)), block)
	ANDQ(operand.I8(int8(-lanes)), o.low)
	Label("next_block")
	MOVQ(block, from)
	SHRQ(operand.Imm(3), from)
	MOVBLZX(o.places.Idx(from, 1), set.As32())
	if lanes == 4 {
		MOVQ(block, from)
		ANDQ(operand.Imm(4), from)
		SHRXL(from.As32(), set.As32(), set.As32())
		ANDL(operand.Imm(15), set.As32())
	}
	POPCNTL(set.As32(), kept.As32())
	SUBQ(kept, o.before)
	MOVQ(block, from)
	SUBQ(o.before, from)
	o.spread(set, o.before, indexed(o.pool, from, 8, 0), indexed(o.pool, block, 8, 0))
	SUBQ(operand.Imm(uint64(lanes)), block)
	CMPQ(block, o.low)
	JGE(operand.LabelRef("next_block"))
	Label("merged")
}
