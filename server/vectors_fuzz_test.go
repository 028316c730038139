package server

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"runtime"
	"strconv"
	"testing"
)

// FuzzVectors reads embeddings of both forms, a list of numbers and base64.
// What is taken is to the bit what encoding/json, strconv and encoding/base64
// read, is finite, and has cost no more than its text.
func FuzzVectors(f *testing.F) {
	for _, in := range []string{
		`[1,-2.5e-3,0]`, `[1e39]`, `[3.4028235e38,3.4028236e38,1e-46,-0]`, `[]`, `[null]`, `[0.1,16777217,9007199254740993,1.1754943e-38]`, `[1,"2"]`,
		`[123456789012345678901234567890.5e-20]`, `"AACAPwAAAEA="`, `"AADAfw=="`, `"YWJj"`, `"AACA\u0050"`, `"AAC\nAPw"`, `"AACAPx=="`, `""`, `[[1]]`,
		`[7.038531e-26,1.00000017881393432617187499]`,
	} {
		f.Add([]byte(in))
	}
	limits := Limits{}.withDefaults()
	f.Add([]byte("[3,-4e-2"))
	f.Fuzz(func(t *testing.T, in []byte) {
		data := append(append([]byte("["), in...), ']')
		cut := &recordReader{scanner: &scanner{data: data[:len(data)-1]}, body: &writeBody{}, limits: &limits}
		if cut.embeddings(); cut.err == nil && !bytes.Contains(in, []byte("]")) {
			t.Errorf("%s is taken without its end", in)
		}
		r := &recordReader{scanner: &scanner{data: data}, body: &writeBody{}, limits: &limits}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r.embeddings()
		r.end()
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 100*uint64(len(in))+1<<20 {
			t.Errorf("%d bytes allocated for %d", used, len(in))
		}
		if r.err != nil || r.body.fault != nil {
			return
		}
		var want []json.RawMessage
		if err := json.Unmarshal(data, &want); err != nil || len(want) != len(r.body.records) {
			t.Fatalf("%s: %d vectors, want %d, %v", in, len(r.body.records), len(want), err)
		}
		for i, raw := range want {
			if got := r.body.records[i].Embedding; !sameVector(t, raw, got) {
				t.Errorf("%s is read as %v", raw, got)
			}
		}
	})
}

func sameVector(t *testing.T, raw []byte, got []float32) bool {
	t.Helper()
	var want []float32
	if raw[0] == '"' {
		var text string
		if json.Unmarshal(raw, &text) != nil {
			return false
		}
		b, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil || len(b)%4 != 0 {
			return false
		}
		want = make([]float32, len(b)/4)
		if err := binary.Read(bytes.NewReader(b), binary.LittleEndian, want); err != nil {
			t.Fatal(err)
		}
	} else {
		var numbers []json.Number
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if d.Decode(&numbers) != nil {
			return false
		}
		for _, n := range numbers {
			// Too small is zero, and no error: Chroma's rule.
			x, err := strconv.ParseFloat(n.String(), 32)
			if err != nil && math.IsInf(x, 0) {
				return false
			}
			want = append(want, float32(x))
		}
	}
	if len(got) != len(want) {
		return false
	}
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) || math.IsNaN(float64(got[i])) || math.IsInf(float64(got[i]), 0) {
			return false
		}
	}
	return true
}
