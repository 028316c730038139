package main

// The kernels that turn vectors into codes. All work on whole registers: what
// is left over is plain Go's. No product is fused with a sum, and sums run in
// sixteen lanes, so that the results are the bits of the generic form.

func codecs(p *program) {
	flip(p)
	hadamard(p)
	each(p, "fold", "(a *float32, b *float32, n int, factor float32)", "mixes pairs of numbers.",
		"a R0, b R1, n R2", func() {
			p.op("FMOVQ (R0), F0")
			p.op("FMOVQ (R1), F1")
			p.v("fadd v2.4s, v0.4s, v1.4s")
			p.v("fsub v3.4s, v0.4s, v1.4s")
			p.v("fmul v2.4s, v2.4s, v31.4s")
			p.v("fmul v3.4s, v3.4s, v31.4s")
			p.op("FMOVQ.P F2, 16(R0)")
			p.op("FMOVQ.P F3, 16(R1)")
		})
	each(p, "scale", "(dst *float32, x *float32, n int, factor float32)", "multiplies numbers.",
		"dst R0, x R1, n R2", func() {
			p.op("FMOVQ.P 16(R1), F0")
			p.v("fmul v0.4s, v0.4s, v31.4s")
			p.op("FMOVQ.P F0, 16(R0)")
		})
	each(p, "subtract", "(dst *float32, x *float32, n int)", "takes numbers away.",
		"dst R0, x R1, n R2", func() {
			p.op("FMOVQ (R0), F0")
			p.op("FMOVQ.P 16(R1), F1")
			p.v("fsub v0.4s, v0.4s, v1.4s")
			p.op("FMOVQ.P F0, 16(R0)")
		})
	largest(p)
	quantize(p, "quantize8NEON", "int8", false)
	quantize(p, "codes8NEON", "byte", true)
	asBytes(p)
	levels(p)
}

// each writes a loop over four numbers at a time; a factor, the parameter
// after n, is in all lanes of V31.
func each(p *program, name, signature, doc, parameters string, body func()) {
	factor := name != "subtract"
	size := 24
	if factor {
		size = 28
	}
	p.function(name+"NEON", signature, size, doc+" n is a multiple of 4, and not 0.")
	p.load(parameters)
	if factor {
		p.op("FMOVS factor+24(FP), F31")
		p.v("dup v31.4s, v31.s[0]")
	}
	loop := p.label(name)
	p.at(loop)
	body()
	p.op("SUBS $4, R2, R2")
	p.op("BNE %s", loop)
	p.op("RET")
}

// sixteens writes a loop over numbers from R0 on, sixteen at a time in V0 to V3. The
// body moves R0; left has how many there are.
func sixteens(p *program, name, left string, body func()) {
	loop := p.label(name)
	p.at(loop)
	p.op("FLDPQ (R0), (F0, F1)")
	p.op("FLDPQ 32(R0), (F2, F3)")
	body()
	p.op("SUBS $16, %s, %s", left, left)
	p.op("BNE %s", loop)
}

// flip moves the sign bits of four numbers to the top of four lanes.
func flip(p *program) {
	p.function("flipNEON", "(x *float32, signs *uint64, n int)", 24,
		"changes the sign of numbers whose bit is set. n is a multiple of 32, and not 0.")
	p.load("x R0, signs R1, n R2")
	p.note("V30: the shifts that bring bit j to the top of lane j; V31: the top bits")
	p.op("MOVD $0x1e0000001f, R3")
	p.v("ins v30.d[0], x3")
	p.op("MOVD $0x1c0000001d, R3")
	p.v("ins v30.d[1], x3")
	p.op("MOVD $0x80000000, R3")
	p.v("dup v31.4s, w3")
	loop := p.label("signs")
	p.at(loop)
	p.op("MOVWU.P 4(R1), R3")
	p.v("dup v0.4s, w3")
	for i := range 8 {
		p.op("FMOVQ %d(R0), F1", 16*i)
		p.v("ushl v2.4s, v0.4s, v30.4s")
		p.v("and v2.16b, v2.16b, v31.16b")
		p.v("eor v1.16b, v1.16b, v2.16b")
		p.op("FMOVQ F1, %d(R0)", 16*i)
		if i < 7 {
			p.v("ushr v0.4s, v0.4s, 4")
		}
	}
	p.op("ADD $128, R0")
	p.op("SUBS $32, R2, R2")
	p.op("BNE %s", loop)
	p.op("RET")
}

