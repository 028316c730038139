package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The kernels behind Hop.Bound count, for every lane, the lanes that are less: the n-th
// smallest is the greatest of those with fewer than n. All lanes meet all others as one
// register turns beside another.

func bounds() {
	m := GLOBL("nextLane", 8|16) // RODATA|NOPTR
	for lane := range uint32(8) {
		DATA(int(4*lane), operand.U32((lane+1)%8))
	}
	for _, i := range codecISAs {
		i.begin("bound", "func(least []float32, n int32) float32", "is bound of the form.")
		least := GP64()
		Load(Param("least").Base(), least)
		if n := i.spread("n"); i.lanes == 16 {
			i.bound16(least, n)
		} else {
			i.bound8(least, n, m)
		}
		end()
	}
}

func (i codecISA) bound16(least reg.GPVirtual, n reg.VecVirtual) {
	x, turned, rank, one, less := i.vec(), i.vec(), i.zero(), i.constant(1), K()
	VMOVUPS(operand.Mem{Base: least}, x)
	for turn := 1; turn < 16; turn++ {
		VALIGND(operand.U8(turn), x, x, turned)
		VCMPPS(operand.U8(lessThan), x, turned, less)
		VPADDD(one, rank, less, rank)
	}
	greatest := i.number(float32(math.Inf(-1)))
	VPCMPD(operand.U8(1), n, rank, less)
	VMOVAPS(x, less, greatest)
	result(i.reduce(greatest, VMAXPS), 0)
}

func (i codecISA) bound8(least reg.GPVirtual, n reg.VecVirtual, next operand.Mem) {
	var x, turned, rank [2]reg.VecVirtual
	lanes, less := i.vec(), i.vec()
	VMOVDQU(next, lanes)
	for h := range x {
		x[h], turned[h], rank[h] = i.vec(), i.vec(), i.zero()
		VMOVUPS(operand.Mem{Base: least, Disp: half * h}, x[h])
		VMOVAPS(x[h], turned[h])
	}
	for turn := range 8 {
		for h := range x {
			for g := range x {
				if g == h && turn == 0 {
					continue
				}
				VCMPPS(operand.U8(lessThan), x[h], turned[g], less)
				VPSUBD(less, rank[h], rank[h])
			}
		}
		for g := range turned {
			VPERMPS(turned[g], lanes, turned[g])
		}
	}
	infinity := i.number(float32(math.Inf(-1)))
	for h := range x {
		VPCMPGTD(rank[h], n, less)
		VBLENDVPS(less, x[h], infinity, x[h])
	}
	VMAXPS(x[0], x[1], x[0])
	result(i.reduce(x[0], VMAXPS), 0)
}
