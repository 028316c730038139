package main

// The kernels of the bulk build. Levels are unsigned bytes around 128: they
// become signed by one flipped bit, and 128 times the sum of the query is
// what the sums begin with.

func builds(p *program) {
	for _, d := range []products{&dotProduct{}, &multiply{}} {
		dot8x4(p, d)
		dot8Rows(p, d)
	}
	pack8(p)
	p.function("signed8NEON", "(out *int8, code *byte, n int)", 24,
		"flips the highest bit of n bytes, a multiple of 16.")
	p.load("out R0, code R1, n R2")
	p.v("movi v31.16b, 128")
	loop := p.label("bytes")
	p.at(loop)
	p.op("FMOVQ.P 16(R1), F0")
	p.v("eor v0.16b, v0.16b, v31.16b")
	p.op("FMOVQ.P F0, 16(R0)")
	p.op("SUBS $16, R2, R2")
	p.op("BNE %s", loop)
	p.op("RET")
	keys8(p)
	keys16(p)
	widen(p)
	sifts(p)
}

// Registers of dot8x4: V0 to V15 are the sums of four queries and sixteen
// rows, V16 to V19 sixteen numbers of each query, V20 to V23 four numbers of
// each row, V25 to V28 what the sums of each query begin with, V29 the bit to
// flip; the rest is scratch.
func dot8x4(p *program, d products) {
	p.function("dot8x4"+d.name(), "(queries []int8, stride int, packed []byte, out []int32, width int)", 88,
		"is the kernel of Dot8x8 for four queries.")
	p.load("queries_base R0, _, _, stride R1, packed_base R2, packed_len R3, _, out_base R4, _, _, width R5")
	p.v("movi v29.16b, 128")
	begin(p, d)
	p.op("LSL $2, R5")
	packs, half, numbers, second := p.label("packs"), p.label("half"), p.label("numbers"), p.label("second")
	p.at(packs)
	p.op("MOVD $0, R6")
	p.at(half)
	for i := range 16 {
		p.v("mov v%d.16b, v%d.16b", i, 25+i/4)
	}
	queriesAt(p)
	p.op("ADD R6, R2, R11")
	p.op("MOVD R1, R12")
	p.at(numbers)
	for i := range 4 {
		p.op("FMOVQ.P 16(R%d), F%d", 7+i, 16+i)
	}
	for group := range 4 {
		p.op("FLDPQ %d(R11), (F20, F21)", 128*group)
		p.op("FLDPQ %d(R11), (F22, F23)", 128*group+32)
		for r := range 4 {
			p.v("eor v%d.16b, v%d.16b, v29.16b", 20+r, 20+r)
		}
		for i := range 4 {
			d.element(p, 4*i, 16+i, group)
		}
	}
	p.op("ADD $512, R11")
	p.op("SUBS $16, R12, R12")
	p.op("BNE %s", numbers)
	p.op("ADD R6, R4, R13")
	for i := range 4 {
		p.op("FSTPQ (F%d, F%d), (R13)", 4*i, 4*i+1)
		p.op("FSTPQ (F%d, F%d), 32(R13)", 4*i+2, 4*i+3)
		p.op("ADD R5, R13")
	}
	p.op("CBNZ R6, %s", second)
	p.op("MOVD $64, R6")
	p.op("JMP %s", half)
	p.at(second)
	p.op("ADD R1<<5, R2, R2")
	p.op("ADD $128, R4")
	p.op("SUBS R1<<5, R3, R3")
	p.op("BNE %s", packs)
	p.op("RET")
}

// begin sets V25 to V28 to 128 times the sums of the four queries, in every
// lane.
func begin(p *program, d products) {
	queriesAt(p)
	p.zero(0, 7)
	p.zero(16, 16)
	p.op("MOVD R1, R12")
	loop := p.label("sums")
	p.at(loop)
	for i := range 4 {
		p.op("FMOVQ.P 16(R%d), F%d", 7+i, 20+i)
		d.begin(true)
		d.add(p, 2*i, 29, 20+i)
		d.end(p, 2*i)
	}
	p.op("SUBS $16, R12, R12")
	p.op("BNE %s", loop)
	for i := range 4 {
		p.v("add v%d.4s, v%d.4s, v%d.4s", 2*i, 2*i, 2*i+1)
		p.v("addv s%d, v%d.4s", 2*i, 2*i)
		p.v("sub v%d.4s, v16.4s, v%d.4s", 2*i, 2*i)
		p.v("dup v%d.4s, v%d.s[0]", 25+i, 2*i)
	}
}

