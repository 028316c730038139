package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// packRows is how many rows a pack holds side by side; build.go of the kernels.
const packRows = 32

// builds writes the kernels of the form buildForm.
func builds() {
	window := windowTable()
	for _, i := range codecISAs {
		i.codes8(window)
		i.keys8(window)
		if i.lanes == 16 {
			i.dot8x8()
		} else {
			i.dot8x4()
		}
		i.dot8Rows()
		if i.lanes == 16 {
			i.least8()
		}
		i.keys16()
		i.widen()
	}
	sifts(window)
	signed8(codecISAs[0])
	signed8(codecISAs[1])
	pack8()
}

func (i codecISA) codes8(window operand.Mem) {
	i.begin("codes8", "func(y []float32, inverse float32, out []byte)", "is codes8 of the form.")
	y, out, inverse := base("y"), base("out"), i.spread("inverse")
	least, most, middle := i.number(-127), i.number(127), i.constant(0x80808080)
	i.each("y", window, func(p part) {
		v := p.load(y)
		VMULPS(inverse, v, v)
		VMAXPS(least, v, v)
		VMINPS(most, v, v)
		VCVTPS2DQ(v, v)
		x := p.bytes(v)
		i.xorX(middle.AsX(), x, x) // 128 more is another highest bit
		p.storeBytes(x, out)
	})
	end()
}

// signed8 changes the highest bit of every byte.
func signed8(i codecISA) {
	i.begin("flipBytes", "func(out []int8, code []byte)", "is signed8 for whole registers.")
	out, code, middle := base("out"), base("code"), i.constant(0x80808080)
	n, index := GP64(), GP64()
	Load(Param("code").Len(), n)
	XORQ(index, index)
	Label("next")
	v := i.vec()
	i.xor(indexed(code, index, 1, 0), middle, v)
	VMOVUPS(v, indexed(out, index, 1, 0))
	ADDQ(operand.U8(uint8(4*i.lanes)), index)
	CMPQ(index, n)
	JLT(operand.LabelRef("next"))
	end()
}

func (i codecISA) keys8(window operand.Mem) {
	i.begin("keys8", "func(dot, norm []int32)", "is keys8 of the form.")
	dot, norm := base("dot"), base("norm")
	i.each("dot", window, func(p part) {
		v := p.load(dot)
		VPADDD(v, v, v)
		keys := p.load(norm)
		VPSUBD(v, keys, keys)
		p.store(keys, dot)
	})
	end()
}

// dot8x4 compares four queries with a pack of 32 rows at a time, 4 bytes of
// each in every step. With 16 registers there is no room for more.
func (i codecISA) dot8x4() {
	i.begin("dot8x4", "func(queries []int8, stride int, packed []byte, out []int32, width int)", "is half of dot8x8 of the form: it takes four queries.")
	stride, packed, stop, out, width := GP64(), base("packed"), GP64(), base("out"), GP64()
	Load(Param("stride"), stride)
	Load(Param("packed").Len(), stop)
	Load(Param("width"), width)
	ADDQ(packed, stop)
	SHLQ(operand.U8(2), width)
	q := queriesOf(4, stride)
	Label("pack")
	i.packWide([4]reg.GPVirtual(q), stride, packed, out, width)
	ADDQ(operand.I32(4*packRows), out)
	CMPQ(packed, stop)
	JLT(operand.LabelRef("pack"))
	end()
}

// dot8x8 compares eight queries with a pack: of four, the packs would not come from
// the second cache as fast as they are used.
func (i codecISA) dot8x8() {
	i.begin("dot8x8", "func(queries []int8, stride int, packed []byte, out []int32, width int)", "is dot8x8 of the form.")
	stride, packed, out, left := GP64(), base("packed"), base("out"), GP64()
	Load(Param("stride"), stride)
	Load(Param("packed").Len(), left)
	q := queriesOf(8, stride)
	Label("pack")
	before := GP64()
	MOVQ(packed, before)
	i.packVNNI(q, stride, packed, out)
	ADDQ(operand.I32(4*packRows), out)
	SUBQ(packed, before)
	ADDQ(before, left)
	JG(operand.LabelRef("pack"))
	end()
}

// queriesOf is where each of so many queries begins.
func queriesOf(n int, stride reg.GPVirtual) []reg.GPVirtual {
	q := make([]reg.GPVirtual, n)
	for k := range q {
		q[k] = GP64()
		if k == 0 {
			Load(Param("queries").Base(), q[k])
		} else {
			LEAQ(indexed(q[k-1], stride, 1, 0), q[k])
		}
	}
	return q
}

