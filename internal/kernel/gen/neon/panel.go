package main

// Vector registers of panels beside those of score: V0 to V3 are the sums of four
// rows each, V12 to V15 a column of the codes, V16 to V19 four columns' numbers of the
// query, by plane.
const (
	columnAt = 12
	planeAt  = 16
	levelAt  = 20 // what element reads
	leastAt  = 25
	panelAt  = 29 // as maskAt, which element of multiply uses
)

// panels is score for panels, whose lanes are rows.
func panels(p *program, d products) {
	k := scoring{name: "panels", doc: "is the kernel of Hop.PanelKeys.", mask: panelAt}
	k.signature, k.size, k.out = "(h *Hop, first int, last int, keys []float32)", 48, "keys_base R8"
	k.begin = func() {
		p.op("LSL $4, R1, R21")
		p.op("MADD R5, R4, R21, R4")
		p.op("ADD R21<<3, R6, R6")
	}
	k.rows = func(bits int) {
		if bits == 8 {
			p.v("addv s0, v%d.4s", biasAt)
			p.v("dup v%d.4s, v0.s[0]", biasAt)
			p.v("movi v%d.16b, 128", panelAt)
		}
		scorePanels(p, d, bits)
	}
	k.end = func() {
		for pair := range 2 {
			p.op("ADD $(Hop_least+%d), R0, R23", 32*pair)
			p.op("FSTPQ (F%d, F%d), (R23)", leastAt+2*pair, leastAt+2*pair+1)
		}
	}
	k.write(p, d)
}

func scorePanels(p *program, d products, bits int) {
	planes := 8 / bits
	loop, blocks := p.label("panels"), p.label("blocks")
	for pair := range 2 {
		p.op("ADD $(Hop_least+%d), R0, R23", 32*pair)
		p.op("FLDPQ (R23), (F%d, F%d)", leastAt+2*pair, leastAt+2*pair+1)
	}
	p.at(loop)
	p.zero(0, 3)
	if bits == 8 {
		for g := range 4 {
			p.v("mov v%d.16b, v%d.16b", g, biasAt)
		}
	}
	p.op("MOVD R20, R15")
	p.op("LSR $4, R5, R19") // fours of columns that are left
	p.at(blocks)
	fours := p.label("fours")
	p.op("MOVD $4, R16")
	p.op("CMP R16, R19")
	p.op("CSEL LT, R19, R16, R16") // the last block may be half of one
	p.op("SUB R16, R19, R19")
	p.at(fours)
	for plane := range planes {
		p.op("FMOVQ %d(R15), F%d", 64*plane, planeAt+plane)
	}
	for c := range 4 {
		for pair := range 2 {
			p.op("FLDPQ %d(R4), (F%d, F%d)", 64*c+32*pair, columnAt+2*pair, columnAt+2*pair+1)
		}
		for plane := range planes {
			for g := range 4 {
				level(p, columnAt+g, levelAt+g, plane, bits)
			}
			d.element(p, 0, planeAt+plane, c)
		}
	}
	p.op("ADD $256, R4")
	p.op("ADD $16, R15")
	p.op("SUBS $1, R16, R16")
	p.op("BNE %s", fours)
	if planes > 1 {
		p.op("ADD $%d, R15", 64*(planes-1))
	}
	p.op("CBNZ R19, %s", blocks)

	for g := range 4 {
		keepFour(p, g)
	}
	p.op("ADD $128, R6")
	p.op("SUBS $1, R10, R10")
	p.op("BGT %s", loop)
}

// level takes the levels of a plane out of bytes.
func level(p *program, from, to, plane, bits int) {
	if bits == 8 {
		p.v("eor v%d.16b, v%d.16b, v%d.16b", to, from, panelAt)
		return
	}
	if plane > 0 {
		p.v("ushr v%d.16b, v%d.16b, %d", to, from, plane*bits)
		from = to
	}
	if plane < 8/bits-1 {
		p.v("and v%d.16b, v%d.16b, v%d.16b", to, from, panelAt)
	}
}

// keepFour makes keys of the sums of rows 4g to 4g+3, and writes them.
func keepFour(p *program, g int) {
	p.op("FLDPQ %d(R6), (F16, F17)", 32*g)
	p.v("uzp1 v18.4s, v16.4s, v17.4s")
	p.v("uzp2 v19.4s, v16.4s, v17.4s")
	p.v("scvtf v%d.4s, v%d.4s", g, g)
	p.v("fmul v%d.4s, v%d.4s, v%d.4s", g, g, mulAt)
	p.v("fadd v%d.4s, v%d.4s, v%d.4s", g, g, subAt)
	p.v("fmul v%d.4s, v%d.4s, v19.4s", g, g)
	p.v("fadd v%d.4s, v%d.4s, v18.4s", g, g)
	p.v("fminnm v%d.4s, v%d.4s, v%d.4s", leastAt+g, leastAt+g, g)
	p.op("FMOVQ.P F%d, 16(R8)", g)
}