// queriesAt sets R7 to R10 to the four queries.
func queriesAt(p *program) {
	p.op("MOVD R0, R7")
	for i := range 3 {
		p.op("ADD R1, R%d, R%d", 7+i, 8+i)
	}
}

// dot8Rows works on four rows at a time, as the score of a hop does. What is
// left of four is computed for the last row again, and not written.
func dot8Rows(p *program, d products) {
	p.function("dot8Rows"+d.name(), "(query []int8, codes []byte, stride int, rows []uint32, out []int32)", 104,
		"is the kernel of Dot8Rows.")
	p.load("query_base R20, query_len R5, _, codes_base R4, _, _, stride R6, rows_base R7, rows_len R10, _, out_base R8")
	p.v("movi v%d.16b, 128", maskAt)
	bias(p, d)
	loop, blocks, part, done := p.label("rows"), p.label("blocks"), p.label("part"), p.label("done")
	p.at(loop)
	p.op("MOVWU (R7), R21")
	for r := 1; r < 4; r++ {
		here := p.label("row")
		p.op("MOVD R%d, R%d", rowNumber+r-1, rowNumber+r)
		p.op("CMP $%d, R10", r)
		p.op("BLE %s", here)
		p.op("MOVWU %d(R7), R%d", 4*r, rowNumber+r)
		p.at(here)
	}
	p.op("ADD $16, R7")
	for r := range 4 {
		p.op("MADD R6, R4, R%d, R%d", rowNumber+r, codeRow+r)
		p.v("mov v%d.16b, v%d.16b", 2*r, biasAt)
		p.zero(2*r+1, 2*r+1)
	}
	p.op("MOVD R20, R15")
	p.op("LSR $6, R5, R19")
	p.at(blocks)
	block8(p, d)
	for r := range 4 {
		p.op("ADD $64, R%d", codeRow+r)
	}
	p.op("ADD $64, R15")
	p.op("SUBS $1, R19, R19")
	p.op("BNE %s", blocks)
	sums(p)
	p.op("SUBS $4, R10, R10")
	p.op("BLT %s", part)
	p.op("FMOVQ.P F0, 16(R8)")
	p.op("BNE %s", loop)
	p.op("RET")
	p.at(part)
	p.op("VST1 V0.S[0], (R8)")
	for r := 1; r < 3; r++ {
		p.op("CMP $%d, R10", r-4)
		p.op("BLE %s", done)
		p.op("ADD $4, R8")
		p.op("VST1 V0.S[%d], (R8)", r)
	}
	p.at(done)
	p.op("RET")
}

// pack8 turns 16 bytes of each of four rows by 4 bytes at a time. The length of
// dst says how much of each row it takes.
func pack8(p *program) {
	p.function("pack8NEON", "(dst []byte, codes []byte, stride int, rows *[packRows]uint32)", 64,
		"copies 32 rows beside each other.")
	p.load("dst_base R0, dst_len R15, _, codes_base R1, _, _, stride R2, rows R3")
	p.op("LSR $5, R15") // of 32 rows
	p.op("MOVD $8, R4")
	rows, numbers := p.label("rows"), p.label("numbers")
	p.at(rows)
	for r := range 4 {
		p.op("MOVWU.P 4(R3), R%d", 7+r)
		p.op("MADD R2, R1, R%d, R%d", 7+r, 7+r)
	}
	p.op("MOVD R0, R5")
	p.op("MOVD R15, R6")
	p.at(numbers)
	for r := range 4 {
		p.op("FMOVQ.P 16(R%d), F%d", 7+r, r)
	}
	turn(p)
	for r := range 4 {
		p.op("FMOVQ F%d, %d(R5)", r, 128*r)
	}
	p.op("ADD $512, R5")
	p.op("SUBS $16, R6, R6")
	p.op("BNE %s", numbers)
	p.op("ADD $16, R0")
	p.op("SUBS $1, R4, R4")
	p.op("BNE %s", rows)
	p.op("RET")
}

