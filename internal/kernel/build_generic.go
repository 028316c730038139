package kernel

import "math"

func codes8Generic(y []float32, inverse float32, out []byte) {
	for i, v := range y {
		v = min(max(float32(v*inverse), -127), 127)
		out[i] = byte(int(float32(v+roundMagic)-roundMagic) + 128)
	}
}

func signed8Generic(out []int8, code []byte) {
	for i, u := range code {
		out[i] = int8(u ^ 128)
	}
}

func pack8Generic(dst, codes []byte, stride int, rows *[packRows]uint32) {
	for j, r := range rows {
		row := codes[int(r)*stride:][:len(dst)/packRows]
		for g := 0; g+4 <= len(row); g += 4 {
			copy(dst[g*packRows+4*j:][:4], row[g:g+4])
		}
	}
}

func dot8x8Generic(queries []int8, stride int, packed []byte, out []int32, width int) {
	size := packRows * stride
	for first := 0; len(packed) >= size; packed, first = packed[size:], first+packRows {
		for i := range 8 {
			dot8Pack(queries[i*stride:(i+1)*stride], packed[:size], (*[packRows]int32)(out[i*width+first:]))
		}
	}
}

// dot8Pack compares one query with the rows of one pack.
func dot8Pack(query []int8, pack []byte, out *[packRows]int32) {
	clear(out[:])
	for len(query) >= 4 {
		q0, q1, q2, q3 := int32(query[0]), int32(query[1]), int32(query[2]), int32(query[3])
		group := (*[4 * packRows]byte)(pack)
		for j := range out {
			out[j] += q0*int32(group[4*j]) + q1*int32(group[4*j+1]) + q2*int32(group[4*j+2]) + q3*int32(group[4*j+3])
		}
		query, pack = query[4:], pack[4*packRows:]
	}
}

func dot8RowsGeneric(query []int8, codes []byte, stride int, rows []uint32, out []int32) {
	for i, r := range rows {
		q, row := query, codes[int(r)*stride:]
		var s0, s1, s2, s3 int32
		for len(q) >= 4 && len(row) >= 4 {
			s0 += int32(q[0]) * int32(row[0])
			s1 += int32(q[1]) * int32(row[1])
			s2 += int32(q[2]) * int32(row[2])
			s3 += int32(q[3]) * int32(row[3])
			q, row = q[4:], row[4:]
		}
		out[i] = s0 + s1 + s2 + s3
	}
}

func least8Generic(queries []int8, bias *[2]int32, codes []byte, stride int, rows []uint32, norm, one, least []int32) {
	size := len(queries) / 2
	dot8RowsGeneric(queries[:size], codes, stride, rows, one)
	dot8RowsGeneric(queries[size:], codes, stride, rows, least)
	for i := range rows {
		one[i] = bias[0] + norm[i] - 2*one[i]
		least[i] = min(one[i], bias[1]+norm[i]-2*least[i])
	}
}

func keys8Generic(dot, norm []int32) {
	for i, d := range dot {
		dot[i] = norm[i] - 2*d
	}
}

func keys16Generic(dot []int32, width int, bias *[8]int32, norm []int32, across []uint16) {
	for i, b := range bias {
		row := dot[i*width:][:len(norm)]
		for j, d := range row {
			key := math.Float32bits(max(1, float32(b+norm[j]-2*d)))
			key = (key - math.Float32bits(1)) >> keyShift
			row[j], across[packRows*j+i] = int32(key), uint16(key)
		}
	}
}

func widenGeneric(out []int32, width int, in []uint16) {
	for first := 0; len(in) > 0; first, in = first+width, in[packRows:] {
		row := out[first:][:packRows]
		for i, x := range in[:packRows] {
			row[i] = int32(x)
		}
	}
}

func countBelowGeneric(d []int32, below int32) int {
	n := 0
	for _, v := range d {
		if v < below {
			n++
		}
	}
	return n
}

func belowGeneric(d []int32, at []uint16, below int32, outD []int32, outAt []uint16) int {
	n := 0
	for i, v := range d {
		name := at[i]
		outD[n], outAt[n] = v, name
		if v < below {
			n++
		}
	}
	return n
}

func pruneGeneric(d, norm, far []int32, rows []uint32, bias int32) int {
	return pruneRest(d, norm, far, rows, bias, 0, 0)
}

// pruneRest is prune for what begins at from, when n have stayed before.
func pruneRest(d, norm, far []int32, rows []uint32, bias int32, n, from int) int {
	norm, far, rows = norm[:len(d)], far[:len(d)], rows[:len(d)]
	for i := from; i < len(d); i++ {
		far, near := bias+far[i], d[i]
		d[n], norm[n], rows[n] = near, norm[i], rows[i]
		if far >= near && far > 0 {
			n++
		}
	}
	return n
}
