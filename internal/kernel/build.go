package kernel

// Kernels of the bulk build, which compares all rows of a group with each
// other. Rows are codes of 8 bits: unsigned bytes u = s + 128 on the side of
// the rows, signed bytes s on the side of the query, as the processors'
// instructions want them. A row begins every stride bytes, a multiple of 64;
// bytes behind its last number are 128, and 0 in a query.
//
// The product of a row a and a query b is <a,b> + 128*sum(b): so <a,a> minus
// twice that is the square of their distance but for 256*sum(b) + <b,b>,
// which is the same for every row.

// A buildForm compares codes of 8 bits. Slices are not empty and have the
// lengths that the exported functions ask for.
type buildForm struct {
	codes8     func(y []float32, inverse float32, out []byte)
	signed8    func(out []int8, code []byte)
	pack8      func(dst, codes []byte, stride int, rows *[packRows]uint32) // one pack, which dst is as long as
	dot8x8     func(queries []int8, stride int, packed []byte, out []int32, width int)
	dot8Rows   func(query []int8, codes []byte, stride int, rows []uint32, out []int32)
	least8     func(queries []int8, bias *[2]int32, codes []byte, stride int, rows []uint32, norm, one, least []int32)
	keys8      func(dot, norm []int32)
	keys16     func(dot []int32, width int, bias *[8]int32, norm []int32, across []uint16)
	widen      func(out []int32, width int, in []uint16)
	countBelow func(d []int32, below int32) int
	below      func(d []int32, at []uint16, below int32, outD []int32, outAt []uint16) int
	prune      func(d, norm, far []int32, rows []uint32, bias int32) int
	twoAtOnce  bool // least8 takes hardly longer than dot8Rows
}

var buildGeneric = buildForm{codes8Generic, signed8Generic, pack8Generic, dot8x8Generic,
	dot8RowsGeneric, least8Generic, keys8Generic, keys16Generic, widenGeneric, countBelowGeneric, belowGeneric, pruneGeneric, false}

// byFours is dot8x8 of a kernel that takes four queries.
func byFours(four func(queries []int8, stride int, packed []byte, out []int32, width int)) func([]int8, int, []byte, []int32, int) {
	return func(queries []int8, stride int, packed []byte, out []int32, width int) {
		four(queries, stride, packed, out, width)
		four(queries[4*stride:], stride, packed, out[4*width:], width)
	}
}

// packRows is how many rows a pack holds side by side.
const packRows = 32

// Codes8 writes the numbers of y, times inverse and rounded, as bytes around
// 128, and sets what is left of out to 128. Numbers beyond ±127 become that.
func Codes8(y []float32, inverse float32, out []byte) {
	atLeast(len(out), len(y))
	rest := out[len(y):]
	for i := range rest {
		rest[i] = 128
	}
	if out = out[:len(y)]; len(y) > 0 {
		active.codes8(y, inverse, out)
	}
}

// Signed8 sets out to the signed bytes of the row at code, of len(code) bytes.
func Signed8(out []int8, code []byte) {
	atLeast(len(out), len(code))
	if out = out[:len(code)]; len(code) > 0 {
		active.signed8(out, code)
	}
}

// Pack8 copies the first width bytes of the rows that the list names, each of
// stride bytes, in groups of 4: a pack is 32 rows, of which bytes 0 to 3 come first,
// row by row, then bytes 4 to 7, and so on. The last row is repeated until the last
// pack is full: dst must hold width bytes for each row of len(rows) rounded up to
// a multiple of 32.
func Pack8(dst, codes []byte, stride, width int, rows []uint32) {
	if len(rows) == 0 || width == 0 {
		return
	}
	atLeast(stride, width)
	insideBytes(codes, stride, rows)
	whole(width, blockBytes)
	packs := (len(rows) + packRows - 1) / packRows
	atLeast(len(dst), packs*packRows*width)
	for p := range packs {
		var pack [packRows]uint32
		n := copy(pack[:], rows[p*packRows:])
		for i := n; i < packRows; i++ {
			pack[i] = pack[n-1]
		}
		active.pack8(dst[p*packRows*width:(p+1)*packRows*width], codes, stride, &pack)
	}
}

// Dot8x8 sets out[i*width+j] to the inner product of the signed query i, of
// eight that begin stride bytes apart, and row j of the packs that Pack8
// wrote. width must be at least the number of rows in the packs.
func Dot8x8(queries []int8, stride int, packed []byte, out []int32, width int) {
	if stride == 0 || len(packed) == 0 {
		return
	}
	whole(stride, blockBytes)
	whole(len(packed), packRows*stride)
	rows := len(packed) / stride
	atLeast(width, rows)
	atLeast(len(queries), 8*stride)
	atLeast(len(out), 7*width+rows)
	// The scheduler cannot interrupt assembly: a few packs at a time.
	piece := max(1, preemptAfter/(packRows*stride)) * packRows
	for first := 0; first < rows; first += piece {
		last := min(first+piece, rows)
		active.dot8x8(queries, stride, packed[first*stride:last*stride], out[first:], width)
	}
}

