package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// A codecISA is what differs between the registers of 8 and of 16 numbers.
type codecISA struct {
	name  string
	lanes int
	vec   func() reg.VecVirtual
	xor   func(a, b, out operand.Op)
	and   func(a, b, out operand.Op)
	or    func(a, b, out operand.Op)
	floor func(x, out operand.Op)
	xorX  func(a, b, out operand.Op) // xor of registers of four numbers
	// neighbours exchanges numbers that are 1, 2, 4, ... apart.
	neighbours []func(x, out reg.VecVirtual)
}

var codecISAs = []codecISA{
	{"AVX2", 8, YMM, VPXOR, VPAND, VPOR, func(x, out operand.Op) { VROUNDPS(floorMode, x, out) }, VPXOR, []func(x, out reg.VecVirtual){
		func(x, out reg.VecVirtual) { VPERMILPS(operand.Imm(0xb1), x, out) },
		func(x, out reg.VecVirtual) { VPERMILPS(operand.Imm(0x4e), x, out) },
		func(x, out reg.VecVirtual) { VPERM2F128(operand.Imm(1), x, x, out) },
	}},
	{"AVX512", 16, ZMM, three(VPXORD), three(VPANDD), three(VPORD), func(x, out operand.Op) { VRNDSCALEPS(floorMode, x, out) }, three(VPXORD), []func(x, out reg.VecVirtual){
		func(x, out reg.VecVirtual) { VPERMILPS(operand.Imm(0xb1), x, out) },
		func(x, out reg.VecVirtual) { VPERMILPS(operand.Imm(0x4e), x, out) },
		func(x, out reg.VecVirtual) { VSHUFF32X4(operand.Imm(0xb1), x, x, out) },
		func(x, out reg.VecVirtual) { VSHUFF32X4(operand.Imm(0x4e), x, x, out) },
	}},
}

// floorMode rounds down and does not report what was not whole.
const floorMode = operand.U8(9)

func three(f func(ops ...operand.Op)) func(a, b, out operand.Op) {
	return func(a, b, out operand.Op) { f(a, b, out) }
}

// codecs writes the kernels of the form codecForm.
func codecs() {
	turns := turnTable()
	places, window := bitTable(), windowTable()
	for _, i := range codecISAs {
		i.flip(places, window)
		i.hadamard(turns)
		i.fold(window)
		i.scale(window)
		i.subtract(window)
		i.largest(window)
		i.quantize(window)
		i.asBytes(window)
		for _, bits := range []int{2, 4, 8} {
			(&levels{codecISA: i, bits: bits, window: window}).write()
		}
	}
}

// turnTable holds, for each distance of neighbours, ones and minus ones for
// 16 numbers.
func turnTable() operand.Mem {
	m := GLOBL("turns", 8|16) // RODATA|NOPTR
	for k := range 4 {
		for lane := range 16 {
			one := float32(1)
			if lane>>k&1 == 1 {
				one = -1
			}
			DATA(64*k+4*lane, operand.U32(math.Float32bits(one)))
		}
	}
	return m
}

// windowTable is eight ones and eight zeros: read n words before its middle it
// selects the first n lanes.
func windowTable() operand.Mem {
	m := GLOBL("firstLanes", 8|16)
	for lane := range 16 {
		DATA(4*lane, operand.U32(map[bool]uint32{true: 0xffffffff}[lane < 8]))
	}
	return m
}

// bitTable holds how far bits 0 to 31 are from the sign bit.
func bitTable() operand.Mem {
	m := GLOBL("bitPlaces", 8|16)
	for lane := range 32 {
		DATA(4*lane, operand.U32(31-uint32(lane)))
	}
	return m
}

// constant returns a register that holds a number in every lane.
func (i codecISA) constant(bits uint32) reg.VecVirtual {
	r, v := GP32(), i.vec()
	MOVL(operand.U32(bits), r)
	VMOVD(r, v.AsX())
	VPBROADCASTD(v.AsX(), v)
	return v
}

func (i codecISA) number(x float32) reg.VecVirtual { return i.constant(math.Float32bits(x)) }