// packVNNI sums in two registers for each query.
func (i codecISA) packVNNI(q []reg.GPVirtual, stride, packed, out reg.GPVirtual) {
	sums := make([][2]reg.VecVirtual, len(q))
	for k := range sums {
		sums[k] = [2]reg.VecVirtual{i.zero(), i.zero()}
	}
	index := GP64()
	XORQ(index, index)
	Label("bytes")
	rows := [2]reg.VecVirtual{ZMM(), ZMM()}
	for h := range rows {
		VMOVDQU64(at(packed, 64*h), rows[h])
	}
	for k := range q {
		query := ZMM()
		VPBROADCASTD(indexed(q[k], index, 1, 0), query)
		for h := range rows {
			VPDPBUSD(query, rows[h], sums[k][h])
		}
	}
	ADDQ(operand.I32(4*packRows), packed)
	ADDQ(operand.U8(4), index)
	CMPQ(index, stride)
	JLT(operand.LabelRef("bytes"))
	to, width := GP64(), GP64()
	MOVQ(out, to)
	Load(Param("width"), width)
	for k := range q {
		if k > 0 {
			LEAQ(indexed(to, width, 4, 0), to)
		}
		for h := range rows {
			VMOVDQU32(sums[k][h], at(to, 64*h))
		}
	}
}

// A wide is 32 bytes as two registers of 16-bit words, the bytes at even
// places and those at odd ones: multiplied word by word, neighbours added,
// they keep sums of bytes of every value, which the instruction for bytes
// would clip.
type wide struct{ even, odd reg.VecVirtual }

// unsigned splits the bytes at a place in memory.
func unsigned(from operand.Mem, low reg.VecVirtual) wide {
	w := wide{YMM(), YMM()}
	VMOVDQU(from, w.odd)
	VPAND(low, w.odd, w.even)
	VPSRLW(operand.U8(8), w.odd, w.odd)
	return w
}

// signed splits the signed bytes in a register, which it overwrites.
func signed(v reg.VecVirtual) wide {
	w := wide{YMM(), v}
	VPSLLW(operand.U8(8), v, w.even)
	VPSRAW(operand.U8(8), w.even, w.even)
	VPSRAW(operand.U8(8), v, w.odd)
	return w
}

// addProducts adds the products of two wides to sums of 32 bits.
func addProducts(a, b wide, sum reg.VecVirtual) {
	even, odd := YMM(), YMM()
	VPMADDWD(a.even, b.even, even)
	VPMADDWD(a.odd, b.odd, odd)
	VPADDD(even, sum, sum)
	VPADDD(odd, sum, sum)
}

// packWide takes the queries two by two, for which the registers suffice, and
// reads the pack twice.
func (i codecISA) packWide(q [4]reg.GPVirtual, stride, packed, out, width reg.GPVirtual) {
	low := i.constant(0x00ff00ff)
	for pair := range 2 {
		label := "bytes" + string(rune('0'+pair))
		var sums [2][4]reg.VecVirtual
		for k := range sums {
			for h := range sums[k] {
				sums[k][h] = i.zero()
			}
		}
		index, from := GP64(), GP64()
		XORQ(index, index)
		MOVQ(packed, from)
		Label(label)
		var queries [2]wide
		for k := range queries {
			v := YMM()
			VPBROADCASTD(indexed(q[2*pair+k], index, 1, 0), v)
			queries[k] = signed(v)
		}
		for h := range sums[0] {
			rows := unsigned(at(from, 32*h), low)
			for k := range queries {
				addProducts(rows, queries[k], sums[k][h])
			}
		}
		ADDQ(operand.I32(4*packRows), from)
		ADDQ(operand.U8(4), index)
		CMPQ(index, stride)
		JLT(operand.LabelRef(label))
		to := GP64()
		MOVQ(out, to)
		if pair == 1 {
			LEAQ(indexed(out, width, 2, 0), to)
		}
		for k := range sums {
			for h, sum := range sums[k] {
				VMOVDQU(sum, at(to, 32*h))
			}
			ADDQ(width, to)
		}
		if pair == 1 {
			MOVQ(from, packed)
		}
	}
}

