package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// avx512 multiplies bytes and adds four products in one instruction of VNNI.
type avx512 struct{}

var (
	zsums   = [group]reg.VecPhysical{reg.Z0, reg.Z1, reg.Z2, reg.Z3}
	zplanes = [4]reg.VecPhysical{reg.Z16, reg.Z17, reg.Z18, reg.Z19} // of the query
	zmask   = reg.Z31
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
		VMOVDQU64(indexed(s.query, s.offset, uint8(planes), codeBlock*p), zplanes[p])
	}
	for k, row := range s.rows {
		code := indexed(row, s.offset, 1, 0)
		if planes == 1 {
			VMOVDQU64(code, reg.Z4)
			VPDPBUSD(zplanes[0], reg.Z4, zsums[k])
			continue
		}
		// Registers take turns, so that one row need not wait for another.
		levels := [][4]reg.VecPhysical{{reg.Z4, reg.Z5, reg.Z6, reg.Z7}, {reg.Z20, reg.Z21, reg.Z22, reg.Z23}}[k%2]
		VMOVDQU64(code, levels[0])
		for p := 1; p < planes; p++ {
			VPSRLW(operand.Imm(uint64(p*s.bits)), levels[0], levels[p])
		}
		for p := range planes {
			VPANDD(zmask, levels[p], levels[p])
			VPDPBUSD(zplanes[p], levels[p], zsums[k])
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
