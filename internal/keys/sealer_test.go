package keys

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"

	"github.com/chromad/chromad/internal/seal"
)

func testID(first byte) (id seal.ID) {
	for i := range id {
		id[i] = first + byte(i)
	}
	return id
}

func testAddress() seal.Address {
	return seal.Address{Store: testID(0x10), Collection: testID(0x20), File: testID(0x30), Kind: seal.KindSegment, Version: 1, Block: 7}
}

func testSealer(t testing.TB) (*fileSealer, []byte) {
	t.Helper()
	data := slices.Repeat([]byte{0xd0, 0xd1}, keySize/2)
	s, err := newFileSealer(data, testAddress(), 3, new(sync.Pool))
	if err != nil {
		t.Fatal(err)
	}
	return s, data
}

// tinkOf is Tink's AES256-GCM under the file's key, derived here from the text
// of the format.
func tinkOf(t *testing.T, data []byte) *subtle.AESGCM {
	t.Helper()
	info := "chromad file key v1" + "\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f" +
		"\x20\x21\x22\x23\x24\x25\x26\x27\x28\x29\x2a\x2b\x2c\x2d\x2e\x2f" + "\x02\x00" + "\x01\x00"
	salt := testID(0x30)
	key, err := hkdf.Key(sha256.New, data, salt[:], info, 32)
	if err != nil {
		t.Fatal(err)
	}
	a, err := subtle.NewAESGCM(key)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestSealerIsTinks: what we seal Tink opens, and the other way round, at
// every length around the block of the cipher.
func TestSealerIsTinks(t *testing.T) {
	s, data := testSealer(t)
	tink := tinkOf(t, data)
	for _, more := range [][]byte{nil, {}, []byte("header"), bytes.Repeat([]byte("m"), 500)} {
		for _, n := range []int{0, 1, 15, 16, 17, 4096, 65536} {
			block := bytes.Repeat([]byte("b"), n)
			at := testAddress()
			at.Block = uint64(n) << 40
			ad, _ := at.AppendBinary(nil)
			ad = append(ad, more...)
			stored, err := s.Seal([]byte("x"), block, at, more)
			if err != nil || stored[0] != 'x' || len(stored) != 1+n+s.Overhead() {
				t.Fatalf("%d bytes: %d, %v", n, len(stored), err)
			}
			if plain, err := tink.Decrypt(stored[1:], ad); err != nil || !bytes.Equal(plain, block) {
				t.Errorf("%d bytes with %d more: Tink does not open them: %v", n, len(more), err)
			}
			theirs, err := tink.Encrypt(block, ad)
			if err != nil {
				t.Fatal(err)
			}
			plain, err := s.Open([]byte("x"), theirs, at, more)
			if err != nil || !bytes.Equal(plain, append([]byte("x"), block...)) {
				t.Errorf("%d bytes with %d more: Tink's do not open: %v", n, len(more), err)
			}
		}
	}
	if s.KeyID() != 3 || s.Overhead() != 28 {
		t.Errorf("key %d, overhead %d", s.KeyID(), s.Overhead())
	}
}

// TestFileKey: the derivation is part of the format, and everything that says
// which file it is makes another key.
func TestFileKey(t *testing.T) {
	_, data := testSealer(t)
	key, err := fileKey(data, testAddress())
	if got := hex.EncodeToString(key); err != nil || got != goldenFileKey {
		t.Errorf("%s, %v", got, err)
	}
	for name, change := range map[string]func(*seal.Address){
		"store":      func(a *seal.Address) { a.Store[15] ^= 1 },
		"collection": func(a *seal.Address) { a.Collection[0] ^= 1 },
		"file":       func(a *seal.Address) { a.File[7] ^= 1 },
		"kind":       func(a *seal.Address) { a.Kind = seal.KindEntry },
		"version":    func(a *seal.Address) { a.Version++ },
	} {
		at := testAddress()
		change(&at)
		if other, _ := fileKey(data, at); bytes.Equal(other, key) {
			t.Errorf("%s is not in the key", name)
		}
	}
	at := testAddress()
	at.Block++
	if other, _ := fileKey(data, at); !bytes.Equal(other, key) {
		t.Error("blocks of a file have different keys")
	}
}

// TestSealerBinds: a block opens at its own address with its own more, whole,
// and nowhere else.
func TestSealerBinds(t *testing.T) {
	s, _ := testSealer(t)
	stored, err := s.Seal(nil, []byte("block"), testAddress(), []byte("more"))
	if err != nil {
		t.Fatal(err)
	}
	for bit := range len(stored) * 8 {
		b := bytes.Clone(stored)
		b[bit/8] ^= 1 << (bit % 8)
		if _, err := s.Open(nil, b, testAddress(), []byte("more")); err == nil {
			t.Errorf("bit %d is not authenticated", bit)
		}
	}
	for n := range stored {
		if _, err := s.Open(nil, stored[:n], testAddress(), []byte("more")); err == nil {
			t.Errorf("%d bytes of %d open", n, len(stored))
		}
	}
	at := testAddress()
	at.Block++
	if _, err := s.Open(nil, stored, at, []byte("more")); err == nil {
		t.Error("opens as another block")
	}
	for _, more := range [][]byte{nil, []byte("mor"), []byte("more ")} {
		if _, err := s.Open(nil, stored, testAddress(), more); err == nil {
			t.Errorf("opens with %q", more)
		}
	}
	again, err := s.Seal(nil, []byte("block"), testAddress(), []byte("more"))
	if err != nil || bytes.Equal(again[:12], stored[:12]) {
		t.Errorf("the same nonce twice, %v", err)
	}
	for name, change := range map[string]func(*seal.Address){
		"store": func(a *seal.Address) { a.Store[0]++ }, "collection": func(a *seal.Address) { a.Collection[0]++ },
		"file": func(a *seal.Address) { a.File[0]++ }, "kind": func(a *seal.Address) { a.Kind++ }, "version": func(a *seal.Address) { a.Version++ },
	} {
		at := testAddress()
		change(&at)
		if _, err := s.Seal(nil, nil, at, nil); !errors.Is(err, errOtherFile) {
			t.Errorf("seals for another %s: %v", name, err)
		}
		if _, err := s.Open(nil, stored, at, []byte("more")); !errors.Is(err, errOtherFile) {
			t.Errorf("opens for another %s: %v", name, err)
		}
	}
}

// TestSealerWearsOut: 2^24 blocks and no more.
func TestSealerWearsOut(t *testing.T) {
	s, _ := testSealer(t)
	s.sealed.Store(1<<24 - 1)
	stored, err := s.Seal(nil, []byte("last"), testAddress(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := s.Seal(nil, []byte("more"), testAddress(), nil); !errors.Is(err, errWornOut) {
			t.Errorf("one more: %v", err)
		}
	}
	if plain, err := s.Open(nil, stored, testAddress(), nil); err != nil || string(plain) != "last" {
		t.Errorf("%q, %v", plain, err)
	}
}

// TestSealerAllocatesNothing when there is room.
func TestSealerAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector empties pools at random")
	}
	s, _ := testSealer(t)
	block, more := make([]byte, 4096), make([]byte, 128)
	stored := make([]byte, 0, len(block)+s.Overhead())
	room := make([]byte, 0, len(block))
	var err error
	if n := testing.AllocsPerRun(200, func() { stored, err = s.Seal(stored[:0], block, testAddress(), more) }); n > 0 || err != nil {
		t.Errorf("seal: %v allocations, %v", n, err)
	}
	if n := testing.AllocsPerRun(200, func() { _, err = s.Open(room, stored, testAddress(), more) }); n > 0 || err != nil {
		t.Errorf("open: %v allocations, %v", n, err)
	}
}

func BenchmarkSealer(b *testing.B) {
	s, _ := testSealer(b)
	for _, size := range []int{4 << 10, 16 << 10, 64 << 10} {
		block := make([]byte, size)
		stored := make([]byte, 0, size+s.Overhead())
		room := make([]byte, 0, size)
		b.Run(fmt.Sprintf("seal/%dKiB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				s.sealed.Store(0)
				stored, _ = s.Seal(stored[:0], block, testAddress(), nil)
			}
		})
		b.Run(fmt.Sprintf("open/%dKiB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Open(room, stored, testAddress(), nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkNewSealer(b *testing.B) {
	_, data := testSealer(b)
	pool := new(sync.Pool)
	for b.Loop() {
		if _, err := newFileSealer(data, testAddress(), 3, pool); err != nil {
			b.Fatal(err)
		}
	}
}

const goldenFileKey = "1c9b529c18d782f609d2c72489c36220cf7e5f59f5425c0766c6e901ace42c1a"
