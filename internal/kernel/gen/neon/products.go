package main

// products emits sums of products of bytes, levels times numbers of a query,
// into two registers of four lanes each: sum and sum+1. Which lane a product
// goes to is not told. begin and end enclose what belongs to one row of one
// block, at most eight registers of levels; wide says that levels use all
// eight bits, as signed numbers.
type products interface {
	name() string
	begin(wide bool)
	add(p *program, sum, levels, query int)
	end(p *program, sum int)
	// element adds the products of four registers, V20 to V23, each of four
	// rows by four numbers, and one group of four numbers of a query, to four
	// sums of four lanes, one lane for each row.
	element(p *program, sum, query, group int)
}

// dotProduct needs the dot product instructions of ARMv8.2. The two sums take
// turns, as each addition waits for the one before it.
type dotProduct struct{ turn int }

func (*dotProduct) name() string { return "Dot" }

func (d *dotProduct) begin(bool) { d.turn = 0 }

func (d *dotProduct) add(p *program, sum, levels, query int) {
	p.v("sdot v%d.4s, v%d.16b, v%d.16b", sum+d.turn, levels, query)
	d.turn ^= 1
}

func (*dotProduct) end(*program, int) {}

func (*dotProduct) element(p *program, sum, query, group int) {
	for r := range 4 {
		p.v("sdot v%d.4s, v%d.16b, v%d.4b[%d]", sum+r, 20+r, query, group)
	}
}

// multiply does with ARMv8.0. The products of small levels are summed up in
// 16 bits, in V28 and V30: at most eight of 15*128 fit a lane. Those of
// whole bytes go to 32 bits at once.
type multiply struct {
	wide    bool
	started bool
}

func (*multiply) name() string { return "Mul" }

func (m *multiply) begin(wide bool) { m.wide, m.started = wide, false }

func (m *multiply) add(p *program, sum, levels, query int) {
	form := "smull"
	if m.started {
		form = "smlal"
	}
	p.v("%s v28.8h, v%d.8b, v%d.8b", form, levels, query)
	p.v("%s2 v30.8h, v%d.16b, v%d.16b", form, levels, query)
	m.started = !m.wide
	if m.wide {
		m.flush(p, sum)
	}
}

func (m *multiply) end(p *program, sum int) {
	if m.started {
		m.flush(p, sum)
	}
}

func (*multiply) element(p *program, sum, query, group int) {
	p.v("dup v24.4s, v%d.s[%d]", query, group)
	for r := range 4 {
		p.v("smull v30.8h, v%d.8b, v24.8b", 20+r)
		p.v("smull2 v31.8h, v%d.16b, v24.16b", 20+r)
		p.v("saddlp v30.4s, v30.8h")
		p.v("saddlp v31.4s, v31.8h")
		p.v("addp v30.4s, v30.4s, v31.4s")
		p.v("add v%d.4s, v%d.4s, v30.4s", sum+r, sum+r)
	}
}

func (m *multiply) flush(p *program, sum int) {
	p.v("sadalp v%d.4s, v28.8h", sum)
	p.v("sadalp v%d.4s, v30.8h", sum+1)
}
