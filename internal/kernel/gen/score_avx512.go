package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// avx512 multiplies bytes and adds four products in one instruction of VNNI.
type avx512 struct {
	numbers operand.Mem // of the lanes
}

var (
	zsums = [group]reg.VecPhysical{reg.Z0, reg.Z1, reg.Z2, reg.Z3}
	// Rows take turns with the registers of levels, so that one need not wait
	// for another.
	zlevels = [2][4]reg.VecPhysical{{reg.Z4, reg.Z5, reg.Z6, reg.Z7}, {reg.Z8, reg.Z9, reg.Z10, reg.Z11}}
	zmask   = reg.Z12
	zquery  = [4]reg.VecPhysical{reg.Z16, reg.Z17, reg.Z18, reg.Z19}
)

func (avx512) name() string { return "AVX512" }

func (avx512) constants(bits int) {
	if bits < 8 {
		loadMask(bits, zmask)
	}
}

func (avx512) clear() {
	for _, z := range zsums {
		VPXORD(z, z, z)
	}
}

func (avx512) block(s *score) {
	planes := 8 / s.bits
	for p := range planes {
		VMOVDQU64(indexed(s.query, s.offset, uint8(planes), codeBlock*p), zquery[p])
	}
	for k, row := range s.rows {
		levels := zlevels[k%2]
		VMOVDQU64(indexed(row, s.offset, 1, 0), levels[0])
		for p := 1; p < planes; p++ {
			VPSRLW(operand.Imm(uint64(p*s.bits)), levels[0], levels[p])
		}
		for p := range planes {
			if planes > 1 {
				VPANDD(zmask, levels[p], levels[p])
			}
			VPDPBUSD(zquery[p], levels[p], zsums[k])
		}
	}
}

func (avx512) fold() {
	for k, z := range zsums {
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
