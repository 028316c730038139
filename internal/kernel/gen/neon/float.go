package main

// The float32 kernels. A row has four running sums of four lanes: numbers 16k
// to 16k+15 go to all four, what is left goes four at a time to the first,
// the last two to the second and the last one to the third. A pair, a gather
// and a sequence add in this order, so that they round alike. Four rows run
// side by side where there are four: they share the loads of the query, and
// their sixteen sums hide the latency of the additions.

// A metric adds the products or squared differences of one register of the
// query and one of the row to a sum. temp may be overwritten.
type metric struct {
	name  string
	step  func(p *program, sum, query, row, temp int)
	bytes bool // of the rows, padded, to each of which V31 is added
}

var metrics = []metric{
	{name: "dot", step: func(p *program, sum, query, row, temp int) {
		p.v("fmla v%d.4s, v%d.4s, v%d.4s", sum, query, row)
	}},
	{name: "l2", step: func(p *program, sum, query, row, temp int) {
		p.v("fsub v%d.4s, v%d.4s, v%d.4s", temp, query, row)
		p.v("fmla v%d.4s, v%d.4s, v%d.4s", sum, temp, temp)
	}},
}

// Registers that the loops over a row share: R0 is the query, R2 the length
// of a row, R7 to R10 are four rows, R11 to R14 those to prefetch, R15 and
// R19 are at the query and count down.
const (
	firstRow  = 7
	firstNext = 11
	querySum  = 16 // V16 to V19 hold numbers of the query, V20 to V31 those of rows; with bytes V20 to V27, and V28 to V30 those on their way
)

func floats(p *program) {
	for _, m := range metrics {
		p.function(m.name+"NEON", "(a []float32, b []float32) float32", 52,
			"is the kernel for one pair of vectors of one length.")
		p.load("a_base R0, a_len R2, _, b_base R7")
		m.rows(p, 1, false)
		p.op("FMOVS F0, ret+48(FP)")
		p.op("RET")

		p.function(m.name+"RowsNEON", "(q []float32, data []float32, stride int, rows []uint32, out []float32)", 104,
			"is the kernel for one query and at least one row by number.")
		p.load("q_base R0, q_len R2, _, data_base R1, _, _, stride R3, rows_base R4, rows_len R5, _, out_base R6")
		p.op("LSL $2, R3")
		m.gather(p)

		p.function(m.name+"ByteRowsNEON", "(q []float32, data []uint8, base float32, stride int, rows []uint32, out []float32)", 112,
			"is the kernel for one query and at least one row of bytes by number.")
		p.load("q_base R0, q_len R2, _, data_base R1, _, _, _, stride R3, rows_base R4, rows_len R5, _, out_base R6")
		p.op("FMOVS base+48(FP), F31")
		p.v("dup v31.4s, v31.s[0]")
		inBytes := m
		inBytes.bytes = true
		inBytes.gather(p)

		p.function(m.name+"RangeNEON", "(q []float32, data []float32, stride int, out []float32)", 80,
			"is the kernel for one query and at least one of the rows in sequence.")
		p.load("q_base R0, q_len R2, _, data_base R1, _, _, stride R3, out_base R6, out_len R5")
		p.op("LSL $2, R3")
		m.sequence(p)
	}
}

func (m metric) gather(p *program) {
	four, rest, done := p.label("four"), p.label("rest"), p.label("done")
	p.note("R20 is the last row number: the rows to prefetch stop there")
	p.op("SUB $1, R5, R20")
	p.op("MOVWU (R4)(R20<<2), R20")
	p.op("SUBS $4, R5, R5")
	p.op("BLT %s", rest)
	p.at(four)
	p.op("LDPW (R4), (R7, R8)")
	p.op("LDPW 8(R4), (R9, R10)")
	p.op("ADD $16, R4")
	for i := range 4 {
		p.op("MADD R3, R1, R%d, R%d", firstRow+i, firstRow+i)
	}
	for i := range 4 {
		next := firstNext + i
		whole := p.label("next")
		p.op("MOVD R20, R%d", next)
		p.op("CMP $%d, R5", i)
		p.op("BLE %s", whole)
		p.op("MOVWU %d(R4), R%d", 4*i, next)
		p.at(whole)
		p.op("MADD R3, R1, R%d, R%d", next, next)
	}
	m.rows(p, 4, true)
	p.op("FMOVQ.P F0, 16(R6)")
	p.op("SUBS $4, R5, R5")
	p.op("BGE %s", four)
	p.at(rest)
	p.op("ADDS $4, R5, R5")
	p.op("BEQ %s", done)
	one := p.label("one")
	p.at(one)
	p.op("MOVWU.P 4(R4), R7")
	p.op("MADD R3, R1, R7, R7")
	m.rows(p, 1, false)
	p.op("FMOVS.P F0, 4(R6)")
	p.op("SUBS $1, R5, R5")
	p.op("BNE %s", one)
	p.at(done)
	p.op("RET")
}

func (m metric) sequence(p *program) {
	four, rest, done, one := p.label("four"), p.label("rest"), p.label("done"), p.label("one")
	p.op("SUBS $4, R5, R5")
	p.op("BLT %s", rest)
	p.at(four)
	p.op("MOVD R1, R7")
	p.op("ADD R3, R7, R8")
	p.op("ADD R3, R8, R9")
	p.op("ADD R3, R9, R10")
	p.op("ADD R3, R10, R1")
	m.rows(p, 4, false)
	p.op("FMOVQ.P F0, 16(R6)")
	p.op("SUBS $4, R5, R5")
	p.op("BGE %s", four)
	p.at(rest)
	p.op("ADDS $4, R5, R5")
	p.op("BEQ %s", done)
	p.at(one)
	p.op("MOVD R1, R7")
	p.op("ADD R3, R1, R1")
	m.rows(p, 1, false)
	p.op("FMOVS.P F0, 4(R6)")
	p.op("SUBS $1, R5, R5")
	p.op("BNE %s", one)
	p.at(done)
	p.op("RET")
}

