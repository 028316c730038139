package kernel

import (
	"encoding/binary"
	"math"
)

// panelRows is the number of rows in a panel.
const panelRows = 16

// Panels are codes for who compares all of them, in order. The codes of sixteen
// rows are interleaved by four bytes: first those of the first four bytes, then of
// the next four. So the products of sixteen rows with the same numbers of a query
// go to sixteen lanes of a register, whose sums need no adding across lanes, which
// for rows one by one takes longer than the products (André et al., Cache locality
// is not enough: high-performance nearest neighbor search with product quantization
// fast scan, VLDB 2015, section 4, has codes lie so).
type Panels struct {
	bits, stride int
	rows         int
	data         []byte
	meta         []Meta // of whole panels: rows that are none are farther than everything
}

// wholePanels is how many rows the panels of n rows have room for.
func wholePanels(n int) int { return (n + panelRows - 1) / panelRows * panelRows }

// PanelBytes is the memory that n rows of a code of stride bytes take.
func PanelBytes(n, stride int) int { return wholePanels(n) * (stride + 8) }

// NewPanels copies the first stride bytes of the codes of rows, in this order: all of
// them, or fewer blocks of 64. It panics when one is no row.
func NewPanels(c *Codes, stride int, rows []uint32) *Panels {
	whole := wholePanels(len(rows))
	p := &Panels{bits: c.Bits, stride: stride, rows: len(rows), data: make([]byte, whole*stride), meta: make([]Meta, whole)}
	for i := range p.meta {
		if i >= len(rows) {
			p.meta[i].A = float32(math.Inf(1))
			continue
		}
		r := int(rows[i])
		p.meta[i] = c.Meta[r]
		code := c.Data[r*c.Stride:][:c.Stride][:stride]
		to := p.data[i/panelRows*panelRows*stride+i%panelRows*4:]
		for at := 0; at < len(code); at += 4 {
			binary.NativeEndian.PutUint32(to[at*panelRows:], binary.NativeEndian.Uint32(code[at:]))
		}
	}
	return p
}

// Width is how many numbers a query for them has.
func (p *Panels) Width() int { return p.stride * 8 / p.bits }

// Len is the number of rows.
func (p *Panels) Len() int { return p.rows }

// Bytes is the memory that they take.
func (p *Panels) Bytes() int { return len(p.data) + 8*len(p.meta) }

// Meta is that of the code of row i.
func (p *Panels) Meta(i uint32) Meta { return p.meta[i] }

// AimPanels empties the batch and prepares for ScorePanels, see Aim. Nothing else may
// be called before the Hop is aimed at something else.
func (h *Hop) AimPanels(p *Panels, query []int8, mul, sub float32) {
	h.Forget()
	c := Codes{Data: p.data, Meta: p.meta, Bits: p.bits, Stride: p.stride}
	aimable(&c, len(query), (len(p.meta)+63)/64)
	h.panels, h.aim, h.query, h.codes, h.meta = p, query, first(query), first(p.data), first(p.meta)
	h.stride, h.bits, h.mul, h.sub = p.stride, int32(p.bits), mul, sub
	for i := range h.least {
		h.least[i] = float32(math.Inf(1))
	}
}

// Bound is a key that sixteen of the rows which ScorePanels has scored since the Hop
// was aimed have, or less, whatever they were to be below; +Inf when it scored fewer.
func (h *Hop) Bound() float32 {
	bound := h.least[0]
	for _, key := range h.least[1:] {
		if key > bound {
			bound = key
		}
	}
	return bound
}

// BoundRows is how many rows Bound speaks of.
const BoundRows = panelRows

// ScorePanels works out the keys of rows first to first+n, or fewer where they end. It
// returns those that are less than below, with their rows, ascending, which are valid
// until the next call. first and n are multiples of 16, n is RangeMost at most. A call of
// assembly reads one panel at least, of the widest codes a megabyte.
func (h *Hop) ScorePanels(first, n int, below float32) (keys []float32, rows []uint32) {
	p := h.panels
	roomFor(n, RangeMost)
	whole(first|n, panelRows)
	if n = min(n, p.rows-first); n <= 0 {
		return nil, nil
	}
	_ = p.meta[first:][:n]
	h.below = below
	out, end := 0, wholePanels(first+n)/panelRows
	score, piece := active.panels.of(h), max(1, preemptAfter/(h.stride*panelRows))
	for at := first / panelRows; at < end; at += piece {
		out = score(h, at, min(at+piece, end), out)
	}
	return h.keys[:out], h.rows[:out]
}

// RangeMost is the most rows of one ScorePanels.
const RangeMost = batch

func panelsGeneric(h *Hop, first, last, out int) int {
	planes := 8 / int(h.bits)
	mask := byte(1<<h.bits - 1)
	for at := first; at < last; at++ {
		var dots [panelRows]int32
		data := h.panels.data[at*panelRows*h.stride:][:panelRows*h.stride]
		for i, b := range data {
			// Byte j of the code, for row i/4%16.
			j := i/(4*panelRows)*4 + i%4
			q := h.aim[j/blockBytes*planes*blockBytes+j%blockBytes:]
			sum := int32(b&mask) * int32(q[0])
			for p := 1; p < planes; p++ {
				b >>= h.bits
				sum += int32(b&mask) * int32(q[p*blockBytes])
			}
			dots[i/4%panelRows] += sum
		}
		for i, dot := range dots {
			row := at*panelRows + i
			// Rounded as in scoreGeneric.
			t := float32(h.mul*float32(dot)) + h.sub
			m := h.panels.meta[row]
			key := float32(m.B*t) + m.A
			if key < h.least[i] {
				h.least[i] = key
			}
			if key < h.below {
				h.keys[out], h.rows[out] = key, uint32(row)
				out++
			}
		}
	}
	return out
}