// hadamard takes the steps of widths 1 and 2 inside sixteen numbers, whose
// every fourth is in one register, then two steps at a time.
func hadamard(p *program) {
	p.function("hadamardNEON", "(x *float32, n int, scale float32)", 20,
		"is the kernel of the transform. n is a power of two, at least 16.")
	p.load("x R0, n R1")
	p.op("FMOVS scale+16(FP), F31")
	p.v("dup v31.4s, v31.s[0]")
	p.op("MOVD R0, R2")
	p.op("MOVD R1, R3")
	first := p.label("first")
	p.at(first)
	p.op("VLD4 (R2), [V0.S4, V1.S4, V2.S4, V3.S4]")
	for i := range 4 {
		p.v("fmul v%d.4s, v%d.4s, v31.4s", i, i)
	}
	butterfly(p)
	p.op("VST4.P [V0.S4, V1.S4, V2.S4, V3.S4], 64(R2)")
	p.op("SUBS $16, R3, R3")
	p.op("BNE %s", first)

	p.note("R4: bytes between the numbers that a step adds; R5: bytes of x")
	p.op("MOVD $16, R4")
	p.op("LSL $2, R1, R5")
	p.op("ADD R5, R0, R6")
	steps, groups, numbers, last, pairs, done := p.label("steps"), p.label("groups"), p.label("numbers"), p.label("last"), p.label("pairs"), p.label("done")
	p.at(steps)
	p.op("CMP R4<<2, R5")
	p.op("BLT %s", last)
	p.op("MOVD R0, R7")
	p.at(groups)
	p.op("ADD R4, R7, R8")
	p.op("ADD R4, R8, R9")
	p.op("ADD R4, R9, R10")
	p.op("MOVD R4, R3")
	p.at(numbers)
	for i := range 4 {
		p.op("FMOVQ (R%d), F%d", 7+i, i)
	}
	butterfly(p)
	for i := range 4 {
		p.op("FMOVQ.P F%d, 16(R%d)", i, 7+i)
	}
	p.op("SUBS $16, R3, R3")
	p.op("BNE %s", numbers)
	p.op("MOVD R10, R7")
	p.op("CMP R6, R7")
	p.op("BNE %s", groups)
	p.op("LSL $2, R4")
	p.op("JMP %s", steps)
	p.at(last)
	p.op("CMP R4<<1, R5")
	p.op("BNE %s", done)
	p.op("ADD R4, R0, R8")
	p.at(pairs)
	p.op("FMOVQ (R0), F0")
	p.op("FMOVQ (R8), F1")
	p.v("fadd v2.4s, v0.4s, v1.4s")
	p.v("fsub v3.4s, v0.4s, v1.4s")
	p.op("FMOVQ.P F2, 16(R0)")
	p.op("FMOVQ.P F3, 16(R8)")
	p.op("SUBS $16, R4, R4")
	p.op("BNE %s", pairs)
	p.at(done)
	p.op("RET")
}

// butterfly takes two steps on V0 to V3.
func butterfly(p *program) {
	p.v("fadd v4.4s, v0.4s, v1.4s")
	p.v("fsub v5.4s, v0.4s, v1.4s")
	p.v("fadd v6.4s, v2.4s, v3.4s")
	p.v("fsub v7.4s, v2.4s, v3.4s")
	p.v("fadd v0.4s, v4.4s, v6.4s")
	p.v("fadd v1.4s, v5.4s, v7.4s")
	p.v("fsub v2.4s, v4.4s, v6.4s")
	p.v("fsub v3.4s, v5.4s, v7.4s")
}

func largest(p *program) {
	p.function("largestNEON", "(x *float32, n int) float32", 20,
		"is the greatest magnitude. n is a multiple of 16, and not 0.")
	p.load("x R0, n R1")
	p.zero(4, 7)
	sixteens(p, "largest", "R1", func() {
		for i := range 4 {
			p.v("fabs v%d.4s, v%d.4s", i, i)
			p.v("fmax v%d.4s, v%d.4s, v%d.4s", 4+i, 4+i, i)
		}
		p.op("ADD $64, R0")
	})
	p.v("fmax v4.4s, v4.4s, v5.4s")
	p.v("fmax v6.4s, v6.4s, v7.4s")
	p.v("fmax v4.4s, v4.4s, v6.4s")
	p.v("fmaxv s4, v4.4s")
	p.op("FMOVS F4, ret+16(FP)")
	p.op("RET")
}

// quantize rounds to the nearest whole number, even ones winning ties. What is
// too large stays at the ends of its type when it is narrowed, and -128 goes.
func quantize(p *program, name, kind string, unsigned bool) {
	doc := "multiplies with inverse and rounds to signed bytes."
	if unsigned {
		doc = "multiplies with inverse and rounds to bytes around 128."
	}
	p.function(name, "(x *float32, inverse float32, out *"+kind+", n int)", 32,
		doc+" n is a multiple of 16, and not 0.")
	p.op("MOVD x+0(FP), R0")
	p.op("FMOVS inverse+8(FP), F31")
	p.op("MOVD out+16(FP), R1")
	p.op("MOVD n+24(FP), R2")
	p.v("dup v31.4s, v31.s[0]")
	p.v("movi v30.16b, 129") // -127
	p.v("movi v29.16b, 128")
	sixteens(p, "numbers", "R2", func() {
		for i := range 4 {
			p.v("fmul v%d.4s, v%d.4s, v31.4s", i, i)
			p.v("fcvtns v%d.4s, v%d.4s", i, i)
		}
		narrow(p)
		p.v("smax v0.16b, v0.16b, v30.16b")
		if unsigned {
			p.v("eor v0.16b, v0.16b, v29.16b")
		}
		p.op("ADD $64, R0")
		p.op("FMOVQ.P F0, 16(R1)")
	})
	p.op("RET")
}

