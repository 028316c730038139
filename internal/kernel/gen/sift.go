package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The kernels that leave numbers out move those that stay to the front of a
// register and write all of it behind what stayed before: at most as many as
// were read, so nothing is overwritten that is still to be read.

// sifts writes them.
func sifts(window operand.Mem) {
	fronts, numbers := frontTable(), lanesTable(16, 4)
	for _, i := range codecISAs {
		i.countBelow(window)
		i.below(window, fronts)
		i.prune(window, fronts)
		i.nearer(fronts, numbers)
	}
}

// frontTable has, for every set of eight lanes, their numbers in order, as
// bytes.
func frontTable() operand.Mem {
	m := GLOBL("fronts", 8|16) // RODATA|NOPTR
	for set := range 256 {
		next, lanes := 0, uint64(0)
		for lane := range 8 {
			if set>>lane&1 != 0 {
				lanes |= uint64(lane) << (8 * next)
				next++
			}
		}
		DATA(8*set, operand.U64(lanes))
	}
	return m
}

// whole runs body for registers that are full; AVX2 leaves what remains to
// plain Go, AVX-512 masks it.
func (i codecISA) whole(slice string, window operand.Mem, body func(p part)) {
	if i.lanes == 16 {
		i.each(slice, window, body)
		return
	}
	index, n := GP64(), GP64()
	Load(Param(slice).Len(), n)
	XORQ(index, index)
	Label("next")
	body(part{codecISA: i, index: index})
	ADDQ(operand.Imm(uint64(i.lanes)), index)
	CMPQ(index, n)
	JLT(operand.LabelRef("next"))
}

func (i codecISA) countBelow(window operand.Mem) {
	i.begin("countBelow", "func(d []int32, below int32) int", "is countBelow of the form.")
	d, below, count := base("d"), i.spread("below"), GP64()
	XORQ(count, count)
	i.each("d", window, func(p part) {
		found := GP64()
		if i.lanes == 16 {
			less := K()
			if p.n == nil {
				VPCMPD(operand.U8(1), below, p.load(d), less)
			} else {
				VPCMPD(operand.U8(1), below, p.load(d), p.k, less)
			}
			KMOVW(less, found.As32())
		} else {
			less := i.vec()
			VPCMPGTD(p.load(d), below, less)
			if p.n != nil {
				VPAND(p.mask, less, less)
			}
			VMOVMSKPS(less, found.As32())
		}
		POPCNTL(found.As32(), found.As32())
		ADDQ(found, count)
	})
	Store(count, ReturnIndex(0))
	end()
}

// A front moves the lanes of a set to the front of registers.
type front struct {
	part
	k      reg.OpmaskVirtual // the set
	order  reg.VecVirtual    // or the numbers of its lanes
	number reg.GPVirtual     // of lanes in the set
}

// chosen is a front of the lanes whose bits are set in a register or mask.
func (p part) chosen(k reg.OpmaskVirtual, lanes reg.VecVirtual, fronts operand.Mem) front {
	f := front{part: p, k: k, number: GP64()}
	if p.lanes == 16 {
		KMOVW(k, f.number.As32())
	} else {
		f.order = p.vec()
		table := GP64()
		LEAQ(fronts, table)
		VMOVMSKPS(lanes, f.number.As32())
		VPMOVZXBD(indexed(table, f.number, 8, 0), f.order)
	}
	POPCNTL(f.number.As32(), f.number.As32())
	return f
}

func (f front) move(v reg.VecVirtual) reg.VecVirtual {
	if f.lanes == 16 {
		VPCOMPRESSD_Z(v, f.k, v)
	} else {
		VPERMD(v, f.order, v)
	}
	return v
}

// storeAt writes a register of words from a place on.
func (f front) storeAt(v reg.VecVirtual, base, place reg.GPVirtual) {
	if to := indexed(base, place, 4, 0); f.n == nil {
		VMOVUPS(v, to)
	} else {
		VMOVUPS(v, f.part.k, to)
	}
}

// below keeps the numbers that are less than a limit, and their names.
func (i codecISA) below(window, fronts operand.Mem) {
	i.begin("below", "func(d []int32, at []uint16, below int32, outD []int32, outAt []uint16) int", "is below of the form.")
	d, at, limit, outD, outAt, count := base("d"), base("at"), i.spread("below"), base("outD"), base("outAt"), GP64()
	XORQ(count, count)
	i.whole("d", window, func(p part) {
		v, names := p.load(d), p.names(at)
		var f front
		if i.lanes == 16 {
			less := K()
			if p.n == nil {
				VPCMPD(operand.U8(1), limit, v, less)
			} else {
				VPCMPD(operand.U8(1), limit, v, p.k, less)
			}
			f = p.chosen(less, nil, fronts)
		} else {
			less := i.vec()
			VPCMPGTD(v, limit, less)
			f = p.chosen(nil, less, fronts)
		}
		f.storeAt(f.move(v), outD, count)
		f.storeNames(f.move(names), outAt, count)
		ADDQ(f.number, count)
	})
	Store(count, ReturnIndex(0))
	end()
}

