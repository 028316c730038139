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
	mask := byte(1<<bits - 1)
	for len(code) >= blockBytes && len(query) >= blockBytes {
		block := (*[blockBytes]byte)(code)
		for shift := 0; shift < 8; shift += bits {
			plane := (*[blockBytes]int8)(query)
			for j, b := range block {
				sum += int32(b>>shift&mask) * int32(plane[j])
			}
			query = query[blockBytes:]
		}
		code = code[blockBytes:]
	}
	return sum
}