// rows leaves the results of one or four rows in the lanes of V0. The rows
// at R11 and on are prefetched line by line when prefetch says so.
func (m metric) rows(p *program, count int, prefetch bool) {
	p.zero(0, 4*count-1)
	lanes, pairs, single, sum := p.label("lanes"), p.label("pairs"), p.label("single"), p.label("sum")
	p.op("MOVD R0, R15")
	p.op("SUBS $16, R2, R19")
	p.op("BLT %s", lanes)
	blocks := p.label("blocks")
	p.at(blocks)
	p.op("FLDPQ (R15), (F16, F17)")
	p.op("FLDPQ 32(R15), (F18, F19)")
	p.op("ADD $64, R15")
	for r := range count {
		if prefetch {
			p.op("PRFM (R%d), PLDL1KEEP", firstNext+r)
			p.op("ADD $%d, R%d", m.block(), firstNext+r)
		}
		t := 20 + 4*(r%2)
		if m.bytes {
			p.op("FMOVQ.P 16(R%d), F28", firstRow+r)
			m.widen(p, t)
		} else {
			t = 20 + 4*(r%3)
			p.op("FLDPQ (R%d), (F%d, F%d)", firstRow+r, t, t+1)
			p.op("FLDPQ 32(R%d), (F%d, F%d)", firstRow+r, t+2, t+3)
			p.op("ADD $64, R%d", firstRow+r)
		}
		for j := range 4 {
			m.step(p, 4*r+j, querySum+j, t+j, t+j)
		}
	}
	p.op("SUBS $16, R19, R19")
	p.op("BGE %s", blocks)

	// R19 is what is left, less 16: its low bits are those of what is left.
	p.at(lanes)
	p.op("ADDS $12, R19, R19")
	p.op("BLT %s", pairs)
	p.at(lanes + "_loop")
	m.tail(p, count, "FMOVQ", 16, 0)
	p.op("SUBS $4, R19, R19")
	p.op("BGE %s_loop", lanes)
	p.note("a load of two or one number clears the other lanes")
	p.at(pairs)
	p.op("TBZ $1, R19, %s", single)
	m.tail(p, count, "FMOVD", 8, 1)
	p.at(single)
	p.op("TBZ $0, R19, %s", sum)
	m.tail(p, count, "FMOVS", 4, 2)
	p.at(sum)
	for r := range count {
		s := 4 * r
		p.v("fadd v%d.4s, v%d.4s, v%d.4s", s, s, s+1)
		p.v("fadd v%d.4s, v%d.4s, v%d.4s", s+2, s+2, s+3)
		p.v("fadd v%d.4s, v%d.4s, v%d.4s", s, s, s+2)
	}
	fold(p, "faddp", count)
}

// fold adds the four lanes of V0, or of V0, V4, V8 and V12 beside each other.
func fold(p *program, add string, count int) {
	pair := func(d, a, b int) { p.v("%s v%d.4s, v%d.4s, v%d.4s", add, d, a, b) }
	if count == 1 {
		pair(0, 0, 0)
		pair(0, 0, 0)
		return
	}
	pair(0, 0, 4)
	pair(8, 8, 12)
	pair(0, 0, 8)
}

// block is the bytes of 16 numbers of a row.
func (m metric) block() int {
	if m.bytes {
		return 16
	}
	return 64
}

// widen makes numbers in four registers from t on of the bytes in V28.
func (m metric) widen(p *program, t int) {
	p.v("ushll v29.8h, v28.8b, 0")
	p.v("ushll2 v30.8h, v28.16b, 0")
	for half := range 2 {
		p.v("ushll v%d.4s, v%d.4h, 0", t+2*half, 29+half)
		p.v("ushll2 v%d.4s, v%d.8h, 0", t+2*half+1, 29+half)
	}
	for i := range 4 {
		m.number(p, t+i)
	}
}

// number makes numbers of the integers in a register.
func (m metric) number(p *program, t int) {
	p.v("scvtf v%d.4s, v%d.4s", t, t)
	p.v("fadd v%d.4s, v%d.4s, v31.4s", t, t)
}

// tail adds one load of each row to its sum.
func (m metric) tail(p *program, count int, load string, size, sum int) {
	p.op("%s.P %d(R15), F16", load, size)
	for r := range count {
		if m.bytes {
			p.op("%s.P %d(R%d), R21", map[int]string{16: "MOVWU", 8: "MOVHU", 4: "MOVBU"}[size], size/4, firstRow+r)
			p.op("FMOVS R21, F%d", 20+r)
			p.v("ushll v%d.8h, v%d.8b, 0", 20+r, 20+r)
			p.v("ushll v%d.4s, v%d.4h, 0", 20+r, 20+r)
			m.number(p, 20+r)
			if size < 16 {
				p.note("which clears the other lanes")
				p.op("%s F%d, F%d", load, 20+r, 20+r)
			}
		} else {
			p.op("%s.P %d(R%d), F%d", load, size, firstRow+r, 20+r)
		}
		m.step(p, 4*r+sum, 16, 20+r, 24+r)
	}
}
