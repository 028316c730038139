package server

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"
)

// quick reads text as an embedding, at most 40 dimensions.
func quick(text []byte) (v []float32, ok bool, rest int) {
	r := &recordReader{scanner: &scanner{data: append(append([]byte{'"'}, text...), `"]`...)}}
	v, ok = r.quickBase64(40)
	return v, ok, len(r.data) - r.pos
}

// plain decodes what quickBase64 has to take: nil for all else.
func plain(text []byte) []float32 {
	raw, err := base64.StdEncoding.Strict().DecodeString(string(text))
	if err != nil || len(raw) == 0 || len(raw)%4 != 0 || len(raw) > 160 || bytes.ContainsAny(text, "\r\n") {
		return nil
	}
	v := make([]float32, len(raw)/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		if f := float64(v[i]); math.IsNaN(f) || math.IsInf(f, 0) {
			return nil
		}
	}
	return v
}

func sameQuick(t *testing.T, text []byte) {
	t.Helper()
	want := plain(text)
	got, ok, rest := quick(text)
	if ok != (want != nil) || ok && rest != 1 || !ok && rest != len(text)+3 {
		t.Fatalf("%q: read %t, %d bytes left, want %t", text, ok, rest, want != nil)
	}
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%q: number %d is %v, want %v", text, i, got[i], want[i])
		}
	}
}

// TestQuickBase64: exactly what is strict base64 of finite numbers is read, for every
// length of the end, and with every byte at every place.
func TestQuickBase64(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 50 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(r.NormFloat64())
		}
		text := []byte(packed(v...))
		sameQuick(t, text)
		if n > 9 {
			continue
		}
		for at := range text {
			kept := text[at]
			for c := range 256 {
				if text[at] = byte(c); c != '"' {
					sameQuick(t, text)
				}
			}
			text[at] = kept
		}
	}
	inf := float32(math.Inf(1))
	for at := range 7 {
		v := make([]float32, 7)
		v[at] = inf
		sameQuick(t, []byte(packed(v...)))
	}
}

func BenchmarkBase64(b *testing.B) {
	v := make([]float32, 384)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	data := []byte(`"` + packed(v...) + `"`)
	limits := Limits{}.withDefaults()
	b.SetBytes(int64(len(data)))
	rd := &recordReader{scanner: &scanner{data: data}, body: &writeBody{}, limits: &limits}
	for b.Loop() {
		rd.pos, rd.used = 0, 0
		if len(rd.base64(0)) != 384 {
			b.Fatal("not read")
		}
	}
}
