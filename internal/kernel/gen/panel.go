package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// A panel is the kernel behind Hop.PanelKeys for one width of levels. Every
// column of a panel has four bytes of each of its rows, so the numbers of the query
// that belong to them are the same for all lanes.
type panel struct {
	bits   int
	h      reg.GPVirtual
	query  reg.GPVirtual
	codes  reg.GPVirtual // moves from block to block
	meta   reg.GPVirtual // from panel to panel
	stride reg.GPVirtual
	row    reg.GPVirtual // the first of the panel
	end    reg.GPVirtual // the first behind the last panel
	keys   reg.GPVirtual // where those of the panel go
	offset reg.GPVirtual // of a block in a code
}

const (
	panelRows   = 16
	columnBytes = 4 * panelRows
	columns     = codeBlock / 4 // of a block
)

// A panelISA is what differs between the instruction sets.
type panelISA interface {
	name() string
	panelConstants(p *panel)
	panelClear()
	// panelHalf adds the products of half of a block of the codes, from a column on
	// that is at p.codes.
	panelHalf(p *panel, from int)
	// panelKeep makes keys of the sums, writes them and remembers the least of every lane.
	panelKeep(p *panel)
	panelEnd(p *panel)
}

func writePanels(bits int, i panelISA) {
	p := &panel{bits: bits}
	for _, r := range []*reg.GPVirtual{&p.h, &p.query, &p.codes, &p.meta, &p.stride, &p.row, &p.end, &p.keys, &p.offset} {
		*r = GP64()
	}
	name := fmt.Sprintf("panels%d%s", bits, i.name())
	TEXT(name, 4, "func(h *Hop, first, last int, keys []float32)")
	Doc(fmt.Sprintf("%s scores panels with levels of %d bits.", name, bits))
	Pragma("noescape")
	Load(Param("h"), p.h)
	Load(Param("first"), p.row)
	Load(Param("last"), p.end)
	Load(Param("keys").Base(), p.keys)
	SHLQ(operand.Imm(4), p.row)
	SHLQ(operand.Imm(4), p.end)
	MOVQ(at(p.h, hopQuery), p.query)
	MOVQ(at(p.h, hopStride), p.stride)
	MOVQ(p.stride, p.codes)
	IMULQ(p.row, p.codes)
	ADDQ(at(p.h, hopCodes), p.codes)
	MOVQ(at(p.h, hopMeta), p.meta)
	LEAQ(indexed(p.meta, p.row, 8, 0), p.meta)
	i.panelConstants(p)

	Label("next_panel")
	i.panelClear()
	XORQ(p.offset, p.offset)
	Label("next_block")
	i.panelHalf(p, 0)
	ADDQ(operand.I32(columns/2*columnBytes), p.codes)
	behind := GP64()
	LEAQ(at(p.offset, codeBlock/2), behind)
	CMPQ(behind, p.stride)
	JGE(operand.LabelRef("panel_done")) // the last block may be half of one
	i.panelHalf(p, columns/2)
	ADDQ(operand.I32(columns/2*columnBytes), p.codes)
	ADDQ(operand.Imm(codeBlock), p.offset)
	CMPQ(p.offset, p.stride)
	JLT(operand.LabelRef("next_block"))
	Label("panel_done")
	i.panelKeep(p)
	ADDQ(operand.I32(8*panelRows), p.meta)
	ADDQ(operand.Imm(4*panelRows), p.keys)
	ADDQ(operand.Imm(panelRows), p.row)
	CMPQ(p.row, p.end)
	JLT(operand.LabelRef("next_panel"))
	i.panelEnd(p)
	VZEROUPPER()
	RET()
}

// numbersOf is where the numbers of the query are for a column and a plane of the
// block.
func (p *panel) numbersOf(column, plane int) operand.Mem {
	return indexed(p.query, p.offset, uint8(8/p.bits), codeBlock*plane+4*column)
}

// Levels are multiplied where they are in a byte, not shifted: those of plane p then
// give 2^(p*bits) times their sum, which is divided once, at the end.
func (a avx512) panelConstants(p *panel) {
	if planes := 8 / p.bits; planes > 1 {
		loadMask(p.bits, zplanes[0])
		for plane := 1; plane < planes; plane++ {
			VPSLLD(operand.Imm(uint64(plane*p.bits)), zplanes[0], zplanes[plane])
		}
	}
	for k, field := range []int{hopMul, hopSub} {
		VBROADCASTSS(at(p.h, field), reg.VecPhysical(zconstants[k]))
	}
	VMOVDQU32(a.halves, zeven)
	VMOVDQU32(a.halves.Offset(64), zodd)
	VMOVUPS(at(p.h, hopLeast), zleast)
}