func (i codecISA) zero() reg.VecVirtual {
	v := i.vec()
	i.xor(v, v, v)
	return v
}

// spread returns a register with the parameter, of 32 bits, in every lane.
func (i codecISA) spread(param string) reg.VecVirtual {
	from, err := Param(param).Resolve()
	if err != nil {
		panic(err)
	}
	v := i.vec()
	VBROADCASTSS(from.Addr, v)
	return v
}

// result writes the low number of a register, 32 bits, to a result. The
// library's own Store takes instructions that processors do not like between
// those for wide registers.
func result(v reg.Register, index int) {
	to, err := ReturnIndex(index).Resolve()
	if err != nil {
		panic(err)
	}
	VMOVSS(v, to.Addr)
}

func (i codecISA) begin(name, signature, doc string) {
	TEXT(name+i.name, 4, signature) // NOSPLIT
	Doc(name + i.name + " " + doc)
	Pragma("noescape")
}

func end() {
	VZEROUPPER()
	RET()
}

// A part is what one step of a loop works on: a whole register, or the first
// numbers of one, which a mask selects.
type part struct {
	codecISA
	index reg.GPVirtual     // of the first number
	k     reg.OpmaskVirtual // nil for a whole register
	mask  reg.VecVirtual
	n     reg.GPVirtual // numbers, when a mask selects them
}

// each runs body for all numbers of a slice. Nothing is read or written
// behind its end.
func (i codecISA) each(slice string, window operand.Mem, body func(p part)) {
	index := GP64()
	XORQ(index, index)
	i.eachFrom(index, slice, window, body)
}

// eachFrom is each from an index on, a multiple of the lanes.
func (i codecISA) eachFrom(index reg.GPVirtual, slice string, window operand.Mem, body func(p part)) {
	whole, n := GP64(), GP64()
	Load(Param(slice).Len(), n)
	MOVQ(n, whole)
	ANDQ(operand.I8(int8(-i.lanes)), whole)
	CMPQ(index, whole)
	JGE(operand.LabelRef("rest"))
	Label("next")
	body(part{codecISA: i, index: index})
	ADDQ(operand.Imm(uint64(i.lanes)), index)
	CMPQ(index, whole)
	JLT(operand.LabelRef("next"))
	Label("rest")
	SUBQ(index, n)
	JZ(operand.LabelRef("done"))
	p := part{codecISA: i, index: index, n: n}
	p.choose(window)
	body(p)
	Label("done")
}

// choose makes a mask of the first n lanes.
func (p *part) choose(window operand.Mem) {
	if p.lanes == 16 {
		p.k = K()
		ones := GP32()
		MOVL(operand.U32(0xffff), ones)
		BZHIL(p.n.As32(), ones, ones)
		KMOVW(ones, p.k)
		return
	}
	p.mask = p.vec()
	table, back := GP64(), GP64()
	LEAQ(window, table)
	MOVQ(p.n, back)
	NEGQ(back)
	VMOVUPS(indexed(table, back, 4, 4*p.lanes), p.mask)
}

// load reads the numbers at base; lanes that are not selected become zero.
func (p part) load(base reg.Register) reg.VecVirtual {
	v, from := p.vec(), indexed(base, p.index, 4, 0)
	switch {
	case p.n == nil:
		VMOVUPS(from, v)
	case p.lanes == 16:
		VMOVUPS_Z(from, p.k, v)
	default:
		VMASKMOVPS(from, p.mask, v)
	}
	return v
}

func (p part) store(v reg.VecVirtual, base reg.Register) {
	to := indexed(base, p.index, 4, 0)
	switch {
	case p.n == nil:
		VMOVUPS(v, to)
	case p.lanes == 16:
		VMOVUPS(v, p.k, to)
	default:
		VMASKMOVPS(v, p.mask, to)
	}
}

// bytes returns the lanes, whose values are signed bytes, side by side, unsigned
// those whose values are 0 to 255.
func (p part) bytes(v reg.VecVirtual) reg.Register    { return p.packed(v, VPACKSSWB) }
func (p part) unsigned(v reg.VecVirtual) reg.Register { return p.packed(v, VPACKUSWB) }

