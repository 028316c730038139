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
	unroll = 4 // independent accumulators: enough to hide the latency of one FMA
	ahead  = 3 // rows between the one being read and the one being prefetched
)

// A width is what differs between registers of 256 and of 512 bits.
type width interface {
	name() string
	floats() int // numbers in a register
	register() reg.VecVirtual
	// tail prepares for loads of the last rest numbers of a row, 0 or more,
	// fewer than a register holds.
	tail(rest reg.GPVirtual)
	// load loads them: it does not touch memory behind the last.
	load(src operand.Mem, dst reg.VecVirtual)
	// cut clears what a tail does not have.
	cut(v reg.VecVirtual)
	// fold adds the lanes of acc up to 128 bits of them.
	fold(acc reg.VecVirtual) (low reg.Register)
}

// A source is how the numbers of a row lie in memory.
type source struct {
	name  string
	param string // of the matrix, and the parameters that come with it
	log   uint64 // of the bytes that a number takes
}

var (
	ofFloats = source{"Rows", "data []float32", 2}
	// Whole registers of bytes are read: rows are padded.
	ofBytes = source{"ByteRows", "data []uint8, base float32", 0}
)

// floats writes the kernels over float32 vectors, and over their copies in bytes.
func floats() {
	widths := []width{&fma512{}, &fma256{window: tailMask()}}
	for _, m := range metrics {
		for _, w := range widths {
			pair(m, w)
			gather(m, w, ofFloats)
			gather(m, w, ofBytes)
			sequence(m, w)
		}
	}
}

// fma256 is AVX2 with FMA.
type fma256 struct {
	window operand.Mem
	mask   reg.VecVirtual
}

func (*fma256) name() string             { return "AVX2" }
func (*fma256) floats() int              { return 8 }
func (*fma256) register() reg.VecVirtual { return YMM() }

func (n *fma256) tail(rest reg.GPVirtual) {
	table := GP64()
	n.mask = YMM()
	NEGQ(rest)
	LEAQ(n.window, table)
	VMOVUPS(operand.Mem{Base: table, Index: rest, Scale: 4, Disp: 4 * n.floats()}, n.mask)
}

func (n *fma256) cut(v reg.VecVirtual) { VANDPS(n.mask, v, v) }

func (n *fma256) load(src operand.Mem, dst reg.VecVirtual) { VMASKMOVPS(src, n.mask, dst) }

func (*fma256) fold(acc reg.VecVirtual) reg.Register {
	high := XMM()
	VEXTRACTF128(operand.Imm(1), acc, high)
	VADDPS(high, acc.AsX(), acc.AsX())
	return acc.AsX()
}

// fma512 is AVX-512.
type fma512 struct {
	fma256
	mask reg.OpmaskVirtual
}

func (*fma512) name() string             { return "AVX512" }
func (*fma512) floats() int              { return 16 }
func (*fma512) register() reg.VecVirtual { return ZMM() }

func (w *fma512) tail(rest reg.GPVirtual) {
	bits := GP32()
	w.mask = K()
	MOVL(operand.U32(1<<16-1), bits)
	BZHIL(rest.As32(), bits, bits)
	KMOVW(bits, w.mask)
}

func (w *fma512) cut(v reg.VecVirtual) { VMOVAPS_Z(v, w.mask, v) }

func (w *fma512) load(src operand.Mem, dst reg.VecVirtual) { VMOVUPS_Z(src, w.mask, dst) }

func (w *fma512) fold(acc reg.VecVirtual) reg.Register {
	high := YMM()
	VEXTRACTF64X4(operand.Imm(1), acc, high)
	VADDPS(high, acc.AsY(), acc.AsY())
	return w.fma256.fold(acc.AsY().(reg.VecVirtual))
}

