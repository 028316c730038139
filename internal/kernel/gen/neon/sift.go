package main

import "fmt"

// The kernels that leave numbers out. A comparison becomes a set of four
// lanes, and a table says, for each set, which bytes come to the front and how
// many lanes that are.

func sifts(p *program) {
	frontTable(p)
	countBelow(p)
	below(p)
	prune(p)
	nearer(p)
}

// frontTable has 32 bytes for each set: the order of 16 bytes, and the number
// of lanes. The bits of the lanes and their numbers are behind them.
func frontTable(p *program) {
	var words []uint64
	for set := range 16 {
		var order [16]byte
		next := 0
		for lane := range 4 {
			if set>>lane&1 != 0 {
				for b := range 4 {
					order[4*next+b] = byte(4*lane + b)
				}
				next++
			}
		}
		for half := range 2 {
			word := uint64(0)
			for b := range 8 {
				word |= uint64(order[8*half+b]) << (8 * b)
			}
			words = append(words, word)
		}
		words = append(words, uint64(next), 0)
	}
	words = append(words, 2<<32|1, 8<<32|4) // the bits of the lanes
	words = append(words, 1<<32|0, 3<<32|2) // their numbers
	fmt.Fprintln(&p.code)
	for i, word := range words {
		fmt.Fprintf(&p.code, "DATA fronts<>+%d(SB)/8, $%#x\n", 8*i, word)
	}
	fmt.Fprintf(&p.code, "GLOBL fronts<>(SB), RODATA|NOPTR, $%d\n", 8*len(words))
}

// fronts points R9 to the table and sets V30 to the bits of the lanes.
func fronts(p *program) {
	p.op("MOVD $fronts<>(SB), R9")
	p.op("FMOVQ 512(R9), F30")
}

// front looks up the set of the lanes of a register, which it overwrites: V29
// is its order, R12 its number of lanes.
func front(p *program, lanes int) {
	p.v("and v%d.16b, v%d.16b, v30.16b", lanes, lanes)
	p.v("addv s%d, v%d.4s", lanes, lanes)
	p.v("fmov w11, s%d", lanes)
	p.op("ADD R11<<5, R9, R11")
	p.op("FMOVQ (R11), F29")
	p.op("MOVD 16(R11), R12")
}

func countBelow(p *program) {
	p.function("countBelowNEON", "(d *int32, n int, below int32) int", 32,
		"is the kernel of CountBelow for a multiple of 4 numbers.")
	p.load("d R0, n R1")
	p.op("MOVW below+16(FP), R2")
	p.v("dup v31.4s, w2")
	p.zero(1, 1)
	loop := p.label("numbers")
	p.at(loop)
	p.op("FMOVQ.P 16(R0), F0")
	p.v("cmgt v0.4s, v31.4s, v0.4s")
	p.v("sub v1.4s, v1.4s, v0.4s")
	p.op("SUBS $4, R1, R1")
	p.op("BNE %s", loop)
	p.v("addv s1, v1.4s")
	p.v("fmov w3, s1")
	p.op("MOVD R3, ret+24(FP)")
	p.op("RET")
}

func below(p *program) {
	p.function("belowNEON", "(d *int32, at *uint16, n int, below int32, outD *int32, outAt *uint16) int", 56,
		"is the kernel of Below for a multiple of 4 numbers.")
	p.load("d R0, at R1, n R2, _, outD R3, outAt R4")
	p.op("MOVW below+24(FP), R5")
	p.v("dup v31.4s, w5")
	fronts(p)
	p.op("MOVD $0, R6")
	loop := p.label("numbers")
	p.at(loop)
	p.op("FMOVQ.P 16(R0), F0")
	p.op("FMOVD.P 8(R1), F1")
	p.v("ushll v1.4s, v1.4h, 0")
	p.v("cmgt v2.4s, v31.4s, v0.4s")
	front(p, 2)
	p.v("tbl v0.16b, {v0.16b}, v29.16b")
	p.v("tbl v1.16b, {v1.16b}, v29.16b")
	p.v("xtn v1.4h, v1.4s")
	p.op("FMOVQ F0, (R3)")
	p.op("FMOVD F1, (R4)")
	p.op("ADD R12<<2, R3, R3")
	p.op("ADD R12<<1, R4, R4")
	p.op("ADD R12, R6")
	p.op("SUBS $4, R2, R2")
	p.op("BNE %s", loop)
	p.op("MOVD R6, ret+48(FP)")
	p.op("RET")
}

func prune(p *program) {
	p.function("pruneNEON", "(d *int32, norm *int32, far *int32, rows *uint32, n int, bias int32) int", 56,
		"is the kernel of Prune for a multiple of 4 numbers.")
	p.load("d R0, norm R1, far R2, rows R3, n R4")
	p.op("MOVW bias+40(FP), R5")
	p.v("dup v31.4s, w5")
	p.zero(28, 28)
	fronts(p)
	p.op("MOVD $0, R6")
	for i := range 2 {
		p.op("MOVD R%d, R%d", i, 13+i)
	}
	p.op("MOVD R3, R15")
	loop := p.label("numbers")
	p.at(loop)
	p.op("FMOVQ.P 16(R0), F0")
	p.op("FMOVQ.P 16(R1), F1")
	p.op("FMOVQ.P 16(R2), F2")
	p.op("FMOVQ.P 16(R3), F3")
	p.v("add v4.4s, v2.4s, v31.4s")
	p.v("cmge v5.4s, v4.4s, v0.4s")
	p.v("cmgt v6.4s, v4.4s, v28.4s")
	p.v("and v5.16b, v5.16b, v6.16b")
	front(p, 5)
	for i, v := range []int{0, 1, 3} {
		p.v("tbl v%d.16b, {v%d.16b}, v29.16b", v, v)
		p.op("FMOVQ F%d, (R%d)", v, 13+i)
		p.op("ADD R12<<2, R%d, R%d", 13+i, 13+i)
	}
	p.op("ADD R12, R6")
	p.op("SUBS $4, R4, R4")
	p.op("BNE %s", loop)
	p.op("MOVD R6, ret+48(FP)")
	p.op("RET")
}

func nearer(p *program) {
	p.function("nearerNEON", "(keys []float32, first uint32, below float32, rows []uint32) int", 64,
		"is the kernel of Nearer for a multiple of 4 keys.")
	p.load("keys_base R0, keys_len R1, _, _, rows_base R3")
	p.op("MOVWU first+24(FP), R2")
	p.op("FMOVS below+28(FP), F31")
	p.v("dup v31.4s, v31.s[0]")
	p.v("dup v1.4s, w2")
	fronts(p)
	p.note("V1: the rows of four keys, V28: from these to the next four")
	p.op("FMOVQ 528(R9), F28")
	p.v("add v1.4s, v1.4s, v28.4s")
	p.op("MOVD $4, R4")
	p.v("dup v28.4s, w4")
	p.op("MOVD $0, R6")
	loop := p.label("keys")
	p.at(loop)
	p.op("FMOVQ.P 16(R0), F0")
	p.v("fcmgt v2.4s, v31.4s, v0.4s")
	front(p, 2)
	p.v("tbl v0.16b, {v1.16b}, v29.16b")
	p.v("add v1.4s, v1.4s, v28.4s")
	p.op("FMOVQ F0, (R3)")
	p.op("ADD R12<<2, R3, R3")
	p.op("ADD R12, R6")
	p.op("SUBS $4, R1, R1")
	p.op("BNE %s", loop)
	p.op("MOVD R6, ret+56(FP)")
	p.op("RET")
}