func (p part) packed(v reg.VecVirtual, pack func(ops ...operand.Op)) reg.Register {
	x := v.AsX()
	if p.lanes == 16 {
		VPMOVDB(v, x)
		return x
	}
	high := XMM()
	VEXTRACTI128(operand.U8(1), v, high)
	VPACKSSDW(high, x, x)
	pack(x, x, x)
	return x
}

// storeBytes writes what bytes or unsigned returned.
func (p part) storeBytes(x reg.Register, base reg.Register) {
	to := indexed(base, p.index, 1, 0)
	switch {
	case p.lanes == 16 && p.n == nil:
		VMOVDQU(x, to)
	case p.lanes == 16:
		VMOVDQU8(x, p.k, to)
	case p.n == nil:
		VMOVQ(x, to)
	default:
		rest, place := GP64(), GP64()
		VMOVQ(x, rest)
		LEAQ(to, place)
		Label("byte")
		MOVB(rest.As8(), at(place, 0))
		SHRQ(operand.U8(8), rest)
		INCQ(place)
		DECQ(p.n)
		JNZ(operand.LabelRef("byte"))
	}
}

func base(slice string) reg.GPVirtual {
	r := GP64()
	Load(Param(slice).Base(), r)
	return r
}

func (i codecISA) flip(places, window operand.Mem) {
	i.begin("flip", "func(x []float32, signs []uint64)", "is flip of the form.")
	x, signs := base("x"), base("signs")
	sign, index := i.constant(1<<31), GP64()
	XORQ(index, index)
	var place []reg.VecVirtual
	if i.lanes == 8 {
		place = i.flipWords(x, signs, index, sign, places)
	}
	i.eachFrom(index, "x", window, func(p part) {
		word := GP64()
		MOVQ(p.index, word)
		SHRQ(operand.Imm(3), word)
		v := p.load(x)
		if i.lanes == 16 {
			k := K()
			KMOVW(indexed(signs, word, 1, 0), k)
			VPXORD(sign, v, k, v)
		} else {
			flips := i.vec()
			VPBROADCASTB(indexed(signs, word, 1, 0), flips)
			VPSLLVD(place[0], flips, flips)
			VPAND(sign, flips, flips)
			VPXOR(flips, v, v)
		}
		p.store(v, x)
	})
	end()
}

// flipWords flips 32 numbers at a time, whose signs are read together, moves index to
// those that are left, and returns how far their signs are from the sign bit.
func (i codecISA) flipWords(x, signs, index reg.GPVirtual, sign reg.VecVirtual, places operand.Mem) []reg.VecVirtual {
	place := []reg.VecVirtual{i.vec(), i.vec(), i.vec(), i.vec()}
	for k := range place {
		VMOVDQU(operand.Mem{Symbol: places.Symbol, Base: places.Base, Disp: 32 * k}, place[k])
	}
	whole := GP64()
	Load(Param("x").Len(), whole)
	ANDQ(operand.I8(-32), whole)
	JMP(operand.LabelRef("word"))
	Label("words")
	word, flips := GP64(), i.vec()
	MOVQ(index, word)
	SHRQ(operand.Imm(3), word)
	VPBROADCASTD(indexed(signs, word, 1, 0), flips)
	for k := range place {
		v, at := i.vec(), indexed(x, index, 4, 32*k)
		VPSLLVD(place[k], flips, v)
		VPAND(sign, v, v)
		VPXOR(at, v, v)
		VMOVDQU(v, at)
	}
	ADDQ(operand.Imm(32), index)
	Label("word")
	CMPQ(index, whole)
	JLT(operand.LabelRef("words"))
	return place
}