func (avx512) panelEnd(p *panel) { VMOVUPS(zleast, at(p.h, hopLeast)) }

var (
	zconstants  = [2]reg.VecPhysical{reg.Z20, reg.Z21}
	zeven, zodd = reg.Z23, reg.Z24
	zleast      = reg.Z26
	zplanes     = [4]reg.VecPhysical{reg.Z12, reg.Z13, reg.Z14, reg.Z15}
	zcolumns    = [2]reg.VecPhysical{reg.Z30, reg.Z31}
	// The sums of plane p are those whose number is p more than a multiple of the planes.
	zpanel = [8]reg.VecPhysical{reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z16, reg.Z17, reg.Z18, reg.Z19}
)

// halvesTable has the even lanes of two registers, and the odd ones.
func halvesTable() operand.Mem {
	m := GLOBL("halves", 8|16) // RODATA|NOPTR
	for i := range 2 * panelRows {
		DATA(4*i, operand.U32(i%panelRows*2+i/panelRows))
	}
	return m
}

func (avx512) panelClear() {
	for _, z := range zpanel {
		VPXORD(z, z, z)
	}
}

func (avx512) panelHalf(p *panel, from int) {
	planes, sum := 8/p.bits, 0
	for c := range columns / 2 {
		column := zcolumns[c%2]
		VMOVDQU64(at(p.codes, columnBytes*c), column)
		for plane := range planes {
			levels := column
			if planes > 1 {
				levels = zlevels[c%2][plane]
				VPANDD(zplanes[plane], column, levels)
			}
			VPDPBUSD_BCST(p.numbersOf(from+c, plane), levels, zpanel[sum%len(zpanel)])
			sum++ // one sum waits for the one before
		}
	}
}

// panelSum leaves the sums of the rows in the first register.
func (avx512) panelSum(p *panel) {
	planes := 8 / p.bits
	for n := len(zpanel) / 2; n >= planes; n /= 2 {
		for k := range n {
			VPADDD(zpanel[n+k], zpanel[k], zpanel[k])
		}
	}
	for plane := 1; plane < planes; plane++ {
		VPSRAD(operand.Imm(uint64(plane*p.bits)), zpanel[plane], zpanel[plane])
		VPADDD(zpanel[plane], zpanel[0], zpanel[0])
	}
}

func (i avx512) panelKeep(p *panel) {
	i.panelSum(p)
	key := zpanel[0]
	VCVTDQ2PS(key, key)
	a, b := reg.Z4, reg.Z5
	VMOVUPS(at(p.meta, 0), a)
	VMOVAPS(a, b)
	VPERMT2PS(at(p.meta, 64), zeven, a)
	VPERMT2PS(at(p.meta, 64), zodd, b)
	VMULPS(zconstants[0], key, key)
	VADDPS(zconstants[1], key, key)
	VMULPS(b, key, key)
	VADDPS(a, key, key)
	VMINPS(zleast, key, zleast) // where the key is no number, what there was
	VMOVUPS(key, at(p.keys, 0))
}

var (
	ylong      = [2]reg.VecPhysical{reg.Y0, reg.Y1}                        // of eight rows each, in 32 bits
	yshort     = [2][2]reg.VecPhysical{{reg.Y2, reg.Y3}, {reg.Y4, reg.Y5}} // by half of a byte, of eight rows each, in 16
	ynumbers   = [4]reg.VecPhysical{reg.Y8, reg.Y9, reg.Y10, reg.Y11}
	ysixteen   = reg.Y13
	yhighPanel = reg.Y13 // of levels of two bits
)

func (a avx2) panelConstants(p *panel) {
	loadMask(min(p.bits, 4), ymask)
	VPCMPEQW(yones, yones, yones)
	VPSRLW(operand.Imm(15), yones, yones)
	switch p.bits {
	case 2:
		VPSLLD(operand.Imm(2), ymask, yhighPanel)
	case 8:
		VPSLLW(operand.Imm(4), yones, ysixteen)
	}
}

func (avx2) panelEnd(*panel) {}

func (avx2) panelClear() {
	for _, y := range ylong {
		VPXOR(y, y, y)
	}
}

