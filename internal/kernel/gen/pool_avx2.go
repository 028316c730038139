package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func (avx2) lanes() int { return 4 }

func (a avx2) poolConstants() {
	VPCMPEQD(reg.Y15, reg.Y15, reg.Y15)
	VPSLLD(operand.Imm(31), reg.Y15, reg.Y14)
	VPSLLQ(operand.Imm(63), reg.Y15, reg.Y13)
	VXORPS(reg.Y12, reg.Y12, reg.Y12)
	VMOVDQU(a.numbers64, reg.Y11)
}

// pack does what Key does, without its branches.
func (a avx2) pack(keys, rows operand.Mem, count reg.GPVirtual) {
	VMOVD(count.As32(), reg.X2)
	VPBROADCASTD(reg.X2, reg.X2)
	VPCMPGTD(a.numbers, reg.X2, reg.X2)
	VMASKMOVPS(keys, reg.X2, reg.X0)
	VADDPS(reg.X12, reg.X0, reg.X0) // -0 becomes 0
	VCMPPS(operand.Imm(3), reg.X0, reg.X0, reg.X3)
	VPSRAD(operand.Imm(31), reg.X0, reg.X1)
	VPOR(reg.X14, reg.X1, reg.X1)
	VPXOR(reg.X1, reg.X0, reg.X0)
	VPOR(reg.X3, reg.X0, reg.X0) // NaN
	VPMOVZXDQ(reg.X0, reg.Y0)
	VPSLLQ(operand.Imm(32), reg.Y0, reg.Y0)
	VPMASKMOVD(rows, reg.X2, reg.X1)
	VPMOVZXDQ(reg.X1, reg.Y1)
	VPADDQ(reg.Y1, reg.Y1, reg.Y1)
	VPOR(reg.Y1, reg.Y0, reg.Y0)
	VPXOR(reg.X15, reg.X2, reg.X2)
	VPMOVSXDQ(reg.X2, reg.Y2)
	VPOR(reg.Y2, reg.Y0, reg.Y0)
	VMOVDQA(reg.Y0, reg.Y1)
	VPXOR(reg.Y13, reg.Y0, reg.Y0) // comparisons are signed
}

// next keeps the entries in Y0, changed for comparison, those that are not
// taken yet in Y1, the last in Y2, and changed in Y3.
func (avx2) next(entry, lt, le reg.GPVirtual) {
	VPBROADCASTQ(reg.X1, reg.Y2)
	VMOVQ(reg.X1, entry)
	VPERMQ(operand.Imm(0x39), reg.Y1, reg.Y1)
	VPXOR(reg.Y13, reg.Y2, reg.Y3)
	VPCMPGTQ(reg.Y0, reg.Y3, reg.Y4)
	VPCMPGTQ(reg.Y3, reg.Y0, reg.Y5)
	VMOVMSKPD(reg.Y4, lt.As32())
	VMOVMSKPD(reg.Y5, le.As32())
	NOTL(le.As32())
}

func (avx2) put(place reg.GPVirtual) {
	VMOVQ(place, reg.X4)
	VPBROADCASTQ(reg.X4, reg.Y4)
	VPCMPEQQ(reg.Y11, reg.Y4, reg.Y4)
	VBLENDVPD(reg.Y4, reg.Y2, reg.Y6, reg.Y6)
}

func (avx2) upTo(src, le reg.GPVirtual) {
	high := GP32()
	VPXOR(at(src, 0), reg.Y13, reg.Y4)
	VPXOR(at(src, 32), reg.Y13, reg.Y5)
	VPCMPGTQ(reg.Y3, reg.Y4, reg.Y4)
	VPCMPGTQ(reg.Y3, reg.Y5, reg.Y5)
	VMOVMSKPD(reg.Y4, le.As32())
	VMOVMSKPD(reg.Y5, high)
	SHLL(operand.Imm(4), high)
	ORL(high, le.As32())
	NOTL(le.As32())
}

func (a avx2) spread(set, skip reg.GPVirtual, pool, dst operand.Mem) {
	table := GP64()
	LEAQ(a.expand, table)
	SHLQ(operand.Imm(6), set)
	VMOVD(skip.As32(), reg.X4)
	VPBROADCASTD(reg.X4, reg.Y4)
	VPADDD(reg.Y4, reg.Y4, reg.Y4)
	VPADDD(indexed(table, set, 1, 0), reg.Y4, reg.Y4)
	VMOVDQU(indexed(table, set, 1, 32), reg.Y7)
	NEGQ(set)
	VMOVDQU(indexed(table, set, 1, 15*64), reg.Y5)
	VPERMD(reg.Y6, reg.Y4, reg.Y4)
	VPERMD(pool, reg.Y5, reg.Y5)
	VBLENDVPD(reg.Y7, reg.Y4, reg.Y5, reg.Y4)
	VMOVDQU(reg.Y4, dst)
}

// lanesTable has the numbers of some lanes of some bytes.
func lanesTable(lanes, bytes int) operand.Mem {
	m := GLOBL(fmt.Sprintf("lanes%dx%d", lanes, bytes), 8|16) // RODATA|NOPTR
	for lane := range lanes {
		if bytes == 8 {
			DATA(8*lane, operand.U64(lane))
		} else {
			DATA(4*lane, operand.U32(lane))
		}
	}
	return m
}

// expandTable has two registers for every set of four lanes of 64 bits: which
// of the entries in order goes to each lane of the set, as two halves of 32
// bits, and the set itself.
func expandTable() operand.Mem {
	m := GLOBL("expand", 8|16) // RODATA|NOPTR
	for set := range 16 {
		next := 0
		for lane := range 4 {
			DATA(64*set+8*lane, operand.U32(2*next))
			DATA(64*set+8*lane+4, operand.U32(2*next+1))
			next += set >> lane & 1
		}
		for lane := range 4 {
			DATA(64*set+32+8*lane, operand.I64(-(set >> lane & 1)))
		}
	}
	return m
}