// hadamard takes as many registers as there are, up to eight, through all
// steps inside them, then goes over the numbers with up to three steps at a
// time. Sums are those of the plain algorithm, in its order.
func (i codecISA) hadamard(turns operand.Mem) {
	i.begin("transform", "func(x []float32, scale float32)", "is hadamard for a power of two of at least the lanes.")
	x, n := base("x"), GP64()
	Load(Param("x").Len(), n)
	scale := i.spread("scale")
	turn := make([]reg.VecVirtual, len(i.neighbours))
	for k := range turn {
		turn[k] = i.vec()
		VMOVUPS(operand.Mem{Symbol: turns.Symbol, Base: turns.Base, Disp: 64 * k}, turn[k])
	}
	stop, h := GP64(), GP64()
	LEAQ(indexed(x, n, 4, 0), stop)
	for _, r := range []int{8, 4, 2, 1} {
		label := "blocks" + string(rune('0'+r))
		if r > 1 {
			CMPQ(n, operand.I32(int32(r*i.lanes)))
			JLT(operand.LabelRef(label + "_skip"))
		}
		p := GP64()
		MOVQ(x, p)
		Label(label)
		v := make([]reg.VecVirtual, r)
		for j := range v {
			v[j] = i.vec()
			VMULPS(at(p, 4*i.lanes*j), scale, v[j])
		}
		for k, exchange := range i.neighbours {
			for j := range v {
				other := i.vec()
				exchange(v[j], other)
				VFMADD213PS(other, turn[k], v[j])
			}
		}
		i.butterflies(v)
		for j := range v {
			VMOVUPS(v[j], at(p, 4*i.lanes*j))
		}
		ADDQ(operand.I32(int32(4*r*i.lanes)), p)
		CMPQ(p, stop)
		JLT(operand.LabelRef(label))
		if r > 1 {
			MOVQ(operand.U32(uint32(4*r*i.lanes)), h)
			JMP(operand.LabelRef("passes"))
			Label(label + "_skip")
		}
	}
	end() // a single register
	i.passes(x, stop, h)
}

// butterflies takes registers through the steps between them.
func (i codecISA) butterflies(v []reg.VecVirtual) {
	for h := 1; h < len(v); h *= 2 {
		for j := range v {
			if j&h == 0 {
				sum, difference := v[j], i.vec()
				VSUBPS(v[j+h], v[j], difference)
				VADDPS(v[j+h], v[j], sum)
				v[j+h] = difference
			}
		}
	}
}

// passes goes over the numbers between x and stop with steps of h bytes and more.
func (i codecISA) passes(x, stop, h reg.GPVirtual) {
	Label("passes")
	bytes := GP64()
	MOVQ(stop, bytes)
	SUBQ(x, bytes)
	for _, radix := range []int{8, 4, 2} {
		name := "radix" + string(rune('0'+radix))
		Label(name)
		span := GP64()
		MOVQ(h, span)
		SHLQ(operand.Imm(uint64(map[int]int{8: 3, 4: 2, 2: 1}[radix])), span)
		CMPQ(span, bytes)
		JGT(operand.LabelRef(name + "_done"))
		group := GP64()
		MOVQ(x, group)
		Label(name + "_group")
		p, half := GP64(), GP64()
		MOVQ(group, p)
		LEAQ(indexed(group, h, 1, 0), half)
		Label(name + "_column")
		v := make([]reg.VecVirtual, radix)
		places := make([]operand.Mem, radix)
		h3, p4 := GP64(), GP64()
		if radix > 2 {
			LEAQ(indexed(h, h, 2, 0), h3)
		}
		if radix > 4 {
			LEAQ(indexed(p, h, 4, 0), p4)
		}
		for j := range v {
			from := p
			if j >= 4 {
				from = p4
			}
			switch j % 4 {
			case 0:
				places[j] = at(from, 0)
			case 1:
				places[j] = indexed(from, h, 1, 0)
			case 2:
				places[j] = indexed(from, h, 2, 0)
			case 3:
				places[j] = indexed(from, h3, 1, 0)
			}
			v[j] = i.vec()
			VMOVUPS(places[j], v[j])
		}
		i.butterflies(v)
		for j := range v {
			VMOVUPS(v[j], places[j])
		}
		ADDQ(operand.I32(int32(4*i.lanes)), p)
		CMPQ(p, half)
		JLT(operand.LabelRef(name + "_column"))
		ADDQ(span, group)
		CMPQ(group, stop)
		JLT(operand.LabelRef(name + "_group"))
		MOVQ(span, h)
		JMP(operand.LabelRef(name))
		Label(name + "_done")
	}
	end()
}

