package segment

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// Whatever is damaged, nothing is salvaged that was not there; and a row none
// of whose blocks is damaged is salvaged as a whole, a header or a table with
// one damaged byte notwithstanding.
func TestSalvage(t *testing.T) {
	for _, keys := range []testKeys{seal.Plain(), newGCM(t)} {
		rng := rand.New(rand.NewPCG(9, 9))
		spec := testSpec(5, 40, 1)
		rows := randomRows(rng, 700, 40)
		fs := faultfs.New(1)
		info := mustWrite(t, fs, keys, spec, rows)
		original := content(t, fs, Name(5))
		whole := mustOpen(t, fs, keys, spec, info)
		table := int(whole.file.Table())
		for n := range 150 {
			b := bytes.Clone(original)
			at := rng.IntN(len(b))
			if n%3 == 0 { // where all rows depend on one place
				at = []int{rng.IntN(disk.HeaderSize), table + rng.IntN(len(b)-table)}[n/3%2]
			}
			b[at] ^= byte(1 + rng.IntN(255))
			out := holding(t, 5, b)
			r, damage, err := OpenDamaged(out, keys, spec, info)
			if err != nil || r == nil {
				t.Fatalf("byte %d of %d, table at %d: %v, %v", at, len(b), table, damage, err)
			}
			lost := 0
			for s, err := range r.Salvage(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				if s.Lost != 0 {
					lost++
				}
				if what := salvagedDiffers(s, rows[s.Number]); what != "" {
					t.Fatalf("byte %d: row %d: %s is not what it was", at, s.Number, what)
				}
			}
			p, inPart := partAt(whole, at)
			if !inPart && lost > 0 || inPart && lost > 0 && remakable(p.Kind) {
				t.Fatalf("byte %d (in a section: %v, %s): %d rows lost", at, inPart, SectionName(p.Kind), lost)
			}
			r.Close()
		}
	}
}

func partAt(r *Reader, at int) (disk.Part, bool) {
	for _, p := range r.file.Parts() {
		if int64(at) >= p.Offset && int64(at) < p.End {
			return p, p.Kind != sectionProperties
		}
	}
	return disk.Part{}, false
}

// salvagedDiffers names what is there and differs.
func salvagedDiffers(s Salvaged, want Row) string {
	switch {
	case s.Lost&LostID == 0 && s.ID != want.ID:
		return "id"
	case s.Lost&LostOrder == 0 && s.Order != want.Order:
		return "order"
	case s.Lost&LostMetadata == 0 && !s.Metadata.Equal(want.Metadata):
		return "metadata"
	case s.Lost&LostDocument == 0 && !samePointer(s.Document, want.Document):
		return "document"
	case s.Lost&LostURI == 0 && !samePointer(s.URI, want.URI):
		return "uri"
	}
	if s.Lost&LostVector == 0 {
		for i := range want.Vector {
			if len(s.Vector) != len(want.Vector) || !sameBits(s.Vector[i], want.Vector[i]) {
				return "vector"
			}
		}
	}
	return ""
}

func samePointer(a, b *string) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }
