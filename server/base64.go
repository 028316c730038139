package server

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"math"
)

// strict64 is base64 as the contract has it, line breaks apart.
var strict64 = base64.StdEncoding.Strict()

// sextets give what a character at each place of a group of four adds to the
// group's three bytes, in memory order. A character of no meaning sets a bit
// that is in none of them.
var sextets = func() (t [4][256]uint32) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for i := range t {
		for c := range t[i] {
			t[i][c] = noSextet
		}
	}
	for v := range uint32(64) {
		c := alphabet[v]
		t[0][c] = v << 2
		t[1][c] = v>>4 | v&15<<12
		t[2][c] = v>>2<<8 | v&3<<22
		t[3][c] = v << 16
	}
	return t
}()

const noSextet = 1 << 31

// quickBase64 reads an embedding that is the base64 of finite float32, of at
// most limit dimensions, and steps over it. Of anything else it reads nothing, and
// leaves to the caller what that is: false.
func (r *recordReader) quickBase64(limit int) ([]float32, bool) {
	b := r.data[r.pos+1:] // the caller has seen the quotation mark
	end := bytes.IndexByte(b, '"')
	if end < 0 || end%4 != 0 {
		return nil, false
	}
	b = b[:end]
	size := end / 4 * 3
	for tail := b; len(tail) > 0 && tail[len(tail)-1] == '=' && end-len(tail) < 2; tail = tail[:len(tail)-1] {
		size--
	}
	if size == 0 || size%4 != 0 || size/4 > limit {
		return nil, false
	}
	v := r.room(size / 4)
	to, worst, wrong := v, uint32(0), uint32(0)
	for len(to) >= 3 && len(b) > 16 { // sixteen characters are three numbers; the last may be padding
		t := &sextets
		w := t[0][b[0]] | t[1][b[1]] | t[2][b[2]] | t[3][b[3]]
		x := t[0][b[4]] | t[1][b[5]] | t[2][b[6]] | t[3][b[7]]
		y := t[0][b[8]] | t[1][b[9]] | t[2][b[10]] | t[3][b[11]]
		z := t[0][b[12]] | t[1][b[13]] | t[2][b[14]] | t[3][b[15]]
		wrong |= w | x | y | z
		w, x, y = w|x<<24, x>>8|y<<16, y>>16|z<<8
		worst = max(worst, w&exponent32, x&exponent32, y&exponent32)
		to[0], to[1], to[2] = math.Float32frombits(w), math.Float32frombits(x), math.Float32frombits(y)
		to, b = to[3:], b[16:]
	}
	var rest [12]byte
	n, err := strict64.Decode(rest[:], b)
	if err != nil || n != 4*len(to) { // fewer: there are line breaks, which the decoder steps over
		wrong = noSextet
	}
	for i := range to {
		w := binary.LittleEndian.Uint32(rest[4*i:])
		worst = max(worst, w&exponent32)
		to[i] = math.Float32frombits(w)
	}
	if wrong&noSextet != 0 || worst == exponent32 {
		r.giveBack(len(v))
		return nil, false
	}
	r.pos += end + 2
	return v, true
}

// exponent32 is the exponent of a float32; all ones are no finite number.
const exponent32 = 0x7f800000