// panelHalf adds products in 16 bits, eight of 15 and 128 for a sum. Levels of 8 bits
// are two of 4 whose numbers of the query are the same.
func (a avx2) panelHalf(p *panel, from int) {
	if p.bits == 2 {
		a.panelPairs(p, from)
		return
	}
	planes, width, sums := 8/p.bits, p.bits, 1
	if p.bits == 8 {
		planes, width, sums = 2, 4, 2
	}
	room := p.bits // columns: products for each sum are eight
	for c := range columns / 2 {
		VPBROADCASTD(p.numbersOf(from+c, 0), ynumbers[0])
		for plane := 1; plane < planes && sums == 1; plane++ {
			VPBROADCASTD(p.numbersOf(from+c, plane), ynumbers[plane])
		}
		for h := range ylong {
			VMOVDQU(at(p.codes, columnBytes*c+half*h), reg.Y6)
			for plane := range planes {
				levels, number, sum := reg.Y7, ynumbers[plane], yshort[0][h]
				if sums == 2 {
					number, sum = ynumbers[0], yshort[plane][h]
				}
				if plane == 0 {
					VPAND(ymask, reg.Y6, levels)
				} else {
					VPSRLW(operand.Imm(uint64(plane*width)), reg.Y6, levels)
					VPAND(ymask, levels, levels)
				}
				if c%room == 0 && (plane == 0 || sums == 2) {
					VPMADDUBSW(number, levels, sum)
					continue
				}
				VPMADDUBSW(number, levels, levels)
				VPADDW(levels, sum, sum)
			}
			if c%room < room-1 {
				continue
			}
			for s := range sums {
				y := yshort[s][h]
				VPMADDWD([]reg.VecPhysical{yones, ysixteen}[s], y, y)
				VPADDD(y, ylong[h], ylong[h])
			}
		}
	}
}

// panelPairs is panelHalf for levels of two bits, see pairs: eight sums of 12 and 128
// have room.
func (avx2) panelPairs(p *panel, from int) {
	const room = 4 // columns
	for c := range columns / 2 {
		for plane := range 4 {
			VPBROADCASTD(p.numbersOf(from+c, plane), ynumbers[plane])
		}
		for h, long := range ylong {
			VMOVDQU(at(p.codes, columnBytes*c+half*h), reg.Y6)
			for plane := range 4 {
				mask, sum := ymask, yshort[0][h]
				if plane%2 == 1 {
					mask, sum = yhighPanel, yshort[1][h]
				}
				if plane == 2 {
					VPSRLW(operand.Imm(4), reg.Y6, reg.Y6)
				}
				VPAND(mask, reg.Y6, reg.Y7)
				if c%room == 0 && plane < 2 {
					VPMADDUBSW(ynumbers[plane], reg.Y7, sum)
					continue
				}
				VPMADDUBSW(ynumbers[plane], reg.Y7, reg.Y7)
				VPADDW(reg.Y7, sum, sum)
			}
			if c%room < room-1 {
				continue
			}
			VPSRAW(operand.Imm(2), yshort[1][h], yshort[1][h])
			VPADDW(yshort[1][h], yshort[0][h], yshort[0][h])
			VPMADDWD(yones, yshort[0][h], yshort[0][h])
			VPADDD(yshort[0][h], long, long)
		}
	}
}

func (a avx2) panelKeep(p *panel) {
	for h, key := range ylong {
		mul, sub := reg.Y8, reg.Y9
		VBROADCASTSS(at(p.h, hopMul), mul)
		VBROADCASTSS(at(p.h, hopSub), sub)
		first, second, metaA, metaB := reg.Y4, reg.Y5, reg.Y6, reg.Y7
		VMOVUPS(at(p.meta, 64*h), first)
		VMOVUPS(at(p.meta, 64*h+32), second)
		VSHUFPS(operand.Imm(0x88), second, first, metaA)
		VSHUFPS(operand.Imm(0xdd), second, first, metaB)
		VPERMQ(operand.Imm(0xd8), metaA, metaA)
		VPERMQ(operand.Imm(0xd8), metaB, metaB)
		VCVTDQ2PS(key, key)
		VMULPS(mul, key, key)
		VADDPS(sub, key, key)
		VMULPS(metaB, key, key)
		VADDPS(metaA, key, key)
		VMOVUPS(at(p.h, hopLeast+32*h), reg.Y12)
		VMINPS(reg.Y12, key, reg.Y12)
		VMOVUPS(reg.Y12, at(p.h, hopLeast+32*h))
		VMOVUPS(key, at(p.keys, 32*h))
	}
}
