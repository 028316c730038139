package kernel

var floatGeneric = floatForm{dotGeneric, l2Generic, dotRowsGeneric, l2RowsGeneric, dotRangeGeneric, l2RangeGeneric, dotByteRowsGeneric, l2ByteRowsGeneric}

// The sums run in eight lanes: the processor overlaps them, and the error
// grows with n/8 instead of n.

func dotGeneric(a, b []float32) float32 {
	var s0, s1, s2, s3, s4, s5, s6, s7 float32
	for len(a) >= 8 && len(b) >= 8 {
		x, y := (*[8]float32)(a), (*[8]float32)(b)
		s0 += x[0] * y[0]
		s1 += x[1] * y[1]
		s2 += x[2] * y[2]
		s3 += x[3] * y[3]
		s4 += x[4] * y[4]
		s5 += x[5] * y[5]
		s6 += x[6] * y[6]
		s7 += x[7] * y[7]
		a, b = a[8:], b[8:]
	}
	for i, x := range a {
		s0 += x * b[i]
	}
	return ((s0 + s4) + (s1 + s5)) + ((s2 + s6) + (s3 + s7))
}

func l2Generic(a, b []float32) float32 {
	var s0, s1, s2, s3, s4, s5, s6, s7 float32
	for len(a) >= 8 && len(b) >= 8 {
		x, y := (*[8]float32)(a), (*[8]float32)(b)
		d0, d1, d2, d3 := x[0]-y[0], x[1]-y[1], x[2]-y[2], x[3]-y[3]
		s0 += d0 * d0
		s1 += d1 * d1
		s2 += d2 * d2
		s3 += d3 * d3
		d4, d5, d6, d7 := x[4]-y[4], x[5]-y[5], x[6]-y[6], x[7]-y[7]
		s4 += d4 * d4
		s5 += d5 * d5
		s6 += d6 * d6
		s7 += d7 * d7
		a, b = a[8:], b[8:]
	}
	for i, x := range a {
		d := x - b[i]
		s0 += d * d
	}
	return ((s0 + s4) + (s1 + s5)) + ((s2 + s6) + (s3 + s7))
}

func dotRowsGeneric(q, data []float32, stride int, rows []uint32, out []float32) {
	for i, r := range rows {
		row := data[int(r)*stride:]
		out[i] = dotGeneric(q, row[:len(q)])
	}
}

func l2RowsGeneric(q, data []float32, stride int, rows []uint32, out []float32) {
	for i, r := range rows {
		row := data[int(r)*stride:]
		out[i] = l2Generic(q, row[:len(q)])
	}
}

func dotRangeGeneric(q, data []float32, stride int, out []float32) {
	for i := range out {
		row := data[i*stride:]
		out[i] = dotGeneric(q, row[:len(q)])
	}
}

func l2RangeGeneric(q, data []float32, stride int, out []float32) {
	for i := range out {
		row := data[i*stride:]
		out[i] = l2Generic(q, row[:len(q)])
	}
}

func dotByteRowsGeneric(q []float32, data []uint8, base float32, stride int, rows []uint32, out []float32) {
	for i, r := range rows {
		out[i] = dotBytesGeneric(q, data[int(r)*stride:], base)
	}
}

func l2ByteRowsGeneric(q []float32, data []uint8, base float32, stride int, rows []uint32, out []float32) {
	for i, r := range rows {
		out[i] = l2BytesGeneric(q, data[int(r)*stride:], base)
	}
}

// The sums are those of dotGeneric and l2Generic.

func dotBytesGeneric(q []float32, row []uint8, base float32) float32 {
	var s [8]float32
	for ; len(q) >= 8 && len(row) >= 8; q, row = q[8:], row[8:] {
		x, y := (*[8]float32)(q), (*[8]uint8)(row)
		for j := range s {
			s[j] += x[j] * (base + float32(y[j]))
		}
	}
	for i, x := range q {
		s[0] += x * (base + float32(row[i]))
	}
	return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]))
}

func l2BytesGeneric(q []float32, row []uint8, base float32) float32 {
	var s [8]float32
	for ; len(q) >= 8 && len(row) >= 8; q, row = q[8:], row[8:] {
		x, y := (*[8]float32)(q), (*[8]uint8)(row)
		for j := range s {
			d := x[j] - (base + float32(y[j]))
			s[j] += d * d
		}
	}
	for i, x := range q {
		d := x - (base + float32(row[i]))
		s[0] += d * d
	}
	return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]))
}