// tailMask is a window of eight ones and eight zeros: read r words before its
// middle it selects the first r lanes.
func tailMask() operand.Mem {
	const lanes = 8
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

func pair(m metric, w width) {
	TEXT(m.name+w.name(), 4, "func(a, b []float32) float32")
	Doc(m.name + w.name() + " is the kernel for one pair of vectors.")
	Pragma("noescape")
	v := newVector(m, w, "pair")
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

func gather(m metric, w width, from source) {
	TEXT(m.name+from.name+w.name(), 4, "func(q []float32, "+from.param+", stride int, rows []uint32, out []float32)")
	Doc(m.name + from.name + w.name() + " is the kernel for one query and rows by number.")
	Pragma("noescape")
	v := newVector(m, w, "row")
	v.from = from
	q, data, stride, rows, out := GP64(), GP64(), GP64(), GP64(), GP64()
	last, i := GP64(), GP64()
	Load(Param("q").Base(), q)
	Load(Param("data").Base(), data)
	Load(Param("q").Len(), v.n)
	Load(Param("stride"), stride)
	if from.log > 0 {
		SHLQ(operand.Imm(from.log), stride)
	} else {
		base, _ := Param("base").Resolve()
		v.base = v.register()
		VBROADCASTSS(base.Addr, v.base)
	}
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

func sequence(m metric, w width) {
	TEXT(m.name+"Range"+w.name(), 4, "func(q, data []float32, stride int, out []float32)")
	Doc(m.name + "Range" + w.name() + " is the kernel for one query and len(out) consecutive rows.")
	Pragma("noescape")
	v := newVector(m, w, "row")
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
	metric
	width
	label  string
	from   source
	base   reg.VecVirtual // what is added to every byte
	n      reg.GPVirtual  // numbers in a row
	blocks reg.GPVirtual  // numbers in whole blocks of unroll registers
	whole  reg.GPVirtual  // numbers in whole registers
}

func newVector(m metric, w width, label string) *vector {
	return &vector{metric: m, width: w, label: label, from: ofFloats, n: GP64(), blocks: GP64(), whole: GP64()}
}

// limits works out what is the same for every row.
func (v *vector) limits() {
	MOVQ(v.n, v.blocks)
	ANDQ(operand.I8(int8(-v.floats()*unroll)), v.blocks)
	MOVQ(v.n, v.whole)
	ANDQ(operand.I8(int8(-v.floats())), v.whole)
	rest := GP64()
	MOVQ(v.n, rest)
	SUBQ(v.whole, rest)
	v.tail(rest)
}

// sum reduces q and row to one number in the low lane of the result. The row
// at next, when there is one, is prefetched block by block.
func (v *vector) sum(q, row reg.GPVirtual, next reg.Register) reg.Register {
	var acc [unroll]reg.VecVirtual
	for j := range acc {
		acc[j] = v.register()
		clearVector(acc[j])
	}
	size := 1 << v.from.log
	at := func(base reg.Register, i reg.Register, disp int) operand.Mem {
		return operand.Mem{Base: base, Index: i, Scale: 4, Disp: 4 * disp}
	}
	// of is a part of the row, as it is used.
	of := func(base reg.Register, i reg.Register, disp int) operand.Mem {
		return operand.Mem{Base: base, Index: i, Scale: uint8(size), Disp: size * disp}
	}
	part := func(src operand.Mem) operand.Op {
		if size == 4 {
			return src
		}
		return v.widen(src)
	}
	i := GP64()
	XORQ(i, i)
	CMPQ(i, v.blocks)
	JGE(operand.LabelRef(v.label + "_blocks_done"))
	Label(v.label + "_blocks")
	if next != nil {
		for line := 0; line < v.floats()*unroll; line += 64 / size {
			PREFETCHT0(of(next, i, line))
		}
	}
	for j := range acc {
		x := v.register()
		VMOVUPS(at(q, i, v.floats()*j), x)
		v.step(part(of(row, i, v.floats()*j)), x, acc[j])
	}
	ADDQ(operand.Imm(uint64(v.floats()*unroll)), i)
	CMPQ(i, v.blocks)
	JLT(operand.LabelRef(v.label + "_blocks"))
	Label(v.label + "_blocks_done")

	CMPQ(i, v.whole)
	JGE(operand.LabelRef(v.label + "_lanes_done"))
	Label(v.label + "_lanes")
	x := v.register()
	VMOVUPS(at(q, i, 0), x)
	v.step(part(of(row, i, 0)), x, acc[0])
	ADDQ(operand.Imm(uint64(v.floats())), i)
	CMPQ(i, v.whole)
	JLT(operand.LabelRef(v.label + "_lanes"))
	Label(v.label + "_lanes_done")

	CMPQ(i, v.n)
	JGE(operand.LabelRef(v.label + "_tail_done"))
	qt, rt := v.register(), v.register()
	v.load(at(q, i, 0), qt)
	if size == 4 {
		v.load(of(row, i, 0), rt)
	} else {
		rt = v.widen(of(row, i, 0))
		v.cut(rt)
	}
	v.step(rt, qt, acc[1])
	Label(v.label + "_tail_done")

	VADDPS(acc[1], acc[0], acc[0])
	VADDPS(acc[3], acc[2], acc[2])
	VADDPS(acc[2], acc[0], acc[0])
	low, high := v.fold(acc[0]), XMM()
	VMOVHLPS(low, low, high)
	VADDPS(high, low, low)
	VMOVSHDUP(low, high)
	VADDSS(high, low, low)
	return low
}

// widen makes numbers of the bytes at src.
func (v *vector) widen(src operand.Mem) reg.VecVirtual {
	x := v.register()
	VPMOVZXBD(src, x)
	VCVTDQ2PS(x, x)
	VADDPS(v.base, x, x)
	return x
}

func clearVector(v reg.VecVirtual) {
	if v.Size() == 64 {
		VPXORD(v, v, v)
		return
	}
	VXORPS(v, v, v)
}
