package kernel

import (
	"encoding/binary"
	"math"
	"slices"
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

// PanelBytes is the memory that n rows of a code of stride bytes take.
func PanelBytes(n, stride int) int { return WholePanels(n) * (stride + 8) }

// NewPanels copies the first stride bytes of the codes of rows, in this order: all of
// them, or fewer blocks of 64, of the last of which half may do. It panics when one is no row.
func NewPanels(c *Codes, stride int, rows []uint32) *Panels {
	whole := WholePanels(len(rows))
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

// Width is how many numbers a query for them has, whole blocks.
func (p *Panels) Width() int {
	return (p.stride + blockBytes - 1) / blockBytes * blockBytes * 8 / p.bits
}

// Stride is how many bytes of a code they have. Where half of the last block is
// missing, they have the first 32 of every 64 numbers of a query's last block.
func (p *Panels) Stride() int { return p.stride }

// Len is the number of rows.
func (p *Panels) Len() int { return p.rows }

// Bytes is the memory that they take.
func (p *Panels) Bytes() int { return len(p.data) + 8*len(p.meta) }

// Meta is that of the code of row i.
func (p *Panels) Meta(i uint32) Meta { return p.meta[i] }

// AimPanels empties the batch and prepares for PanelKeys, see Aim. Nothing else may
// be called before the Hop is aimed at something else.
func (h *Hop) AimPanels(p *Panels, query []int8, mul, sub float32) {
	h.Forget()
	c := Codes{Data: p.data, Meta: p.meta, Bits: p.bits, Stride: p.stride}
	aimable(&c, len(query), (len(p.meta)+63)/64, blockBytes/2)
	h.panels, h.aim, h.query, h.codes, h.meta = p, query, first(query), first(p.data), first(p.meta)
	h.stride, h.bits, h.mul, h.sub = p.stride, int32(p.bits), mul, sub
	for i := range h.least {
		h.least[i] = float32(math.Inf(1))
	}
}

// PanelKeys sets keys to those of rows from first on. There are whole panels of both:
// what lies behind the last row has a key that is not less than any. A call of assembly reads one
// panel at least, of the widest codes a megabyte.
func (h *Hop) PanelKeys(first int, keys []float32) {
	p := h.panels
	whole(first|len(keys), panelRows)
	if len(keys) == 0 {
		return
	}
	_ = p.meta[first:][:len(keys)]
	score, at, end := active.panels.of(h), first/panelRows, (first+len(keys))/panelRows
	for piece := max(1, preemptAfter/(h.stride*panelRows)); at < end; at += piece {
		score(h, at, min(at+piece, end), keys[at*panelRows-first:])
	}
}

// Bound is a key that n of the rows which PanelKeys has looked at since the Hop was aimed
// have, or less; n is BoundMost at most. Of many rows in any order 4.4 do for an n of 4,
// 15 for one of 10, and 54 for one of 16. It is +Inf when n rows were not told to be nearer.
func (h *Hop) Bound(n int) float32 {
	atLeast(n, 1)
	atLeast(BoundMost, n)
	return active.bound(h.least[:], int32(n))
}

// BoundMost is the most rows that Bound speaks of.
const BoundMost = panelRows

// WholePanels is how many keys PanelKeys sets for n rows.
func WholePanels(n int) int { return (n + panelRows - 1) / panelRows * panelRows }

// Nearer writes first+i to rows for every keys[i] that is less than below, in order, and
// returns those. There are keys of whole panels, and rows is as long at least: what lies
// behind the result is overwritten.
func Nearer(keys []float32, first uint32, below float32, rows []uint32) []uint32 {
	whole(len(keys), panelRows)
	atLeast(len(rows), len(keys))
	if len(keys) == 0 {
		return rows[:0]
	}
	return rows[:active.nearer(keys, first, below, rows)]
}

func boundGeneric(least []float32, n int32) float32 {
	var sorted [panelRows]float32
	copy(sorted[:], least)
	slices.Sort(sorted[:])
	return sorted[n-1]
}

func nearerGeneric(keys []float32, first uint32, below float32, rows []uint32) int {
	n := 0
	for i, key := range keys {
		rows[n] = first + uint32(i)
		if key < below {
			n++
		}
	}
	return n
}

func panelsGeneric(h *Hop, first, last int, keys []float32) {
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
			// Rounded as in scoreGeneric.
			t := float32(h.mul*float32(dot)) + h.sub
			m := h.panels.meta[at*panelRows+i]
			key := float32(m.B*t) + m.A
			keys[(at-first)*panelRows+i] = key
			if key < h.least[i] {
				h.least[i] = key
			}
		}
	}
}
