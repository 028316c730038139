package main

// The kernels of a step of a search. They read a Hop, whose fields' places
// come from the header that the compiler writes for assembly.

func hops(p *program) {
	gather(p)
	for _, d := range []products{&dotProduct{}, &multiply{}} {
		score(p, d)
		panels(p, d)
	}
	offer(p)
	p.function("prefetchNEON", "(s []uint32)", 24,
		"starts to fetch two cache lines.")
	p.load("s_base R0")
	p.op("PRFM (R0), PLDL1KEEP")
	p.op("PRFM 64(R0), PLDL1KEEP")
	p.op("RET")
}

// gather writes every link to the batch and steps over those that are new:
// whether one is new cannot be predicted, so nothing branches on it. What is
// no row counts as the last one: the bytes of links may have changed since
// they were checked.
func gather(p *program) {
	p.function("gatherNEON", "(h *Hop, links []uint32)", 32,
		"is the kernel of Hop.Gather, for at least one link.")
	p.load("h R0, links_base R1, links_len R2")
	p.op("MOVD Hop_n(R0), R3")
	p.op("MOVD Hop_visited(R0), R4")
	p.op("ADD $Hop_rows, R0, R5")
	p.op("ADD R3<<2, R5, R5")
	p.op("MOVD R5, R6")
	p.op("MOVD $1, R7")
	p.op("MOVWU Hop_last(R0), R13")
	links, fetch, done := p.label("links"), p.label("fetch"), p.label("done")
	p.at(links)
	p.op("MOVWU.P 4(R1), R8")
	p.op("CMP R13, R8")
	p.op("CSEL LO, R8, R13, R8")
	p.op("LSR $6, R8, R9")
	p.op("MOVD (R4)(R9<<3), R10")
	p.op("LSL R8, R7, R11")
	p.op("MOVW R8, (R5)")
	p.op("ORR R10, R11, R12")
	p.op("MOVD R12, (R4)(R9<<3)")
	p.op("TST R10, R11")
	p.op("CSET EQ, R12")
	p.op("ADD R12<<2, R5, R5")
	p.op("SUBS $1, R2, R2")
	p.op("BNE %s", links)

	p.op("SUBS R6, R5, R2")
	p.op("BEQ %s", done)
	p.op("ADD R2>>2, R3, R3")
	p.op("MOVD R3, Hop_n(R0)")
	p.op("MOVD Hop_codes(R0), R8")
	p.op("MOVD Hop_meta(R0), R9")
	p.op("MOVD Hop_stride(R0), R10")
	p.op("MOVD Hop_lines(R0), R11")
	p.at(fetch)
	p.op("MOVWU.P 4(R6), R12")
	p.op("ADD R12<<3, R9, R13")
	p.op("PRFM (R13), PLDL1KEEP")
	p.op("MADD R10, R8, R12, R13")
	p.op("PRFM (R13), PLDL1KEEP")
	next := p.label("next")
	for line := 1; line < 4; line++ {
		p.op("CMP $%d, R11", line)
		p.op("BLE %s", next)
		p.op("PRFM %d(R13), PLDL1KEEP", 64*line)
	}
	p.at(next)
	p.op("CMP R5, R6")
	p.op("BNE %s", fetch)
	p.at(done)
	p.op("RET")
}

// Vector registers of score: V0 to V7 are the sums, two of each row, V8 to
// V11 constants of the query, V16 to V23 its numbers, V31 the mask of a level
// or the bit that makes an unsigned byte a signed one. The rest is scratch.
const (
	mulAt, subAt, belowAt, biasAt = 8, 9, 10, 11
	maskAt                        = 31
	codeRow                       = 11 // R11 to R14: the codes of four rows
	rowNumber                     = 21 // R21 to R24: their numbers
)

// A scoring is what differs between the kernels that make keys of codes.
type scoring struct {
	name, doc string
	signature string
	size      int            // of parameters and results
	out       string         // the parameter that says where keys go, and its register
	mask      int            // the register of a level's mask
	begin     func()         // sets pointers to the first row
	rows      func(bits int) // goes through all rows
	end       func()         // writes the result
}

