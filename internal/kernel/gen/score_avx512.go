package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// avx512 multiplies bytes and adds four products in one instruction of VNNI.
type avx512 struct {
	numbers operand.Mem // of the lanes
	halves  operand.Mem // which of them are even, and which odd
}

var (
	zsums = [group]reg.VecPhysical{reg.Z0, reg.Z1, reg.Z2, reg.Z3}
	// Rows take turns with the registers of levels, so that one need not wait
	// for another.
	zlevels = [2][4]reg.VecPhysical{{reg.Z4, reg.Z5, reg.Z6, reg.Z7}, {reg.Z8, reg.Z9, reg.Z10, reg.Z11}}
	zmask   = reg.Z12
	// Levels of every second plane are multiplied where they are, not shifted: their
	// products are 2^bits times as large.
	zhigh     = [group]reg.VecPhysical{reg.Z20, reg.Z21, reg.Z22, reg.Z23}
	zhighMask = reg.Z13
	zquery    = [4]reg.VecPhysical{reg.Z16, reg.Z17, reg.Z18, reg.Z19}
)

func (avx512) name() string { return "AVX512" }

func (avx512) constants(bits int) {
	if bits < 8 {
		loadMask(bits, zmask)
		VPSLLD(operand.Imm(uint64(bits)), zmask, zhighMask)
	}
}

func (avx512) clear() {
	for k := range zsums {
		VPXORD(zsums[k], zsums[k], zsums[k])
		VPXORD(zhigh[k], zhigh[k], zhigh[k])
	}
}

func (avx512) block(s *score) {
	planes := 8 / s.bits
	for p := range planes {
		VMOVDQU64(indexed(s.query, s.offset, uint8(planes), codeBlock*p), zquery[p])
	}
	for k, row := range s.rows {
		t := zlevels[k%2]
		code := t[0]
		VMOVDQU64(indexed(row, s.offset, 1, 0), code)
		if planes == 1 {
			VPDPBUSD(zquery[0], code, zsums[k])
			continue
		}
		for p := 0; p < planes; p += 2 {
			if p > 0 {
				VPSRLW(operand.Imm(uint64(p*s.bits)), code, code)
			}
			VPANDD(zmask, code, t[1])
			VPDPBUSD(zquery[p], t[1], zsums[k])
			VPANDD(zhighMask, code, t[2])
			VPDPBUSD(zquery[p+1], t[2], zhigh[k])
		}
	}
}

func (avx512) fold(bits int) {
	for k, z := range zsums {
		if bits < 8 {
			VPSRAD(operand.Imm(uint64(bits)), zhigh[k], zhigh[k])
			VPADDD(zhigh[k], z, z)
		}
		y := []reg.VecPhysical{reg.Y4, reg.Y5, reg.Y6, reg.Y7}[k]
		VEXTRACTI64X4(operand.Imm(1), z, y)
		VPADDD(y, z.AsY(), z.AsY())
	}
}

// keep compresses into registers: the form of the instruction that writes to
// memory is slow on some processors.
func (avx512) keep(keys, rows operand.Mem, mask reg.GPVirtual) {
	VCMPPS(operand.Imm(1), reg.X1, reg.X0, reg.K1)
	VCOMPRESSPS_Z(reg.X0, reg.K1, reg.X0)
	VPCOMPRESSD_Z(reg.X2, reg.K1, reg.X2)
	VMOVUPS(reg.X0, keys)
	VMOVDQU(reg.X2, rows)
	KMOVW(reg.K1, mask.As32())
}