func (i codecISA) fold(window operand.Mem) {
	i.begin("fold", "func(a, b []float32)", "is fold of the form.")
	a, b := base("a"), base("b")
	root := i.number(float32(math.Sqrt(0.5)))
	i.each("a", window, func(p part) {
		x, y, sum := p.load(a), p.load(b), i.vec()
		VADDPS(y, x, sum)
		VSUBPS(y, x, x)
		VMULPS(root, sum, sum)
		VMULPS(root, x, x)
		p.store(sum, a)
		p.store(x, b)
	})
	end()
}

func (i codecISA) scale(window operand.Mem) {
	i.begin("scale", "func(dst, x []float32, factor float32)", "is scale of the form.")
	dst, x, factor := base("dst"), base("x"), i.spread("factor")
	i.each("x", window, func(p part) {
		v := p.load(x)
		VMULPS(factor, v, v)
		p.store(v, dst)
	})
	end()
}

func (i codecISA) subtract(window operand.Mem) {
	i.begin("subtract", "func(dst, x []float32)", "is subtract of the form.")
	dst, x := base("dst"), base("x")
	i.each("x", window, func(p part) {
		v := p.load(dst)
		VSUBPS(p.load(x), v, v)
		p.store(v, dst)
	})
	end()
}

func (i codecISA) largest(window operand.Mem) {
	i.begin("largest", "func(x []float32) float32", "is largest of the form.")
	x, most, magnitude := base("x"), i.zero(), i.constant(1<<31-1)
	i.each("x", window, func(p part) {
		v := p.load(x)
		i.and(magnitude, v, v)
		VMAXPS(v, most, most)
	})
	result(i.reduce(most, VMAXPS), 0)
	end()
}

// reduce joins the halves of a register until one number is left.
func (i codecISA) reduce(v reg.VecVirtual, join func(ops ...operand.Op)) reg.Register {
	if i.lanes == 16 {
		high := YMM()
		VEXTRACTF64X4(operand.Imm(1), v, high)
		join(high, v.AsY(), v.AsY())
	}
	high := XMM()
	VEXTRACTF128(operand.Imm(1), v.AsY(), high)
	join(high, v.AsX(), v.AsX())
	VPSHUFD(operand.Imm(0x4e), v.AsX(), high)
	join(high, v.AsX(), v.AsX())
	VPSHUFD(operand.Imm(0xb1), v.AsX(), high)
	join(high, v.AsX(), v.AsX())
	return v.AsX()
}

func (i codecISA) quantize(window operand.Mem) {
	i.begin("quantize8", "func(x []float32, inverse float32, out []int8)", "is quantize8 of the form.")
	x, out, inverse := base("x"), base("out"), i.spread("inverse")
	least, most := i.number(-127), i.number(127)
	i.each("x", window, func(p part) {
		v := p.load(x)
		VMULPS(inverse, v, v)
		VMAXPS(least, v, v)
		VMINPS(most, v, v)
		VCVTPS2DQ(v, v)
		p.storeBytes(p.bytes(v), out)
	})
	end()
}

// asBytes collects the bits that differ when a number has been an integer, and those
// beyond a byte. Lanes that are not selected are 0, which is in bytes too.
func (i codecISA) asBytes(window operand.Mem) {
	i.begin("asBytes", "func(x []float32, base int32, out []byte) uint32", "is asBytes of the form.")
	x, out, least, lost, beyond := base("x"), base("out"), i.spread("base"), i.zero(), i.constant(^uint32(0xff))
	i.each("x", window, func(p part) {
		v, n, again := p.load(x), i.vec(), i.vec()
		VCVTTPS2DQ(v, n)
		VCVTDQ2PS(n, again)
		i.xor(v, again, again)
		i.or(again, lost, lost)
		VPSUBD(least, n, n)
		i.and(beyond, n, again)
		i.or(again, lost, lost)
		p.storeBytes(p.unsigned(n), out)
	})
	result(i.reduce(lost, VORPS), 0)
	end()
}
