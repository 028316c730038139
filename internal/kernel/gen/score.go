package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// group is the number of rows that are scored side by side: their sums are
// independent, a number of the query is loaded once for all of them, and
// the four sums are added up together.
const group = 4

const codeBlock = 64 // bytes of levels that belong together

// An isa is what differs between the instruction sets in a score kernel.
type isa interface {
	name() string
	// constants loads what every block needs.
	constants(bits int)
	// clear sets the accumulators to 0.
	clear()
	// block adds the products of one block of four codes and the query.
	block(s *score)
	// fold leaves the accumulators of the four rows in Y0 to Y3.
	fold(bits int)
	// keep writes the keys in X0 that are less than those in X1, and their
	// rows in X2, to the two places, and sets mask to which they are.
	keep(keys, rows operand.Mem, mask reg.GPVirtual)
}

// A score is the kernel behind Hop.Score for one width of levels.
type score struct {
	isa
	bits   int
	h      reg.GPVirtual
	query  reg.GPVirtual
	codes  reg.GPVirtual
	meta   reg.GPVirtual
	stride reg.GPVirtual
	i      reg.GPVirtual // the next row of the batch
	last   reg.GPVirtual
	out    reg.GPVirtual
	offset reg.GPVirtual // of a block in a code
	rows   [group]reg.GPVirtual
}

func writeScore(bits int, i isa) {
	s := &score{isa: i, bits: bits}
	for _, r := range []*reg.GPVirtual{&s.h, &s.query, &s.codes, &s.meta, &s.stride, &s.i, &s.last, &s.out, &s.offset, &s.rows[0], &s.rows[1], &s.rows[2], &s.rows[3]} {
		*r = GP64()
	}
	name := fmt.Sprintf("score%d%s", bits, i.name())
	TEXT(name, 4, "func(h *Hop, first, last, out int) int")
	Doc(fmt.Sprintf("%s scores rows with levels of %d bits, four at a time.", name, bits))
	Pragma("noescape")
	s.load()
	i.constants(bits)
	Label("next_rows")
	s.point()
	i.clear()
	s.products()
	i.fold(bits)
	s.constantsOfRows()
	s.key()
	s.keep()
}

// products adds up the products of four codes and the query. Code for a fixed
// number of blocks, with the query in registers, was not faster.
func (s *score) products() {
	XORQ(s.offset, s.offset)
	Label("next_block")
	s.block(s)
	ADDQ(operand.Imm(codeBlock), s.offset)
	CMPQ(s.offset, s.stride)
	JLT(operand.LabelRef("next_block"))
}

func (s *score) load() {
	Load(Param("h"), s.h)
	Load(Param("first"), s.i)
	Load(Param("last"), s.last)
	Load(Param("out"), s.out)
	MOVQ(at(s.h, hopQuery), s.query)
	MOVQ(at(s.h, hopCodes), s.codes)
	MOVQ(at(s.h, hopMeta), s.meta)
	MOVQ(at(s.h, hopStride), s.stride)
}

// point finds the codes of the next rows.
func (s *score) point() {
	for k, r := range s.rows {
		MOVL(indexed(s.h, s.i, 4, hopRows+4*k), r.As32())
		IMULQ(s.stride, r)
		ADDQ(s.codes, r)
	}
}

// constantsOfRows leaves the numbers A of the rows in X10, and B in X11.
func (s *score) constantsOfRows() {
	for k, r := range s.rows {
		MOVL(indexed(s.h, s.i, 4, hopRows+4*k), r.As32())
	}
	VMOVSD(indexed(s.meta, s.rows[0], 8, 0), reg.X8)
	VMOVHPS(indexed(s.meta, s.rows[1], 8, 0), reg.X8, reg.X8)
	VMOVSD(indexed(s.meta, s.rows[2], 8, 0), reg.X9)
	VMOVHPS(indexed(s.meta, s.rows[3], 8, 0), reg.X9, reg.X9)
	VSHUFPS(operand.Imm(0x88), reg.X9, reg.X8, reg.X10)
	VSHUFPS(operand.Imm(0xdd), reg.X9, reg.X8, reg.X11)
}

// key adds up the sums of the four rows and makes X0 their keys. Products are
// rounded before they are added, as plain Go does it.
func (s *score) key() {
	VPHADDD(reg.Y1, reg.Y0, reg.Y0)
	VPHADDD(reg.Y3, reg.Y2, reg.Y2)
	VPHADDD(reg.Y2, reg.Y0, reg.Y0)
	VEXTRACTI128(operand.Imm(1), reg.Y0, reg.X1)
	VPADDD(reg.X1, reg.X0, reg.X0)
	VCVTDQ2PS(reg.X0, reg.X0)
	VBROADCASTSS(at(s.h, hopMul), reg.X1)
	VMULPS(reg.X1, reg.X0, reg.X0)
	VBROADCASTSS(at(s.h, hopSub), reg.X1)
	VADDPS(reg.X1, reg.X0, reg.X0)
	VMULPS(reg.X11, reg.X0, reg.X0)
	VADDPS(reg.X10, reg.X0, reg.X0)
	VBROADCASTSS(at(s.h, hopBelow), reg.X1)
}

// keep writes the rows that are near enough, goes on to the next, and returns
// at the end.
func (s *score) keep() {
	mask, kept := GP64(), GP64()
	VMOVDQU(indexed(s.h, s.i, 4, hopRows), reg.X2)
	s.isa.keep(indexed(s.h, s.out, 4, hopKeys), indexed(s.h, s.out, 4, hopRows), mask)
	POPCNTL(mask.As32(), kept.As32())
	ADDQ(kept, s.out)
	ADDQ(operand.Imm(group), s.i)
	CMPQ(s.i, s.last)
	JLT(operand.LabelRef("next_rows"))

	// What lies behind the last row are copies of it, in the highest lanes:
	// they are given back when they were kept.
	lanes := GP64()
	SUBQ(s.i, s.last)
	LEAQ(at(s.last, group), lanes)
	SHRXL(lanes.As32(), mask.As32(), mask.As32())
	POPCNTL(mask.As32(), kept.As32())
	SUBQ(kept, s.out)
	VZEROUPPER()
	Store(s.out, ReturnIndex(0))
	RET()
}

func levelMask(bits int) uint64 { return 1<<bits - 1 }

// loadMask fills a register with the mask of one level in every byte.
func loadMask(bits int, dst reg.VecPhysical) {
	m := GP32()
	MOVL(operand.Imm(levelMask(bits)*0x01010101), m)
	VMOVD(m, dst.AsX())
	VPBROADCASTD(dst.AsX(), dst)
}