// Dot8Rows sets out[i] to the inner product of the signed query and the row
// rows[i], which begins at codes[rows[i]*stride:] and has len(query) bytes, a
// multiple of 64. len(out) must be at least len(rows).
func Dot8Rows(query []int8, codes []byte, stride int, rows []uint32, out []int32) {
	if len(rows) == 0 {
		return
	}
	atLeast(len(out), len(rows))
	out = out[:len(rows)]
	if len(query) == 0 {
		clear(out)
		return
	}
	whole(len(query), blockBytes)
	atLeast(stride, len(query))
	insideBytes(codes, stride, rows)
	piece := max(16, preemptAfter/len(query))
	for len(rows) > piece {
		active.dot8Rows(query, codes, stride, rows[:piece], out)
		rows, out = rows[piece:], out[piece:]
	}
	active.dot8Rows(query, codes, stride, rows, out)
}

// Keys8 sets dot[i] to norm[i] - 2*dot[i]. len(norm) must be at least len(dot).
func Keys8(dot, norm []int32) {
	atLeast(len(norm), len(dot))
	if norm = norm[:len(dot)]; len(dot) > 0 {
		active.keys8(dot, norm)
	}
}

// keyShift leaves 11 bits of a fraction.
const keyShift = 12

// Keys16 is Keys8 for eight queries, whose products with the rows begin width apart in dot:
// it makes keys of bias[i] + norm[j] - 2*dot[i*width+j], which is the square of a distance,
// and the same whichever of the two is the query. A key has 16 bits, five of the binary
// exponent and eleven of the fraction, and is 0 for 1 and what is less: keys ascend with the
// distance. Those of query i and row j are put to dot[i*width+j] and to across[32*j+i].
// len(norm) is a multiple of 32.
func Keys16(dot []int32, width int, bias *[8]int32, norm []int32, across []uint16) {
	rows := len(norm)
	if rows == 0 {
		return
	}
	whole(rows, packRows)
	atLeast(width, rows)
	atLeast(len(dot), 7*width+rows)
	atLeast(len(across), (rows-1)*packRows+8)
	active.keys16(dot, width, bias, norm, across)
}

// Widen sets out[j*width+i] to in[32*j+i]. len(in) is a multiple of 32, and width at least that.
func Widen(out []int32, width int, in []uint16) {
	if len(in) == 0 {
		return
	}
	whole(len(in), packRows)
	atLeast(width, packRows)
	atLeast(len(out), (len(in)/packRows-1)*width+packRows)
	active.widen(out, width, in)
}

// CountBelow is how many of d are less than below.
func CountBelow(d []int32, below int32) int {
	if len(d) == 0 {
		return 0
	}
	return active.countBelow(d, below)
}

// Below writes the numbers of d that are less than below to outD, and what at
// has beside them to outAt, both in their order, and returns how many there
// are. at, outD and outAt must be as long as d; what is written behind the
// result has no meaning. d may be outD, and at may be outAt.
func Below(d []int32, at []uint16, below int32, outD []int32, outAt []uint16) int {
	atLeast(len(at), len(d))
	atLeast(len(outD), len(d))
	atLeast(len(outAt), len(d))
	if len(d) == 0 {
		return 0
	}
	return active.below(d, at[:len(d)], below, outD, outAt)
}

// TwoAtOnce reports whether Least8 takes hardly longer than Dot8Rows: where two products are made in the
// time that it takes to read the rows. Elsewhere it is plain Go.
func TwoAtOnce() bool { return active.twoAtOnce }

// Least8 is for two signed queries that lie one behind the other, each of a multiple of 64 bytes. It sets
// one[i] to bias[0] + norm[i] - 2*p, where p is the product of the first with the row rows[i],
// which begins at codes[rows[i]*stride:], and least[i] to the lesser of this and what it is for the second.
// norm, one and least must be at least as long as rows, and none of them may be another.
func Least8(queries []int8, bias *[2]int32, codes []byte, stride int, rows []uint32, norm, one, least []int32) {
	if len(rows) == 0 {
		return
	}
	atLeast(len(norm), len(rows))
	atLeast(len(one), len(rows))
	atLeast(len(least), len(rows))
	size := len(queries) / 2
	whole(len(queries), 2*blockBytes)
	atLeast(size, 1)
	atLeast(stride, size)
	insideBytes(codes, stride, rows)
	piece := max(16, preemptAfter/size)
	for len(rows) > piece {
		active.least8(queries, bias, codes, stride, rows[:piece], norm, one, least)
		rows, norm, one, least = rows[piece:], norm[piece:], one[piece:], least[piece:]
	}
	active.least8(queries, bias, codes, stride, rows, norm, one, least)
}

// Prune is what choosing links leaves of the candidates for others: bias + far[i]
// is how far rows[i] is from what was just chosen. Those that are nearer to this
// than rows[i] is to the node that is linked, d[i], or at no distance of it, go. The others move to
// the front of d, norm and rows, which are of one length, in their order.
// Prune returns how many they are; far stays as it is.
func Prune(d, norm, far []int32, rows []uint32, bias int32) int {
	sameLength(len(norm), len(d))
	sameLength(len(rows), len(d))
	atLeast(len(far), len(d))
	if len(d) == 0 {
		return 0
	}
	return active.prune(d, norm, far, rows, bias)
}

// insideBytes panics when a row of stride bytes is not inside codes.
func insideBytes(codes []byte, stride int, rows []uint32) {
	var last, a, b, c uint32 // one comparison does not wait for the one before
	for ; len(rows) >= 4; rows = rows[4:] {
		last, a, b, c = max(last, rows[0]), max(a, rows[1]), max(b, rows[2]), max(c, rows[3])
	}
	for _, r := range rows {
		last = max(last, r)
	}
	atLeast(len(codes)/stride, int(max(last, a, b, c))+1)
}