// names reads numbers of 16 bits as such of 32.
func (p part) names(base reg.Register) reg.VecVirtual {
	v, from := p.vec(), indexed(base, p.index, 2, 0)
	if p.n == nil {
		VPMOVZXWD(from, v)
	} else {
		VPMOVZXWD_Z(from, p.k, v)
	}
	return v
}

func (f front) storeNames(v reg.VecVirtual, base, place reg.GPVirtual) {
	to := indexed(base, place, 2, 0)
	switch {
	case f.lanes == 8:
		VPACKUSDW(v, v, v)
		VPERMQ(operand.U8(0x08), v, v)
		VMOVDQU(v.AsX(), to)
	case f.n == nil:
		VPMOVDW(v, to)
	default:
		VPMOVDW(v, f.part.k, to)
	}
}

// prune keeps what is not nearer to a row than to the one that is linked.
func (i codecISA) prune(window, fronts operand.Mem) {
	i.begin("prune", "func(d, norm, far []int32, rows []uint32, bias int32) int", "is prune of the form.")
	d, norm, distance, rows, bias, count := base("d"), base("norm"), base("far"), base("rows"), i.spread("bias"), GP64()
	zero := i.zero()
	XORQ(count, count)
	i.whole("d", window, func(p part) {
		v, n, far, r := p.load(d), p.load(norm), p.load(distance), p.load(rows)
		VPADDD(bias, far, far)
		var f front
		if i.lanes == 16 {
			keep := K()
			if p.n == nil {
				VPCMPD(operand.U8(5), v, far, keep)
			} else {
				VPCMPD(operand.U8(5), v, far, p.k, keep)
			}
			VPCMPD(operand.U8(6), zero, far, keep, keep)
			f = p.chosen(keep, nil, fronts)
		} else {
			keep, nearer := i.vec(), i.vec()
			VPCMPGTD(far, v, nearer)
			VPCMPGTD(zero, far, keep)
			VPANDN(keep, nearer, keep)
			f = p.chosen(nil, keep, fronts)
		}
		f.storeAt(f.move(v), d, count)
		f.storeAt(f.move(n), norm, count)
		f.storeAt(f.move(r), rows, count)
		ADDQ(f.number, count)
	})
	Store(count, ReturnIndex(0))
	end()
}

// Comparisons that are never true of NaN.
const (
	lessThan = 17
	greater  = 30
)

// nearer writes the places of the keys that are less than a limit. There are as many
// keys as fill registers.
func (i codecISA) nearer(fronts, numbers operand.Mem) {
	i.begin("nearer", "func(keys []float32, first uint32, below float32, rows []uint32) int", "is nearer of the form.")
	keys, n, rows, count, index := base("keys"), GP64(), base("rows"), GP64(), GP64()
	limit, lanes, step := i.spread("below"), i.spread("first"), i.constant(uint32(i.lanes))
	Load(Param("keys").Len(), n)
	if i.lanes == 16 {
		VPADDD(numbers, lanes, lanes)
	}
	XORQ(count, count)
	XORQ(index, index)
	Label("next")
	set := GP64()
	out := i.vec()
	if i.lanes == 16 {
		less := K()
		VCMPPS(operand.U8(greater), indexed(keys, index, 4, 0), limit, less)
		KMOVW(less, set.As32())
		VPCOMPRESSD_Z(lanes, less, out)
	} else {
		less, table := i.vec(), GP64()
		VCMPPS(operand.U8(greater), indexed(keys, index, 4, 0), limit, less)
		VMOVMSKPS(less, set.As32())
		LEAQ(fronts, table)
		VPMOVZXBD(indexed(table, set, 8, 0), out)
		VPADDD(lanes, out, out)
	}
	VMOVUPS(out, indexed(rows, count, 4, 0))
	POPCNTL(set.As32(), set.As32())
	ADDQ(set, count)
	VPADDD(step, lanes, lanes)
	ADDQ(operand.Imm(uint64(i.lanes)), index)
	CMPQ(index, n)
	JLT(operand.LabelRef("next"))
	Store(count, ReturnIndex(0))
	end()
}
