package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func (avx512) lanes() int { return 8 }

func (a avx512) poolConstants() {
	sign := GP32()
	MOVL(operand.U32(1<<31), sign)
	VPBROADCASTD(sign, reg.Y16)
	VPTERNLOGD(operand.Imm(0xff), reg.Z17, reg.Z17, reg.Z17)
	VPXORD(reg.X18, reg.X18, reg.X18)
	VMOVDQU64(a.numbers, reg.Z19)
}

// pack does what Key does, without its branches.
func (avx512) pack(keys, rows operand.Mem, count reg.GPVirtual) {
	there := GP32()
	MOVL(operand.U32(0xff), there)
	BZHIL(count.As32(), there, there)
	KMOVW(there, reg.K1)
	KNOTW(reg.K1, reg.K2)
	VMOVUPS_Z(keys, reg.K1, reg.Y0)
	VADDPS(reg.Y18, reg.Y0, reg.Y0) // -0 becomes 0
	VCMPPS(operand.Imm(3), reg.Y0, reg.Y0, reg.K3)
	VPSRAD(operand.Imm(31), reg.Y0, reg.Y1)
	VPORD(reg.Y16, reg.Y1, reg.Y1)
	VPXORD(reg.Y1, reg.Y0, reg.Y0)
	VMOVDQA32(reg.Y17, reg.K3, reg.Y0) // NaN
	VPMOVZXDQ(reg.Y0, reg.Z0)
	VPSLLQ(operand.Imm(32), reg.Z0, reg.Z0)
	VMOVDQU32_Z(rows, reg.K1, reg.Y1)
	VPMOVZXDQ(reg.Y1, reg.Z1)
	VPADDQ(reg.Z1, reg.Z1, reg.Z1)
	VPORQ(reg.Z1, reg.Z0, reg.Z0)
	VMOVDQA64(reg.Z17, reg.K2, reg.Z0)
	VMOVDQA64(reg.Z0, reg.Z1)
}

// next keeps the entries in Z0 and those that are not taken yet in Z1.
func (avx512) next(entry, lt, le reg.GPVirtual) {
	VPBROADCASTQ(reg.X1, reg.Z2)
	VMOVQ(reg.X1, entry)
	VALIGNQ(operand.Imm(1), reg.Z1, reg.Z1, reg.Z1)
	VPCMPUQ(operand.Imm(1), reg.Z2, reg.Z0, reg.K1)
	VPCMPUQ(operand.Imm(2), reg.Z2, reg.Z0, reg.K2)
	KMOVW(reg.K1, lt.As32())
	KMOVW(reg.K2, le.As32())
}

func (avx512) put(place reg.GPVirtual) {
	bit := GP32()
	MOVL(operand.U32(1), bit)
	SHLXL(place.As32(), bit, bit)
	KMOVW(bit, reg.K1)
	VMOVDQA64(reg.Z2, reg.K1, reg.Z3)
}

func (avx512) upTo(src, le reg.GPVirtual) {
	high := GP32()
	VPCMPUQ(operand.Imm(5), at(src, 0), reg.Z2, reg.K1)
	VPCMPUQ(operand.Imm(5), at(src, 64), reg.Z2, reg.K2)
	KMOVW(reg.K1, le.As32())
	KMOVW(reg.K2, high)
	SHLL(operand.Imm(8), high)
	ORL(high, le.As32())
}

func (avx512) spread(set, skip reg.GPVirtual, pool, dst operand.Mem) {
	KMOVW(set.As32(), reg.K1)
	KNOTW(reg.K1, reg.K2)
	VPBROADCASTQ(skip, reg.Z4)
	VPADDQ(reg.Z19, reg.Z4, reg.Z4)
	VPERMQ(reg.Z3, reg.Z4, reg.Z4)
	VMOVDQU64(pool, reg.Z5)
	VPEXPANDQ_Z(reg.Z4, reg.K1, reg.Z4)
	VPEXPANDQ(reg.Z5, reg.K2, reg.Z4)
	VMOVDQU64(reg.Z4, dst)
}
