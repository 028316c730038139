//go:build !purego

package kernel

var codecNEON = codecForm{flipWhole, hadamardWhole, foldWhole, levelsWhole,
	largestWhole, quantize8Whole, asBytesWhole, scaleWhole, subtractWhole}

// The assembly works on whole registers, plain Go on what is left.

func flipWhole(x []float32, signs []uint64) {
	n := len(x) &^ 63
	if n > 0 {
		flipNEON(&x[0], &signs[0], n)
	}
	if n < len(x) {
		flipGeneric(x[n:], signs[n/64:])
	}
}

func hadamardWhole(x []float32, scale float32) {
	if len(x) < 16 {
		hadamardGeneric(x, scale)
		return
	}
	hadamardNEON(&x[0], len(x), scale)
}

func foldWhole(a, b []float32) {
	n := len(a) &^ 3
	if n > 0 {
		foldNEON(&a[0], &b[0], n, rootHalf)
	}
	foldGeneric(a[n:], b[n:])
}

// levelsWhole hands the numbers of one plane of one block at a time to the
// assembly, in lots of sixteen: what is left goes to the same lanes.
func levelsWhole(y []float32, inverseStep float32, bits int, code []byte) (vy, vv float32) {
	half := int32(1) << (bits - 1)
	var lanes [16]float32
	squares := 0
	clear(code)
	for plane := 0; len(y) > 0; plane++ {
		shift := plane % (8 / bits) * bits
		block := code[plane/(8/bits)*64:][:64]
		part := y[:min(64, len(y))]
		y = y[len(part):]
		whole := len(part) &^ 15
		if whole > 0 {
			squares += levelsNEON(&part[0], whole, inverseStep, half, shift, &block[0], &lanes)
		}
		for j, x := range part[whole:] {
			level := min(max(floor32(x*inverseStep), float32(-half)), float32(half-1))
			v := 2*level + 1
			lanes[j] += float32(v * x)
			squares += int(v) * int(v)
			block[whole+j] |= byte(int32(level)+half) << shift
		}
	}
	return addLanes(&lanes), float32(squares)
}

func largestWhole(x []float32) float32 {
	n := len(x) &^ 15
	most := largestGeneric(x[n:])
	if n > 0 {
		most = max(most, largestNEON(&x[0], n))
	}
	return most
}

func quantize8Whole(x []float32, inverse float32, out []int8) {
	n := len(x) &^ 15
	if n > 0 {
		quantize8NEON(&x[0], inverse, &out[0], n)
	}
	quantize8Generic(x[n:], inverse, out[n:])
}

func asBytesWhole(x []float32, base int32, out []byte) (lost uint32) {
	n := len(x) &^ 15
	if n > 0 {
		lost = asBytesNEON(&x[0], int(base), &out[0], n)
	}
	return lost | asBytesGeneric(x[n:], base, out[n:])
}

func scaleWhole(dst, x []float32, factor float32) {
	n := len(x) &^ 3
	if n > 0 {
		scaleNEON(&dst[0], &x[0], n, factor)
	}
	scaleGeneric(dst[n:], x[n:], factor)
}

func subtractWhole(dst, x []float32) {
	n := len(x) &^ 3
	if n > 0 {
		subtractNEON(&dst[0], &x[0], n)
	}
	subtractGeneric(dst[n:], x[n:])
}
