package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The places of the fields of kernel.Hop; hop_layout.go holds them to this.
const (
	hopQuery   = 0
	hopCodes   = 8
	hopMeta    = 16
	hopVisited = 24
	hopStride  = 32
	hopLines   = 40
	hopN       = 48
	hopMul     = 56
	hopSub     = 60
	hopBelow   = 64
	hopLast    = 72
	hopRows    = 80
	hopKeys    = 1168
	hopLeast   = 2256
)

const (
	cacheLine = 64
	maxLines  = 4 // of a code to prefetch: what more would bring, the processor's own prefetcher brings
)

// hops writes the kernels of the form hopForm.
func hops() {
	gatherRows()
	prefetch()
	wide, narrow := avx512{halves: halvesTable()}, avx2{squeeze: squeezeTable(), ones: onesTable()}
	for _, i := range []isa{wide, narrow} {
		for _, bits := range []int{2, 4, 8} {
			writeScore(bits, i)
		}
	}
	for _, i := range []panelISA{wide, narrow} {
		for _, bits := range []int{2, 4, 8} {
			writePanels(bits, i)
		}
	}
	bounds()
}

func at(base reg.Register, disp int) operand.Mem { return operand.Mem{Base: base, Disp: disp} }

func indexed(base, index reg.Register, scale uint8, disp int) operand.Mem {
	return operand.Mem{Base: base, Index: index, Scale: scale, Disp: disp}
}

// gatherRows filters links by a set of bits without a branch on a bit, whose
// value nobody can predict: every link is written, and the place moves on by
// one less the bit that was there. What is no row counts as the last one: the
// bytes of links may have changed since they were checked.
func gatherRows() {
	TEXT("gatherAMD64", 4, "func(h *Hop, links []uint32)")
	Doc("gatherAMD64 adds the links that were not visited and prefetches their codes.")
	Pragma("noescape")
	h, link, count, visited, rows, n := GP64(), GP64(), GP64(), GP64(), GP64(), GP64()
	Load(Param("h"), h)
	Load(Param("links").Base(), link)
	Load(Param("links").Len(), count)
	MOVQ(at(h, hopVisited), visited)
	LEAQ(at(h, hopRows), rows)
	MOVQ(at(h, hopN), n)
	first, last := GP64(), GP32()
	MOVQ(n, first)
	MOVL(at(h, hopLast), last)

	Label("filter")
	row, word, bits := GP64(), GP64(), GP64()
	MOVL(at(link, 0), row.As32())
	CMPL(row.As32(), last)
	CMOVLHI(last, row.As32())
	MOVL(row.As32(), word.As32())
	SHRL(operand.Imm(6), word.As32())
	MOVQ(indexed(visited, word, 8, 0), bits)
	BTSQ(row, bits)
	MOVQ(bits, indexed(visited, word, 8, 0))
	SBBQ(bits, bits) // -1 when the bit was set
	MOVL(row.As32(), indexed(rows, n, 4, 0))
	LEAQ(indexed(n, bits, 1, 1), n)
	ADDQ(operand.Imm(4), link)
	DECQ(count)
	JNZ(operand.LabelRef("filter"))

	MOVQ(n, at(h, hopN))
	CMPQ(first, n)
	JE(operand.LabelRef("done"))
	meta, codes, stride, lines := GP64(), GP64(), GP64(), GP64()
	MOVQ(at(h, hopMeta), meta)
	MOVQ(at(h, hopCodes), codes)
	MOVQ(at(h, hopStride), stride)
	MOVQ(at(h, hopLines), lines)
	for k := 1; k < maxLines; k++ {
		CMPQ(lines, operand.Imm(uint64(k)))
		JE(operand.LabelRef(fmt.Sprintf("lines%d", k)))
	}
	for k := maxLines; k > 0; k-- {
		Label(fmt.Sprintf("lines%d", k))
		code := GP64()
		MOVL(indexed(rows, first, 4, 0), code.As32())
		PREFETCHT0(indexed(meta, code, 8, 0))
		IMULQ(stride, code)
		ADDQ(codes, code)
		for line := range k {
			PREFETCHT0(at(code, cacheLine*line))
		}
		INCQ(first)
		CMPQ(first, n)
		JLT(operand.LabelRef(fmt.Sprintf("lines%d", k)))
		if k > 1 {
			RET()
		}
	}
	Label("done")
	RET()
}

func prefetch() {
	TEXT("prefetchAMD64", 4, "func(s []uint32)")
	Doc("prefetchAMD64 starts to fetch two cache lines.")
	Pragma("noescape")
	s := GP64()
	Load(Param("s").Base(), s)
	PREFETCHT0(at(s, 0))
	PREFETCHT0(at(s, cacheLine))
	RET()
}
