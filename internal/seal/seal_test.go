package seal_test

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/chromad/chromad/internal/seal"
)

func id(first byte) (id seal.ID) {
	for i := range id {
		id[i] = first + byte(i)
	}
	return id
}

func address() seal.Address {
	return seal.Address{Store: id(0x10), Collection: id(0x20), File: id(0x30), Kind: seal.KindSegment, Version: 1, Block: 0x0102030405060708}
}

// TestAddressBytes: the encoded form is part of the format.
func TestAddressBytes(t *testing.T) {
	b, err := address().AppendBinary([]byte("x"))
	want := "78" + "101112131415161718191a1b1c1d1e1f" + "202122232425262728292a2b2c2d2e2f" +
		"303132333435363738393a3b3c3d3e3f" + "0200" + "0100" + "0807060504030201"
	if got := hex.EncodeToString(b); err != nil || got != want || len(b) != 1+seal.AddressSize {
		t.Errorf("%s, %v", got, err)
	}
}

// TestSum: the value is part of the format, and every bit of address and bytes
// is in it.
func TestSum(t *testing.T) {
	data := []byte("block")
	sum := seal.Sum(data, address())
	if sum != 0xfcc95ac3fad1680c {
		t.Errorf("%#x", sum)
	}
	whole, _ := address().AppendBinary(nil)
	if xxhash.Sum64(append(whole, data...)) != sum {
		t.Error("not the xxhash64 of address and bytes")
	}
	for name, change := range map[string]func(*seal.Address){
		"store":      func(a *seal.Address) { a.Store[15] ^= 1 },
		"collection": func(a *seal.Address) { a.Collection[0] ^= 1 },
		"file":       func(a *seal.Address) { a.File[7] ^= 0x80 },
		"kind":       func(a *seal.Address) { a.Kind = seal.KindLog },
		"version":    func(a *seal.Address) { a.Version++ },
		"block":      func(a *seal.Address) { a.Block ^= 1 << 63 },
	} {
		a := address()
		change(&a)
		if seal.Sum(data, a) == sum {
			t.Errorf("%s is not in the checksum", name)
		}
	}
	for bit := range len(data) * 8 {
		b := bytes.Clone(data)
		b[bit/8] ^= 1 << (bit % 8)
		if seal.Sum(b, address()) == sum {
			t.Errorf("bit %d is not in the checksum", bit)
		}
	}
	for _, other := range [][]byte{nil, data[:4], append(bytes.Clone(data), 0)} {
		if seal.Sum(other, address()) == sum {
			t.Errorf("%q has the checksum of %q", other, data)
		}
	}
}

func TestSumAllocatesNothing(t *testing.T) {
	data, at := make([]byte, 4096), address()
	if n := testing.AllocsPerRun(100, func() { seal.Sum(data, at) }); n > 0 {
		t.Errorf("%v allocations a block", n)
	}
}

func TestPlain(t *testing.T) {
	s := seal.Plain()
	if s.Overhead() != 0 || s.KeyID() != 0 {
		t.Errorf("overhead %d, key %d", s.Overhead(), s.KeyID())
	}
	stored, err := s.Seal([]byte("a"), []byte("b"), address(), nil)
	if err != nil || string(stored) != "ab" {
		t.Errorf("%q, %v", stored, err)
	}
	block, err := s.Open([]byte("a"), stored[1:], address(), nil)
	if err != nil || string(block) != "ab" {
		t.Errorf("%q, %v", block, err)
	}
}

func TestIDString(t *testing.T) {
	if got := id(0xf0).String(); got != "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff" {
		t.Error(got)
	}
}

func BenchmarkSum(b *testing.B) {
	data, at := make([]byte, 64<<10), address()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		seal.Sum(data, at)
	}
}