// write leaves the codes in R4, the stride in R5, the constants of rows in R6, the
// query in R20, and the number of what there is to do, one at least, in R10.
func (k *scoring) write(p *program, d products) {
	p.function(k.name+d.name(), k.signature, k.size, k.doc)
	p.load("h R0, first R1, last R2, " + k.out)
	p.op("MOVD Hop_codes(R0), R4")
	p.op("MOVD Hop_stride(R0), R5")
	p.op("MOVD Hop_meta(R0), R6")
	p.op("MOVD Hop_query(R0), R20")
	p.op("SUB R1, R2, R10")
	k.begin()
	for i, field := range []string{"mul", "sub", "below"} {
		p.op("FMOVS Hop_%s(R0), F%d", field, mulAt+i)
		p.v("dup v%d.4s, v%d.s[0]", mulAt+i, mulAt+i)
	}
	p.op("MOVW Hop_bits(R0), R25")
	two, eight, end := p.label("two"), p.label("eight"), p.label("end")
	p.op("CMP $4, R25")
	p.op("BLT %s", two)
	p.op("BGT %s", eight)
	p.v("movi v%d.16b, 15", k.mask)
	k.rows(4)
	p.op("JMP %s", end)
	p.at(two)
	p.v("movi v%d.16b, 3", k.mask)
	k.rows(2)
	p.op("JMP %s", end)
	p.at(eight)
	p.v("movi v%d.16b, 128", maskAt)
	bias(p, d)
	k.rows(8)
	p.at(end)
	k.end()
	p.op("RET")
}

// score works on four rows at a time, which share the loads of the query. Places for keys
// and rows that are near enough are in R8 and R9, the numbers of rows in R7.
// Behind the batch its last row is repeated: what is left of four is computed
// as four, and not written.
func score(p *program, d products) {
	k := scoring{
		name: "score", doc: "is the kernel of Hop.Score.", mask: maskAt,
		signature: "(h *Hop, first int, last int, out int) int", size: 40, out: "out R3",
		begin: func() {
			p.op("ADD $Hop_rows, R0, R7")
			p.op("ADD R3<<2, R7, R9")
			p.op("ADD $Hop_keys, R0, R8")
			p.op("ADD R3<<2, R8, R8")
			p.op("ADD R1<<2, R7, R7")
		},
		rows: func(bits int) { scoreRows(p, d, widths[bits]) },
		end: func() {
			p.op("ADD $Hop_rows, R0, R7")
			p.op("SUB R7, R9, R9")
			p.op("LSR $2, R9, R9")
			p.op("MOVD R9, ret+32(FP)")
		},
	}
	k.write(p, d)
}

// bias sets V11 to lanes whose sum is 128 times the sum of the query's
// numbers: what is missing when 128 is taken from every level to make it a
// signed byte.
func bias(p *program, d products) {
	p.zero(0, 1)
	p.op("LSR $5, R5, R19") // of panels, the last block may be half of one
	p.op("MOVD R20, R15")
	loop := p.label("bias")
	p.at(loop)
	loadQuery(p, 0)
	d.begin(true)
	for i := range 2 {
		d.add(p, 0, maskAt, 16+i)
	}
	d.end(p, 0)
	p.op("ADD $32, R15")
	p.op("SUBS $1, R19, R19")
	p.op("BNE %s", loop)
	p.zero(biasAt, biasAt)
	p.v("add v0.4s, v0.4s, v1.4s")
	p.v("sub v%d.4s, v%d.4s, v0.4s", biasAt, biasAt)
}

// loadQuery loads 32 numbers of the query from each of the offsets.
func loadQuery(p *program, offsets ...int) {
	for i, at := range offsets {
		p.op("FLDPQ %d(R15), (F%d, F%d)", at, 16+2*i, 17+2*i)
	}
}

// A width emits the sums of one block of 64 bytes for four rows, and says how
// many bytes of the query belong to it.
type width struct {
	query int
	block func(p *program, d products)
	bias  bool
}

var widths = map[int]width{
	2: {256, block2, false},
	4: {128, block4, false},
	8: {64, block8, true},
}

// Scratch registers come in two sets that take turns.
var scratch = [2][4]int{{24, 25, 26, 27}, {12, 13, 14, 15}}

func block8(p *program, d products) {
	loadQuery(p, 0, 32)
	for r := range 4 {
		d.begin(true)
		for half := range 2 {
			t := scratch[half]
			p.op("FLDPQ %d(R%d), (F%d, F%d)", 32*half, codeRow+r, t[0], t[1])
			for i := range 2 {
				p.v("eor v%d.16b, v%d.16b, v%d.16b", t[i], t[i], maskAt)
				d.add(p, 2*r, t[i], 16+2*half+i)
			}
		}
		d.end(p, 2*r)
	}
}

