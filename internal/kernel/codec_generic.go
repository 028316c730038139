package kernel

import "math"

func flipGeneric(x []float32, signs []uint64) {
	for w, word := range signs {
		part := x[64*w:]
		for j := range part[:min(64, len(part))] {
			bit := uint32(word>>j) << 31
			part[j] = math.Float32frombits(math.Float32bits(part[j]) ^ bit)
		}
	}
}

// Two steps of the transform go over the numbers at a time.
func hadamardGeneric(x []float32, scale float32) {
	for i := range x {
		x[i] *= scale
	}
	h := 1
	for ; 4*h <= len(x); h *= 4 {
		for i := 0; i < len(x); i += 4 * h {
			p, q, r, s := x[i:i+h], x[i+h:i+2*h], x[i+2*h:i+3*h], x[i+3*h:i+4*h]
			for j := range p {
				a, b, c, d := p[j], q[j], r[j], s[j]
				a, b, c, d = a+b, a-b, c+d, c-d
				p[j], q[j], r[j], s[j] = a+c, b+d, a-c, b-d
			}
		}
	}
	if 2*h == len(x) {
		p, q := x[:h], x[h:]
		for j, a := range p {
			b := q[j]
			p[j], q[j] = a+b, a-b
		}
	}
}

func foldGeneric(a, b []float32) {
	b = b[:len(a)]
	for i, p := range a {
		q := b[i]
		a[i], b[i] = (p+q)*rootHalf, (p-q)*rootHalf
	}
}

// levelsGeneric goes over planes, one after the other: the order of the
// products is part of their sum.
func levelsGeneric(y []float32, inverseStep float32, bits int, code []byte) (vy, vv float32) {
	half := float32(int(1) << (bits - 1))
	var lanes [16]float32
	var squares int64
	for ; len(code) > 0; code = code[64:] {
		block := (*[64]byte)(code)
		clear(block[:])
		for shift := 0; shift < 8; shift += bits {
			plane := y[:min(len(y), 64)]
			y = y[len(plane):]
			for j, x := range plane {
				level := min(max(floor32(x*inverseStep), -half), half-1)
				v := 2*level + 1
				lanes[j%16] += float32(v * x)
				squares += int64(v) * int64(v)
				block[j] |= byte(int(level)+int(half)) << shift
			}
		}
	}
	return addLanes(&lanes), float32(squares)
}

func floor32(x float32) float32 { return float32(math.Floor(float64(x))) }

// addLanes adds as the registers do: halves, then halves again.
func addLanes(s *[16]float32) float32 {
	for h := 8; h > 0; h /= 2 {
		for i := range h {
			s[i] += s[i+h]
		}
	}
	return s[0]
}

func largestGeneric(x []float32) (most float32) {
	for _, v := range x {
		most = max(most, math.Float32frombits(math.Float32bits(v)&^(1<<31)))
	}
	return most
}

// roundMagic, added and taken away again, leaves a float32 of magnitude below
// 2^22 rounded to the nearest whole number, even ones winning ties.
const roundMagic = 3 << 22

func quantize8Generic(x []float32, inverse float32, out []int8) {
	for i, v := range x {
		v = float32(v * inverse)
		out[i] = int8(min(max(float32(v+roundMagic)-roundMagic, -127), 127))
	}
}

func asBytesGeneric(x []float32, base int32, out []byte) (lost uint32) {
	out = out[:len(x)]
	for i, v := range x {
		n := int32(v) // of what is no integer of 32 bits: any
		lost |= math.Float32bits(float32(n)) ^ math.Float32bits(v)
		n -= base
		lost |= uint32(n) &^ math.MaxUint8
		out[i] = uint8(n)
	}
	return lost
}

func scaleGeneric(dst, x []float32, factor float32) {
	for i, v := range x {
		dst[i] = v * factor
	}
}

func subtractGeneric(dst, x []float32) {
	for i, v := range x {
		dst[i] -= v
	}
}
