package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// avx2 multiplies bytes to sums of two products in 16 bits. Those of levels
// of 4 bits leave room for eight such sums, and a block makes four; levels of
// 8 bits do not fit and are widened first.
type avx2 struct {
	squeeze, numbers, numbers64, expand, ones operand.Mem // see the functions that make them
}

const half = 32 // bytes of a register

var (
	ysums   = [group]reg.VecPhysical{reg.Y0, reg.Y1, reg.Y2, reg.Y3}
	yshorts = [group]reg.VecPhysical{reg.Y4, reg.Y5, reg.Y6, reg.Y7}
	yplanes = [4]reg.VecPhysical{reg.Y8, reg.Y9, reg.Y12, reg.Y13} // of the query
	ymask   = reg.Y14
	yones   = reg.Y15

	// where levels have two bits
	yhigh     = [group]reg.VecPhysical{reg.Y8, reg.Y9, reg.Y10, reg.Y11}
	yhighMask = reg.Y15
)

func (avx2) name() string { return "AVX2" }

func (a avx2) constants(bits int) {
	switch {
	case bits == 2:
		loadMask(bits, ymask)
		VPSLLD(operand.Imm(2), ymask, yhighMask)
	case bits < 8:
		loadMask(bits, ymask)
		VPCMPEQW(yones, yones, yones)
		VPSRLW(operand.Imm(15), yones, yones)
	}
}

// pairs is block for levels of two bits. Those of odd planes are multiplied where they
// are: their products are four times as large, and have sums of their own. Numbers of
// the query come from memory: registers are used up.
func (a avx2) pairs(s *score) {
	for h := range 2 {
		for k, row := range s.rows {
			VMOVDQU(indexed(row, s.offset, 1, half*h), reg.Y12)
			for p := range 4 {
				number := indexed(s.query, s.offset, 4, codeBlock*p+half*h)
				mask, sum := ymask, yshorts[k]
				if p%2 == 1 {
					mask, sum = yhighMask, yhigh[k]
				}
				if p == 2 {
					VPSRLW(operand.Imm(4), reg.Y12, reg.Y12)
				}
				VPAND(mask, reg.Y12, reg.Y13)
				if h == 0 && p < 2 {
					VPMADDUBSW(number, reg.Y13, sum)
					continue
				}
				VPMADDUBSW(number, reg.Y13, reg.Y13)
				VPADDW(reg.Y13, sum, sum)
			}
		}
	}
	for k, y := range yshorts {
		VPSRAW(operand.Imm(2), yhigh[k], yhigh[k])
		VPADDW(yhigh[k], y, y)
		VPMADDWD(a.ones, y, y)
		VPADDD(y, ysums[k], ysums[k])
	}
}

func (avx2) clear() {
	for _, y := range ysums {
		VPXOR(y, y, y)
	}
}

func (a avx2) block(s *score) {
	switch s.bits {
	case 8:
		a.wide(s)
		return
	case 2:
		a.pairs(s)
		return
	}
	planes := 8 / s.bits
	for h := range 2 {
		for p := range planes {
			VMOVDQU(indexed(s.query, s.offset, uint8(planes), codeBlock*p+half*h), yplanes[p])
		}
		for k, row := range s.rows {
			VMOVDQU(indexed(row, s.offset, 1, half*h), reg.Y10)
			for p := range planes {
				levels := reg.Y11
				if p == 0 {
					VPAND(ymask, reg.Y10, levels)
				} else {
					VPSRLW(operand.Imm(uint64(p*s.bits)), reg.Y10, levels)
					VPAND(ymask, levels, levels)
				}
				if h == 0 && p == 0 {
					VPMADDUBSW(yplanes[p], levels, yshorts[k])
					continue
				}
				VPMADDUBSW(yplanes[p], levels, levels)
				VPADDW(levels, yshorts[k], yshorts[k])
			}
		}
	}
	for k, y := range yshorts {
		VPMADDWD(yones, y, y)
		VPADDD(y, ysums[k], ysums[k])
	}
}

// wide adds the products of a block of bytes.
func (avx2) wide(s *score) {
	const width = 16 // bytes that fill a register when they are widened
	for piece := 0; piece < codeBlock; piece += width {
		VPMOVSXBW(indexed(s.query, s.offset, 1, piece), yplanes[0])
		for k, row := range s.rows {
			VPMOVZXBW(indexed(row, s.offset, 1, piece), yshorts[k])
			VPMADDWD(yplanes[0], yshorts[k], yshorts[k])
			VPADDD(yshorts[k], ysums[k], ysums[k])
		}
	}
}

func (avx2) fold(int) {}

func (a avx2) keep(keys, rows operand.Mem, mask reg.GPVirtual) {
	VCMPPS(operand.Imm(1), reg.X1, reg.X0, reg.X1)
	VMOVMSKPS(reg.X1, mask.As32())
	table, order := GP64(), GP64()
	LEAQ(a.squeeze, table)
	MOVL(mask.As32(), order.As32())
	SHLL(operand.Imm(4), order.As32())
	VMOVDQU(indexed(table, order, 1, 0), reg.X1)
	VPERMILPS(reg.X1, reg.X0, reg.X0)
	VPERMILPS(reg.X1, reg.X2, reg.X2)
	VMOVUPS(reg.X0, keys)
	VMOVDQU(reg.X2, rows)
}

// onesTable has sixteen words that are 1.
func onesTable() operand.Mem {
	m := GLOBL("ones", 8|16) // RODATA|NOPTR
	for i := range 16 {
		DATA(2*i, operand.U16(1))
	}
	return m
}

// squeezeTable has, for every set of four lanes, the lanes of the set in
// order, as the instruction wants them that moves lanes within a register.
func squeezeTable() operand.Mem {
	m := GLOBL("squeeze", 8|16) // RODATA|NOPTR
	for set := range 1 << group {
		place := 0
		for lane := range group {
			if set>>lane&1 != 0 {
				DATA(16*set+4*place, operand.U32(lane))
				place++
			}
		}
		for ; place < group; place++ {
			DATA(16*set+4*place, operand.U32(0))
		}
	}
	return m
}
