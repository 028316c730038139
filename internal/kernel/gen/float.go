package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// A metric adds one block of eight products or squared differences to acc.
// x holds eight numbers of the query and may be overwritten; row is a memory
// operand or a register.
type metric struct {
	name string
	step func(row operand.Op, x, acc reg.VecVirtual)
}

var metrics = []metric{
	{"dot", func(row operand.Op, x, acc reg.VecVirtual) {
		VFMADD231PS(row, x, acc)
	}},
	{"l2", func(row operand.Op, x, acc reg.VecVirtual) {
		VSUBPS(row, x, x)
		VFMADD231PS(x, x, acc)
	}},
}

const (
	lanes  = 8 // float32 numbers in one register
	unroll = 4 // independent accumulators: enough to hide the latency of one FMA
	block  = lanes * unroll
	ahead  = 3 // rows between the one being read and the one being prefetched
)

// floats writes the kernels over float32 vectors.
func floats() {
	mask := tailMask()
	for _, m := range metrics {
		pair(m, mask)
		gather(m, mask)
		sequence(m, mask)
	}
}

// tailMask is a window of eight ones and eight zeros: read r words before its
// middle it selects the first r lanes.
func tailMask() operand.Mem {
	m := GLOBL("tailMask", 8|16) // RODATA|NOPTR
	for i := range 2 * lanes {
		v := uint32(0)
		if i < lanes {
			v = 0xffffffff
		}
		DATA(4*i, operand.U32(v))
	}
	return m
}

func pair(m metric, mask operand.Mem) {
	TEXT(m.name+"AVX2", 4, "func(a, b []float32) float32")
	Doc(m.name + "AVX2 is the kernel for one pair of vectors.")
	Pragma("noescape")
	v := newVector(m, mask, "pair")
	a, b := GP64(), GP64()
	Load(Param("a").Base(), a)
	Load(Param("b").Base(), b)
	Load(Param("a").Len(), v.n)
	v.limits()
	sum := v.sum(a, b, nil)
	Store(sum, ReturnIndex(0))
	VZEROUPPER()
	RET()
}

func gather(m metric, mask operand.Mem) {
	TEXT(m.name+"RowsAVX2", 4, "func(q, data []float32, stride int, rows []uint32, out []float32)")
	Doc(m.name + "RowsAVX2 is the kernel for one query and rows by number.")
	Pragma("noescape")
	v := newVector(m, mask, "row")
	q, data, stride, rows, out := GP64(), GP64(), GP64(), GP64(), GP64()
	last, i := GP64(), GP64()
	Load(Param("q").Base(), q)
	Load(Param("data").Base(), data)
	Load(Param("q").Len(), v.n)
	Load(Param("stride"), stride)
	SHLQ(operand.Imm(2), stride)
	Load(Param("rows").Base(), rows)
	Load(Param("rows").Len(), last)
	Load(Param("out").Base(), out)
	v.limits()
	DECQ(last)
	XORQ(i, i)

	Label("next_row")
	// The row to prefetch stops at the last one: nothing outside is named.
	next := GP64()
	LEAQ(operand.Mem{Base: i, Disp: ahead}, next)
	CMPQ(next, last)
	CMOVQGT(last, next)
	MOVL(operand.Mem{Base: rows, Index: next, Scale: 4}, next.As32())
	IMULQ(stride, next)
	ADDQ(data, next)
	row := GP64()
	MOVL(operand.Mem{Base: rows, Index: i, Scale: 4}, row.As32())
	IMULQ(stride, row)
	ADDQ(data, row)
	VMOVSS(v.sum(q, row, next), operand.Mem{Base: out, Index: i, Scale: 4})
	INCQ(i)
	CMPQ(i, last)
	JLE(operand.LabelRef("next_row"))
	VZEROUPPER()
	RET()
}

func sequence(m metric, mask operand.Mem) {
	TEXT(m.name+"RangeAVX2", 4, "func(q, data []float32, stride int, out []float32)")
	Doc(m.name + "RangeAVX2 is the kernel for one query and len(out) consecutive rows.")
	Pragma("noescape")
	v := newVector(m, mask, "row")
	q, row, stride, count, out := GP64(), GP64(), GP64(), GP64(), GP64()
	Load(Param("q").Base(), q)
	Load(Param("data").Base(), row)
	Load(Param("q").Len(), v.n)
	Load(Param("stride"), stride)
	SHLQ(operand.Imm(2), stride)
	Load(Param("out").Len(), count)
	Load(Param("out").Base(), out)
	v.limits()

	Label("next_row")
	VMOVSS(v.sum(q, row, nil), operand.Mem{Base: out})
	ADDQ(stride, row)
	ADDQ(operand.Imm(4), out)
	DECQ(count)
	JNZ(operand.LabelRef("next_row"))
	VZEROUPPER()
	RET()
}