// turn makes rows of V0 to V3 columns.
func turn(p *program) {
	p.v("zip1 v4.4s, v0.4s, v1.4s")
	p.v("zip2 v5.4s, v0.4s, v1.4s")
	p.v("zip1 v6.4s, v2.4s, v3.4s")
	p.v("zip2 v7.4s, v2.4s, v3.4s")
	p.v("zip1 v0.2d, v4.2d, v6.2d")
	p.v("zip2 v1.2d, v4.2d, v6.2d")
	p.v("zip1 v2.2d, v5.2d, v7.2d")
	p.v("zip2 v3.2d, v5.2d, v7.2d")
}

func keys8(p *program) {
	p.function("keys8NEON", "(dot *int32, norm *int32, n int)", 24,
		"is the kernel of Keys8 for a multiple of 4 numbers.")
	p.load("dot R0, norm R1, n R2")
	loop := p.label("keys")
	p.at(loop)
	p.op("FMOVQ (R0), F0")
	p.op("FMOVQ.P 16(R1), F1")
	p.v("add v0.4s, v0.4s, v0.4s")
	p.v("sub v0.4s, v1.4s, v0.4s")
	p.op("FMOVQ.P F0, 16(R0)")
	p.op("SUBS $4, R2, R2")
	p.op("BNE %s", loop)
	p.op("RET")
}

// keys16 has the queries' biases in V16 to V23, and those of their keys that are for
// four rows in V0 to V3, two in a register.
func keys16(p *program) {
	p.function("keys16NEON", "(dot *int32, width int, bias *[8]int32, norm *int32, rows int, across *uint16)", 48,
		"is the kernel of Keys16.")
	p.load("dot R0, width R1, bias R2, norm R3, rows R4, across R5")
	p.op("LSL $2, R1")
	p.op("FLDPQ (R2), (F24, F25)")
	for q := range 8 {
		p.v("dup v%d.4s, v%d.s[%d]", 16+q, 24+q/4, q%4)
	}
	p.op("MOVD $0x3f800000, R6")
	p.v("dup v31.4s, w6")
	loop := p.label("rows")
	p.at(loop)
	p.op("FMOVQ.P 16(R3), F30")
	p.op("MOVD R0, R6")
	for q := range 8 {
		key := q / 2
		if q%2 == 1 {
			key = 25
		}
		p.op("FMOVQ (R6), F24")
		p.v("add v%d.4s, v30.4s, v%d.4s", key, 16+q)
		p.v("add v24.4s, v24.4s, v24.4s")
		p.v("sub v%d.4s, v%d.4s, v24.4s", key, key)
		p.v("scvtf v%d.4s, v%d.4s", key, key)
		p.v("fmax v%d.4s, v%d.4s, v31.4s", key, key)
		p.v("sub v%d.4s, v%d.4s, v31.4s", key, key)
		p.v("ushr v%d.4s, v%d.4s, 12", key, key)
		p.op("FMOVQ F%d, (R6)", key)
		p.op("ADD R1, R6")
		if q%2 == 1 {
			p.v("sli v%d.4s, v25.4s, 16", q/2)
		}
	}
	turn(p)
	for r := range 4 {
		p.op("FMOVQ F%d, %d(R5)", r, 64*r)
	}
	p.op("ADD $256, R5")
	p.op("ADD $16, R0")
	p.op("SUBS $4, R4, R4")
	p.op("BNE %s", loop)
	p.op("RET")
}

func widen(p *program) {
	p.function("widenNEON", "(out *int32, width int, in *uint16, rows int)", 32,
		"is the kernel of Widen.")
	p.load("out R0, width R1, in R2, rows R3")
	p.op("LSL $2, R1")
	loop := p.label("row")
	p.at(loop)
	for half := range 2 {
		p.op("FLDPQ.P 32(R2), (F0, F1)")
		for k := range 2 {
			p.v("ushll v%d.4s, v%d.4h, 0", 2+2*k, k)
			p.v("ushll2 v%d.4s, v%d.8h, 0", 3+2*k, k)
		}
		p.op("FSTPQ (F2, F3), %d(R0)", 64*half)
		p.op("FSTPQ (F4, F5), %d(R0)", 64*half+32)
	}
	p.op("ADD R1, R0")
	p.op("SUBS $1, R3, R3")
	p.op("BNE %s", loop)
	p.op("RET")
}
