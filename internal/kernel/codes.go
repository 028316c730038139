package kernel

// Meta is what the key of a row needs beside its code:
//
//	key = A + B*(mul*dot + sub)
//
// where dot is the sum of the products of the row's levels and the query's
// numbers, and mul and sub belong to the query.
type Meta struct{ A, B float32 }

// Codes are vectors whose numbers were replaced by levels of 2, 4 or 8 bits.
//
// The code of row r is Data[r*Stride:(r+1)*Stride]. It is made of blocks of 64
// bytes; a block holds 512/Bits numbers in planes of 64: number j of a block
// is in byte j%64, bits j/64*Bits and up. So one shift and one mask give 64
// levels in the order of the query, which needs no rearranging.
type Codes struct {
	Data   []byte
	Meta   []Meta // one for every row
	Bits   int    // 2, 4 or 8
	Stride int    // bytes of a code, a multiple of 64
}

// blockBytes is the size of a block of levels.
const blockBytes = 64

// maxStride is a code of 65,536 numbers of 8 bits: the sum of so many
// products of a byte and a signed byte still fits 32 bits.
const maxStride = 1 << 16

// dotCode is the sum of the products of the levels in a code and the numbers
// of a query.
func dotCode(code []byte, bits int, query []int8) int32 {
	var sum int32
	width := blockBytes * 8 / bits
	for len(code) >= blockBytes && len(query) >= width {
		switch block := (*[blockBytes]byte)(code); bits {
		case 2:
			sum += dotBlock2(block, (*[4 * blockBytes]int8)(query))
		case 4:
			sum += dotBlock4(block, (*[2 * blockBytes]int8)(query))
		default:
			sum += dotBlock8(block, (*[blockBytes]int8)(query))
		}
		code, query = code[blockBytes:], query[width:]
	}
	return sum
}

func dotBlock2(code *[blockBytes]byte, q *[4 * blockBytes]int8) (sum int32) {
	for j, b := range code {
		sum += int32(b&3)*int32(q[j]) + int32(b>>2&3)*int32(q[j+blockBytes]) +
			int32(b>>4&3)*int32(q[j+2*blockBytes]) + int32(b>>6)*int32(q[j+3*blockBytes])
	}
	return sum
}

func dotBlock4(code *[blockBytes]byte, q *[2 * blockBytes]int8) (sum int32) {
	for j, b := range code {
		sum += int32(b&15)*int32(q[j]) + int32(b>>4)*int32(q[j+blockBytes])
	}
	return sum
}

func dotBlock8(code *[blockBytes]byte, q *[blockBytes]int8) (sum int32) {
	for j, b := range code {
		sum += int32(b) * int32(q[j])
	}
	return sum
}
