package fuzz

import (
	"bytes"
	"strings"
	"testing"

	"github.com/chromad/chromad/internal/keys/keytest"
)

// FuzzSealed does to encrypted stores what FuzzStore does to plain ones. Here
// every answer must be an error or what was written even where the checksums
// were made to fit (mend): nobody without the key can make another answer.
//
// With reseal it is somebody with the keys who changes what the files hold and
// seals it again. What is right cannot be told then, but the decoders behind
// the seal do not panic, run on, or take memory without bound.
func FuzzSealed(f *testing.F) {
	key := keytest.New("operator")
	stores := []damaged{crashedStore(f, key), closedStore(f, key)}
	var insides []*opened
	for n, s := range stores {
		o := s.unseal(f)
		insides = append(insides, o)
		for i, name := range s.names {
			f.Add(byte(n), byte(i), byte(flip), uint32(len(s.files[name])-9), []byte{4}, byte(i), false, false, false)
			for j := range uint32(ways) {
				f.Add(byte(n), byte(i), byte(j), j*j*977, []byte{0xff, 1, 0, 0x80}, byte(j), j%3 == 1, false, j == 5)
			}
			for j := uint32(150); strings.HasSuffix(name, ".wal") && j < uint32(len(s.files[name])); j += 257 {
				f.Add(byte(n), byte(i), byte(flip), j, []byte{2}, byte(0), true, false, false)
			}
		}
		for i := range len(o.files) + 1 {
			for j := range uint32(24) {
				f.Add(byte(n), byte(i), byte(j), j*j*3, bytes.Repeat([]byte{byte(0xff * (j & 1))}, 1+int(j)), byte(j), false, true, j == 5)
			}
		}
	}
	f.Fuzz(func(t *testing.T, store, file, how byte, offset uint32, data []byte, part byte, mend, reseal, write bool) {
		s := stores[int(store)%len(stores)]
		name := s.names[int(file)%len(s.names)]
		possible, im := [][]answer(nil), image(nil)
		if reseal {
			im = insides[int(store)%len(stores)].change(t, file, part, how, offset, data).reseal(t)
		} else {
			d := damage{file: name, how: how, offset: offset, data: data, other: s.files[s.names[int(part)%len(s.names)]]}
			im = d.apply(s.files)
			possible = s.possible(name, im)
			if mend && len(im[name]) == len(s.files[name]) {
				im.mend(name, s.files)
				possible = s.cuts
			}
		}
		dir := scratch(t)
		place(t, dir, im)
		before := allocated()
		if err := s.check(dir, write, reseal, possible); err != nil {
			t.Fatalf("%s, %d at %d of %d, %d bytes: %v", name, how%ways, offset, len(s.files[name]), len(data), err)
		}
		if n := allocated() - before; n > maxAllocated {
			t.Fatalf("%s: %d bytes allocated", name, n)
		}
	})
}