// dot8Rows takes rows by fours, the last four once more when the rest is less.
func (i codecISA) dot8Rows() {
	i.begin("dot8Fours", "func(query []int8, codes []byte, stride int, rows []uint32, out []int32)", "is dot8Rows for four rows and more.")
	query, codes, rows, out := base("query"), base("codes"), base("rows"), base("out")
	size, stride, last, first := GP64(), GP64(), GP64(), GP64()
	Load(Param("query").Len(), size)
	Load(Param("stride"), stride)
	Load(Param("rows").Len(), last)
	SUBQ(operand.U8(4), last)
	XORQ(first, first)
	low := reg.VecVirtual(nil)
	if i.lanes == 8 {
		low = i.constant(0x00ff00ff)
	}
	Label("four")
	prefetchRows(codes, rows, stride, size, first, last)
	var row [4]reg.GPVirtual
	var sums [4]reg.VecVirtual
	for k := range row {
		row[k], sums[k] = rowAt(codes, rows, stride, first, k), i.zero()
	}
	index := GP64()
	XORQ(index, index)
	Label("bytes")
	v := i.vec()
	VMOVUPS(indexed(query, index, 1, 0), v)
	if i.lanes == 16 {
		for k := range row {
			u := ZMM()
			VMOVDQU64(indexed(row[k], index, 1, 0), u)
			VPDPBUSD(v, u, sums[k])
		}
	} else {
		q := signed(v)
		for k := range row {
			addProducts(unsigned(indexed(row[k], index, 1, 0), low), q, sums[k])
		}
	}
	ADDQ(operand.U8(uint8(4*i.lanes)), index)
	CMPQ(index, size)
	JLT(operand.LabelRef("bytes"))
	VMOVDQU(i.addFour(sums), indexed(out, first, 4, 0))

	CMPQ(first, last)
	JEQ(operand.LabelRef("done"))
	ADDQ(operand.U8(4), first)
	CMPQ(first, last)
	CMOVQGT(last, first)
	JMP(operand.LabelRef("four"))
	Label("done")
	end()
}

// least8 is dot8Rows for two queries. Rows come from the second cache as fast as they are
// multiplied with both.
func (i codecISA) least8() {
	i.begin("least8Fours", "func(queries []int8, bias *[2]int32, codes []byte, stride int, rows []uint32, norm, one, least []int32)", "is least8 for four rows and more.")
	first, codes, rows := base("queries"), base("codes"), base("rows")
	size, stride, last, row0, second := GP64(), GP64(), GP64(), GP64(), GP64()
	Load(Param("queries").Len(), size)
	SHRQ(operand.Imm(1), size)
	LEAQ(indexed(first, size, 1, 0), second)
	bias, biases := GP64(), [2]reg.VecVirtual{XMM(), XMM()}
	Load(Param("bias"), bias)
	for q, v := range biases {
		VPBROADCASTD(at(bias, 4*q), v)
	}
	Load(Param("stride"), stride)
	Load(Param("rows").Len(), last)
	SUBQ(operand.U8(4), last)
	XORQ(row0, row0)
	Label("four")
	prefetchRows(codes, rows, stride, size, row0, last)
	var row [4]reg.GPVirtual
	var sums [2][4]reg.VecVirtual
	for k := range row {
		row[k], sums[0][k], sums[1][k] = rowAt(codes, rows, stride, row0, k), i.zero(), i.zero()
	}
	index := GP64()
	XORQ(index, index)
	Label("bytes")
	a, b := i.vec(), i.vec()
	VMOVUPS(indexed(first, index, 1, 0), a)
	VMOVUPS(indexed(second, index, 1, 0), b)
	for k := range row {
		u := ZMM()
		VMOVDQU64(indexed(row[k], index, 1, 0), u)
		VPDPBUSD(a, u, sums[0][k])
		VPDPBUSD(b, u, sums[1][k])
	}
	ADDQ(operand.U8(uint8(4*i.lanes)), index)
	CMPQ(index, size)
	JLT(operand.LabelRef("bytes"))
	var far [2]reg.VecVirtual
	norms := XMM()
	VMOVDQU(indexed(base("norm"), row0, 4, 0), norms) // few registers are left
	for q := range far {
		dots := i.addFour(sums[q])
		far[q] = XMM()
		VPADDD(norms, biases[q], far[q])
		VPADDD(dots, dots, dots)
		VPSUBD(dots, far[q], far[q])
	}
	VPMINSD(far[0], far[1], far[1])
	VMOVDQU(far[0], indexed(base("one"), row0, 4, 0))
	VMOVDQU(far[1], indexed(base("least"), row0, 4, 0))

	CMPQ(row0, last)
	JEQ(operand.LabelRef("done"))
	ADDQ(operand.U8(4), row0)
	CMPQ(row0, last)
	CMOVQGT(last, row0)
	JMP(operand.LabelRef("four"))
	Label("done")
	end()
}

