package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// keyShift leaves of a float32 from 1 on what keys16 keeps; build.go of the kernels.
const keyShift = 12

// keys16 takes as many rows at a time as a register has lanes. The keys of two queries share
// a register then, and turned around by fours they are what eight queries have for one row.
func (i codecISA) keys16() {
	i.begin("keys16", "func(dot []int32, width int, bias *[8]int32, norm []int32, across []uint16)", "is keys16 of the form.")
	dot, norm, across := base("dot"), base("norm"), base("across")
	width, bias, stop := GP64(), GP64(), GP64()
	Load(Param("width"), width)
	Load(Param("bias"), bias)
	Load(Param("norm").Len(), stop)
	LEAQ(indexed(norm, stop, 4, 0), stop)
	SHLQ(operand.U8(2), width)
	one := i.number(1)
	Label("rows")
	norms, query := i.vec(), GP64()
	VMOVUPS(at(norm, 0), norms)
	MOVQ(dot, query)
	var pairs [4]reg.VecVirtual
	for q := range 8 {
		v, sum := i.vec(), i.vec()
		VMOVUPS(at(query, 0), v)
		VPBROADCASTD(at(bias, 4*q), sum)
		VPADDD(norms, sum, sum)
		VPADDD(v, v, v)
		VPSUBD(v, sum, v)
		VCVTDQ2PS(v, v)
		VMAXPS(one, v, v)
		VPSUBD(one, v, v)
		VPSRLD(operand.U8(keyShift), v, v)
		VMOVUPS(v, at(query, 0))
		if q < 7 {
			ADDQ(width, query)
		}
		if q%2 == 0 {
			pairs[q/2] = v
			continue
		}
		VPSLLD(operand.U8(16), v, v)
		i.or(v, pairs[q/2], pairs[q/2])
	}
	i.storeAcross(i.turn(pairs), across)
	ADDQ(operand.I32(2*packRows*i.lanes), across)
	ADDQ(operand.U8(4*i.lanes), dot)
	ADDQ(operand.U8(4*i.lanes), norm)
	CMPQ(norm, stop)
	JLT(operand.LabelRef("rows"))
	end()
}

// turn makes four columns of every four lanes of four registers.
func (i codecISA) turn(v [4]reg.VecVirtual) (columns [4]reg.VecVirtual) {
	low01, high01, low23, high23 := i.vec(), i.vec(), i.vec(), i.vec()
	VPUNPCKLDQ(v[1], v[0], low01)
	VPUNPCKHDQ(v[1], v[0], high01)
	VPUNPCKLDQ(v[3], v[2], low23)
	VPUNPCKHDQ(v[3], v[2], high23)
	for k, halves := range [][2]reg.VecVirtual{{low01, low23}, {high01, high23}} {
		columns[2*k], columns[2*k+1] = i.vec(), i.vec()
		VPUNPCKLQDQ(halves[1], halves[0], columns[2*k])
		VPUNPCKHQDQ(halves[1], halves[0], columns[2*k+1])
	}
	return columns
}

// storeAcross writes four lanes at a time.
func (i codecISA) storeAcross(columns [4]reg.VecVirtual, across reg.GPVirtual) {
	for four := range i.lanes / 4 {
		for k, column := range columns {
			to := at(across, 2*packRows*(4*four+k))
			switch {
			case four == 0:
				VMOVDQU(column.AsX(), to)
			case i.lanes == 8:
				VEXTRACTI128(operand.U8(uint8(four)), column, to)
			default:
				VEXTRACTI32X4(operand.U8(uint8(four)), column, to)
			}
		}
	}
}

// widen takes packRows numbers at a time.
func (i codecISA) widen() {
	i.begin("widen", "func(out []int32, width int, in []uint16)", "is widen of the form.")
	out, width, in, stop := base("out"), GP64(), base("in"), GP64()
	Load(Param("width"), width)
	Load(Param("in").Len(), stop)
	LEAQ(indexed(in, stop, 2, 0), stop)
	SHLQ(operand.U8(2), width)
	Label("row")
	for first := 0; first < packRows; first += i.lanes {
		v := i.vec()
		VPMOVZXWD(at(in, 2*first), v)
		VMOVUPS(v, at(out, 4*first))
	}
	ADDQ(operand.U8(2*packRows), in)
	ADDQ(width, out)
	CMPQ(in, stop)
	JLT(operand.LabelRef("row"))
	end()
}
