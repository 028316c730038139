package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// levels is the kernel that cuts numbers into levels of one width. It goes
// over blocks of code, in each over planes, and in each of those over columns
// of 16 bytes, which join what earlier planes wrote. In blocks that y does not
// fill the numbers behind its end are masked: they are read as nothing and
// get level 0.
type levels struct {
	codecISA
	bits   int
	window operand.Mem // ones, then zeros

	y, code      reg.GPVirtual // they move from block to block
	left         reg.GPVirtual // numbers of y from there on
	inverse      reg.VecVirtual
	least, most  reg.VecVirtual // of floored numbers
	half, one    reg.VecVirtual
	products     []reg.VecVirtual // 16 lanes in all
	sum, squares reg.VecVirtual
}

func (l *levels) write() {
	l.begin(fmt.Sprintf("levels%d", l.bits), "func(y []float32, inverseStep float32, code []byte) (vy float32, sum, squares uint32)",
		"writes levels and returns <v,y>, the sum of the levels and that of their squares.")
	stop := GP64()
	l.y, l.code, l.left = base("y"), base("code"), GP64()
	Load(Param("y").Len(), l.left)
	Load(Param("code").Len(), stop)
	ADDQ(l.code, stop)
	l.constants()

	numbers := 512 / l.bits
	Label("block")
	CMPQ(l.left, operand.I32(int32(numbers)))
	JLT(operand.LabelRef("part"))
	l.block(false)
	JMP(operand.LabelRef("advance"))
	Label("part")
	l.block(true)
	Label("advance")
	SUBQ(operand.I32(int32(numbers)), l.left)
	ADDQ(operand.I32(int32(4*numbers)), l.y)
	ADDQ(operand.U8(64), l.code)
	CMPQ(l.code, stop)
	JLT(operand.LabelRef("block"))

	vy := l.products[0]
	if len(l.products) == 2 {
		VADDPS(l.products[1], vy, vy)
	}
	result(l.reduce(vy, VADDPS), 0)
	result(l.reduce(l.sum, VPADDD), 1)
	result(l.reduce(l.squares, VPADDD), 2)
	end()
}

func (l *levels) constants() {
	half := float32(int(1) << (l.bits - 1))
	l.inverse = l.spread("inverseStep")
	l.least, l.most = l.number(-half), l.number(half-1)
	l.half, l.one = l.number(half), l.number(1)
	for range 16 / l.lanes {
		l.products = append(l.products, l.zero())
	}
	l.sum, l.squares = l.zero(), l.zero()
}

func (l *levels) block(masked bool) {
	for plane := range 8 / l.bits {
		for column := 0; column < 64; column += 16 {
			var words []reg.VecVirtual
			for s := range l.products {
				u := l.register(64*plane+column+8*s, s, masked)
				if plane > 0 {
					VPSLLD(operand.U8(uint8(plane*l.bits)), u, u)
				}
				words = append(words, u)
			}
			x, to := l.pack(words), at(l.code, column)
			if plane > 0 {
				VPOR(to, x, x)
			}
			VMOVDQU(x, to)
		}
	}
}

// register cuts the numbers from first on, as many as fit a register, and
// returns their levels.
func (l *levels) register(first, product int, masked bool) reg.VecVirtual {
	y, t, u := l.vec(), l.vec(), l.vec()
	from := at(l.y, 4*first)
	var clear func()
	switch {
	case !masked:
		VMOVUPS(from, y)
	case l.lanes == 16:
		k, ones, n := K(), GP32(), l.inRegister(first)
		MOVL(operand.U32(0xffff), ones)
		BZHIL(n.As32(), ones, ones)
		KMOVW(ones, k)
		VMOVUPS_Z(from, k, y)
		clear = func() { VMOVDQU32_Z(u, k, u) }
	default:
		mask, table, n := l.vec(), GP64(), l.inRegister(first)
		LEAQ(l.window, table)
		NEGQ(n)
		VMOVUPS(indexed(table, n, 4, 4*l.lanes), mask)
		VMASKMOVPS(from, mask, y)
		clear = func() { VPAND(mask, u, u) }
	}
	VMULPS(l.inverse, y, t)
	l.floor(t, t)
	VMAXPS(l.least, t, t)
	VMINPS(l.most, t, t)
	VADDPS(l.half, t, u)
	VCVTPS2DQ(u, u)
	if masked {
		clear()
	}
	VADDPS(t, t, t)
	VADDPS(l.one, t, t)
	VMULPS(y, t, t)
	VADDPS(t, l.products[product], l.products[product])
	VPADDD(u, l.sum, l.sum)
	VPMADDWD(u, u, t)
	VPADDD(t, l.squares, l.squares)
	return u
}

// inRegister returns how many of the numbers from first on there are, at most
// as many as fit a register.
func (l *levels) inRegister(first int) reg.GPVirtual {
	n, limit := GP64(), GP64()
	XORL(limit.As32(), limit.As32())
	MOVQ(l.left, n)
	SUBQ(operand.I32(int32(first)), n)
	CMOVQLT(limit, n)
	MOVL(operand.U32(uint32(l.lanes)), limit.As32())
	CMPQ(n, limit)
	CMOVQGT(limit, n)
	return n
}

// pack returns the low bytes of 16 words.
func (l *levels) pack(words []reg.VecVirtual) reg.Register {
	x := words[0].AsX()
	if l.lanes == 16 {
		VPMOVDB(words[0], x)
		return x
	}
	both, high := YMM(), XMM()
	VPACKUSDW(words[1], words[0], both)
	VPERMQ(operand.U8(0xd8), both, both)
	VEXTRACTI128(operand.U8(1), both, high)
	VPACKUSWB(high, both.AsX(), x)
	return x
}