// rowAt is where row first+k of the list begins.
func rowAt(codes, rows, stride, first reg.GPVirtual, k int) reg.GPVirtual {
	row := GP64()
	MOVL(indexed(rows, first, 4, 4*k), row.As32())
	IMULQ(stride, row)
	ADDQ(codes, row)
	return row
}

// prefetchRows names the first lines of the four rows that come after the
// next four.
func prefetchRows(codes, rows, stride, size, first, last reg.GPVirtual) {
	ahead := GP64()
	LEAQ(at(first, 8), ahead)
	CMPQ(ahead, last)
	JGT(operand.LabelRef("fetched"))
	for k := range 4 {
		row := rowAt(codes, rows, stride, ahead, k)
		PREFETCHT0(at(row, 0))
		PREFETCHT0(at(row, 64))
		CMPQ(size, operand.I32(128))
		JLE(operand.LabelRef("fetched" + string(rune('0'+k))))
		PREFETCHT0(at(row, 128))
		PREFETCHT0(at(row, 192))
		Label("fetched" + string(rune('0'+k)))
	}
	Label("fetched")
}

// addFour adds up four registers into the four lanes of one.
func (i codecISA) addFour(sums [4]reg.VecVirtual) reg.Register {
	for _, v := range sums {
		if i.lanes == 16 {
			high := YMM()
			VEXTRACTI64X4(operand.U8(1), v, high)
			VPADDD(high, v.AsY(), v.AsY())
		}
	}
	a, b, c := YMM(), YMM(), XMM()
	VPHADDD(sums[1].AsY(), sums[0].AsY(), a)
	VPHADDD(sums[3].AsY(), sums[2].AsY(), b)
	VPHADDD(b, a, a)
	VEXTRACTI128(operand.U8(1), a, c)
	VPADDD(c, a.AsX(), a.AsX())
	return a.AsX()
}

// pack8 turns four rows of four words around at a time. The length of dst says
// how much of each row it takes.
func pack8() {
	TEXT("pack8AMD64", 4, "func(dst, codes []byte, stride int, rows *[32]uint32)")
	Doc("pack8AMD64 is pack8 of both forms.")
	Pragma("noescape")
	dst, codes, width, stride, rows, set := base("dst"), base("codes"), GP64(), GP64(), GP64(), GP64()
	Load(Param("dst").Len(), width)
	SHRQ(operand.Imm(5), width) // of packRows rows
	Load(Param("stride"), stride)
	Load(Param("rows"), rows)
	XORQ(set, set)
	Label("rows")
	var row [4]reg.GPVirtual
	for k := range row {
		row[k] = rowAt(codes, rows, stride, set, k)
	}
	to, index := GP64(), GP64()
	LEAQ(indexed(dst, set, 4, 0), to)
	XORQ(index, index)
	Label("bytes")
	var v [4]reg.VecVirtual
	for k := range v {
		v[k] = XMM()
		VMOVDQU(indexed(row[k], index, 1, 0), v[k])
	}
	low01, high01, low23, high23 := XMM(), XMM(), XMM(), XMM()
	VPUNPCKLDQ(v[1], v[0], low01)
	VPUNPCKHDQ(v[1], v[0], high01)
	VPUNPCKLDQ(v[3], v[2], low23)
	VPUNPCKHDQ(v[3], v[2], high23)
	for g, pair := range [][2]reg.VecVirtual{{low01, low23}, {high01, high23}} {
		x := XMM()
		VPUNPCKLQDQ(pair[1], pair[0], x)
		VMOVDQU(x, at(to, 2*g*4*packRows))
		VPUNPCKHQDQ(pair[1], pair[0], x)
		VMOVDQU(x, at(to, (2*g+1)*4*packRows))
	}
	ADDQ(operand.I32(16*packRows), to)
	ADDQ(operand.U8(16), index)
	CMPQ(index, width)
	JLT(operand.LabelRef("bytes"))
	ADDQ(operand.U8(4), set)
	CMPQ(set, operand.U8(packRows))
	JLT(operand.LabelRef("rows"))
	RET()
}