func block4(p *program, d products) {
	loadQuery(p, 0, 32, 64, 96)
	for r := range 4 {
		d.begin(false)
		for half := range 2 {
			t := scratch[half]
			p.op("FLDPQ %d(R%d), (F%d, F%d)", 32*half, codeRow+r, t[0], t[1])
			for i := range 2 {
				p.v("and v%d.16b, v%d.16b, v%d.16b", t[2+i], t[i], maskAt)
				p.v("ushr v%d.16b, v%d.16b, 4", t[i], t[i])
				d.add(p, 2*r, t[2+i], 16+2*half+i)
				d.add(p, 2*r, t[i], 20+2*half+i)
			}
		}
		d.end(p, 2*r)
	}
}

// block2 works on half a block at a time: sixteen registers of the query
// would leave too few for the rest.
func block2(p *program, d products) {
	for half := range 2 {
		loadQuery(p, 32*half, 64+32*half, 128+32*half, 192+32*half)
		for r := range 4 {
			d.begin(false)
			t, level := scratch[0], scratch[1]
			p.op("FLDPQ %d(R%d), (F%d, F%d)", 32*half, codeRow+r, t[0], t[1])
			for plane := range 4 {
				for i := range 2 {
					from, to := t[i], level[(2*plane+i)%4]
					if plane > 0 {
						p.v("ushr v%d.16b, v%d.16b, %d", to, from, 2*plane)
						from = to
					}
					if plane < 3 {
						p.v("and v%d.16b, v%d.16b, v%d.16b", to, from, maskAt)
					}
					d.add(p, 2*r, to, 16+2*plane+i)
				}
			}
			d.end(p, 2*r)
		}
	}
}

func scoreRows(p *program, d products, w width) {
	loop, blocks, next := p.label("rows"), p.label("blocks"), p.label("next")
	p.at(loop)
	p.op("LDPW (R7), (R21, R22)")
	p.op("LDPW 8(R7), (R23, R24)")
	p.op("ADD $16, R7")
	for r := range 4 {
		p.op("MADD R5, R4, R%d, R%d", rowNumber+r, codeRow+r)
	}
	for r := range 4 {
		p.zero(2*r, 2*r+1)
		if w.bias {
			p.v("mov v%d.16b, v%d.16b", 2*r, biasAt)
		}
	}
	p.op("MOVD R20, R15")
	p.op("LSR $6, R5, R19")
	p.at(blocks)
	w.block(p, d)
	for r := range 4 {
		p.op("ADD $64, R%d", codeRow+r)
	}
	p.op("ADD $%d, R15", w.query)
	p.op("SUBS $1, R19, R19")
	p.op("BNE %s", blocks)

	p.note("V16: A and V17: B of the four rows")
	for r := range 4 {
		p.op("FMOVD (R6)(R%d<<3), F%d", rowNumber+r, 16+r)
	}
	sums(p)
	p.v("zip1 v18.2d, v18.2d, v19.2d")
	p.v("zip1 v19.2d, v16.2d, v17.2d")
	p.v("uzp1 v16.4s, v19.4s, v18.4s")
	p.v("uzp2 v17.4s, v19.4s, v18.4s")
	p.note("every product is rounded, as in the generic form")
	p.v("scvtf v0.4s, v0.4s")
	p.v("fmul v0.4s, v0.4s, v%d.4s", mulAt)
	p.v("fadd v0.4s, v0.4s, v%d.4s", subAt)
	p.v("fmul v0.4s, v0.4s, v17.4s")
	p.v("fadd v0.4s, v0.4s, v16.4s")
	p.v("fcmgt v1.4s, v%d.4s, v0.4s", belowAt)
	p.v("umaxv s2, v1.4s")
	p.v("fmov w25, s2")
	p.op("CBZW R25, %s", next)
	for r := range 4 {
		if r > 0 {
			p.op("CMP $%d, R10", r)
			p.op("BLE %s", next)
		}
		p.op("VST1 V0.S[%d], (R8)", r)
		p.op("MOVW R%d, (R9)", rowNumber+r)
		p.v("umov w25, v1.s[%d]", r)
		p.op("SUB R25.SXTW<<2, R8, R8")
		p.op("SUB R25.SXTW<<2, R9, R9")
	}
	p.at(next)
	p.op("SUBS $4, R10, R10")
	p.op("BGT %s", loop)
}

// sums leaves the sums of the four rows in the lanes of V0.
func sums(p *program) {
	for r := range 4 {
		p.v("add v%d.4s, v%d.4s, v%d.4s", 2*r, 2*r, 2*r+1)
	}
	p.v("addp v0.4s, v0.4s, v2.4s")
	p.v("addp v4.4s, v4.4s, v6.4s")
	p.v("addp v0.4s, v0.4s, v4.4s")
}