// vector is the loop over the numbers of one row, the same in all kernels, so
// that a pair, a gather and a sequence round alike.
type vector struct {
	metric metric
	label  string
	n      reg.GPVirtual // numbers in a row
	n32    reg.GPVirtual // numbers in whole blocks
	n8     reg.GPVirtual // numbers in whole registers
	mask   reg.VecVirtual
	window operand.Mem
}

func newVector(m metric, window operand.Mem, label string) *vector {
	return &vector{metric: m, label: label, n: GP64(), n32: GP64(), n8: GP64(), mask: YMM(), window: window}
}

// limits works out what is the same for every row.
func (v *vector) limits() {
	MOVQ(v.n, v.n32)
	ANDQ(operand.I8(-block), v.n32)
	MOVQ(v.n, v.n8)
	ANDQ(operand.I8(-lanes), v.n8)
	rest, table := GP64(), GP64()
	MOVQ(v.n8, rest)
	SUBQ(v.n, rest) // minus the numbers in the tail
	LEAQ(v.window, table)
	VMOVUPS(operand.Mem{Base: table, Index: rest, Scale: 4, Disp: 4 * lanes}, v.mask)
}

// sum reduces q and row to one number in the low lane of the result. The row
// at next, when there is one, is prefetched block by block.
func (v *vector) sum(q, row reg.GPVirtual, next reg.Register) reg.VecVirtual {
	var acc [unroll]reg.VecVirtual
	for j := range acc {
		acc[j] = YMM()
		VXORPS(acc[j], acc[j], acc[j])
	}
	at := func(base reg.Register, i reg.Register, disp int) operand.Mem {
		return operand.Mem{Base: base, Index: i, Scale: 4, Disp: disp}
	}
	i := GP64()
	XORQ(i, i)
	CMPQ(i, v.n32)
	JGE(operand.LabelRef(v.label + "_blocks_done"))
	Label(v.label + "_blocks")
	if next != nil {
		PREFETCHT0(at(next, i, 0))
		PREFETCHT0(at(next, i, 64))
	}
	for j := range acc {
		x := YMM()
		VMOVUPS(at(q, i, 4*lanes*j), x)
		v.metric.step(at(row, i, 4*lanes*j), x, acc[j])
	}
	ADDQ(operand.Imm(block), i)
	CMPQ(i, v.n32)
	JLT(operand.LabelRef(v.label + "_blocks"))
	Label(v.label + "_blocks_done")

	CMPQ(i, v.n8)
	JGE(operand.LabelRef(v.label + "_lanes_done"))
	Label(v.label + "_lanes")
	x := YMM()
	VMOVUPS(at(q, i, 0), x)
	v.metric.step(at(row, i, 0), x, acc[0])
	ADDQ(operand.Imm(lanes), i)
	CMPQ(i, v.n8)
	JLT(operand.LabelRef(v.label + "_lanes"))
	Label(v.label + "_lanes_done")

	// A masked load does not touch memory behind the last number.
	CMPQ(i, v.n)
	JGE(operand.LabelRef(v.label + "_tail_done"))
	qt, rt := YMM(), YMM()
	VMASKMOVPS(at(q, i, 0), v.mask, qt)
	VMASKMOVPS(at(row, i, 0), v.mask, rt)
	v.metric.step(rt, qt, acc[1])
	Label(v.label + "_tail_done")

	VADDPS(acc[1], acc[0], acc[0])
	VADDPS(acc[3], acc[2], acc[2])
	VADDPS(acc[2], acc[0], acc[0])
	low, high := acc[0].AsX(), XMM()
	VEXTRACTF128(operand.Imm(1), acc[0], high)
	VADDPS(high, low, low)
	VMOVHLPS(low, low, high)
	VADDPS(high, low, low)
	VMOVSHDUP(low, high)
	VADDSS(high, low, low)
	return low.(reg.VecVirtual)
}