// asBytes collects, in V31, the bits that differ when a number has been an
// integer, and those beyond a byte.
func asBytes(p *program) {
	p.function("asBytesNEON", "(x *float32, base int, out *byte, n int) uint32", 36,
		"writes numbers less base to bytes; what is lost by that is not 0. n is a multiple of 16, and not 0.")
	p.load("x R0, base R3, out R1, n R2")
	p.v("dup v30.4s, w3")
	p.zero(31, 31)
	sixteens(p, "integers", "R2", func() {
		for i := range 4 {
			p.v("fcvtzs v%d.4s, v%d.4s", 4+i, i)
			p.v("scvtf v%d.4s, v%d.4s", 16+i, 4+i)
			p.v("eor v%d.16b, v%d.16b, v%d.16b", 16+i, 16+i, i)
			p.v("orr v31.16b, v31.16b, v%d.16b", 16+i)
			p.v("sub v%d.4s, v%d.4s, v30.4s", i, 4+i)
			p.v("ushr v%d.4s, v%d.4s, 8", 16+i, i)
			p.v("orr v31.16b, v31.16b, v%d.16b", 16+i)
		}
		p.v("uzp1 v0.8h, v0.8h, v1.8h")
		p.v("uzp1 v2.8h, v2.8h, v3.8h")
		p.v("uzp1 v0.16b, v0.16b, v2.16b")
		p.op("ADD $64, R0")
		p.op("FMOVQ.P F0, 16(R1)")
	})
	p.v("umaxv s31, v31.4s")
	p.op("FMOVS F31, ret+32(FP)")
	p.op("RET")
}

// narrow puts the sixteen numbers of V0 to V3 into the bytes of V0.
func narrow(p *program) {
	p.v("sqxtn v0.4h, v0.4s")
	p.v("sqxtn2 v0.8h, v1.4s")
	p.v("sqxtn v2.4h, v2.4s")
	p.v("sqxtn2 v2.8h, v3.4s")
	p.v("sqxtn v0.8b, v0.8h")
	p.v("sqxtn2 v0.16b, v2.8h")
}

// levels works on part of one plane of one block. V4 to V7 are the sixteen
// lanes, V8 sums up squares, V28 to V31 are constants.
func levels(p *program) {
	p.function("levelsNEON", "(y *float32, n int, inverseStep float32, half int32, shift int, block *byte, lanes *[16]float32) int", 56,
		"cuts n numbers, a multiple of 16 and not 0, and adds their levels, shifted, to bytes. It returns the sum of the squares.")
	p.load("y R0, n R1, _, shift R3, block R4, lanes R5")
	p.op("FMOVS inverseStep+16(FP), F31")
	p.op("MOVW half+20(FP), R2")
	p.v("dup v31.4s, v31.s[0]")
	p.v("dup v30.4s, w2")
	p.op("MOVD $1, R6")
	p.v("dup v29.4s, w6")
	p.zero(8, 8)
	p.v("sub v28.4s, v8.4s, v30.4s")
	p.v("sub v27.4s, v30.4s, v29.4s")
	p.note("V26: the shift, V28: the lowest and V27: the highest level around zero")
	p.op("VDUP R3, V26.B16")
	p.op("FLDPQ (R5), (F4, F5)")
	p.op("FLDPQ 32(R5), (F6, F7)")
	loop := p.label("numbers")
	p.at(loop)
	p.op("FLDPQ (R0), (F16, F17)")
	p.op("FLDPQ 32(R0), (F18, F19)")
	for i := range 4 {
		p.v("fmul v%d.4s, v%d.4s, v31.4s", i, 16+i)
		p.v("fcvtms v%d.4s, v%d.4s", i, i)
		p.v("smax v%d.4s, v%d.4s, v28.4s", i, i)
		p.v("smin v%d.4s, v%d.4s, v27.4s", i, i)
		p.v("add v20.4s, v%d.4s, v%d.4s", i, i)
		p.v("add v20.4s, v20.4s, v29.4s")
		p.v("mla v8.4s, v20.4s, v20.4s")
		p.v("scvtf v20.4s, v20.4s")
		p.v("fmul v20.4s, v20.4s, v%d.4s", 16+i)
		p.v("fadd v%d.4s, v%d.4s, v20.4s", 4+i, 4+i)
	}
	narrow(p)
	p.note("half is 128 for 8 bits: it is added to bytes")
	p.op("VDUP R2, V25.B16")
	p.v("add v0.16b, v0.16b, v25.16b")
	p.v("ushl v0.16b, v0.16b, v26.16b")
	p.op("FMOVQ (R4), F1")
	p.v("orr v0.16b, v0.16b, v1.16b")
	p.op("FMOVQ.P F0, 16(R4)")
	p.op("ADD $64, R0")
	p.op("SUBS $16, R1, R1")
	p.op("BNE %s", loop)
	p.op("FSTPQ (F4, F5), (R5)")
	p.op("FSTPQ (F6, F7), 32(R5)")
	p.v("addv s8, v8.4s")
	p.v("fmov w6, s8")
	p.op("MOVD R6, ret+48(FP)")
	p.op("RET")
}
