package wal

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// Whatever byte is damaged, one entry is lost at most: that of the frame it is
// in. The others come in order, as they were written, and the damage is told.
func TestSalvageOneByte(t *testing.T) {
	for name, o := range sealers() {
		rng := rand.New(rand.NewPCG(1, 1))
		fs := shelf(t, o)
		for _, file := range walFiles(fs) {
			original := content(t, fs, file)
			for at := 0; at < len(original); at += 7 {
				b := bytes.Clone(original)
				b[at] ^= byte(1 + rng.IntN(255))
				replace(t, fs, file, b)
				lost, findings, last := 9, 0, uint64(0)
				for e, err := range Salvage(fs, Position{}, o) {
					if err != nil {
						findings++
						continue
					}
					if string(e.Payload) != fmt.Sprintf("entry %d", e.Position.Seq) || e.Position.Seq <= last {
						t.Fatalf("%s: %s, byte %d: entry %v after %d is %q", name, file, at, e.Position, last, e.Payload)
					}
					last = e.Position.Seq
					lost--
				}
				if lost > 1 || findings != 1 {
					t.Errorf("%s: %s, byte %d: %d entries lost, %d findings", name, file, at, lost, findings)
				}
			}
			replace(t, fs, file, original)
		}
	}
}

// What the checkpoint covers is not yielded.
func TestSalvageFrom(t *testing.T) {
	var got []uint64
	for e, err := range Salvage(shelf(t, Options{}), Position{Seq: 5}, Options{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Position.Seq)
	}
	if fmt.Sprint(got) != "[5 6 7 8 9]" {
		t.Error(got)
	}
}

// A file that is gone leaves a gap of its own entries.
func TestSalvageMissingFile(t *testing.T) {
	for i, want := range []string{"[4 5 6 7 8 9]", "[1 2 3 7 8 9]", "[1 2 3 4 5 6] missing"} {
		fs := shelf(t, Options{})
		if err := fs.Remove(walFiles(fs)[i]); err != nil {
			t.Fatal(err)
		}
		var got []uint64
		text := ""
		for e, err := range Salvage(fs, Position{}, Options{}) {
			if err != nil {
				text = " missing"
				continue
			}
			got = append(got, e.Position.Seq)
		}
		if fmt.Sprint(got)+text != want {
			t.Errorf("without file %d: %v%s, want %s", i+1, got, text, want)
		}
	}
}
