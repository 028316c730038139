package wal

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"sync/atomic"

	"github.com/chromad/chromad/internal/seal"
)

// sealed encrypts, so that the tests meet stored bytes that are longer than
// what they hold. Nonces are counted: no two of one value are the same.
type sealed struct {
	aead  cipher.AEAD
	count *atomic.Uint64
}

func newSealed() sealed {
	block, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return sealed{aead, new(atomic.Uint64)}
}

func (s sealed) Seal(dst, block []byte, at seal.Address, more []byte) ([]byte, error) {
	nonce := binary.LittleEndian.AppendUint64(make([]byte, 4, 12), s.count.Add(1))
	data, _ := at.AppendBinary(nil)
	return s.aead.Seal(append(dst, nonce...), nonce, block, append(data, more...)), nil
}

func (s sealed) Open(dst, stored []byte, at seal.Address, more []byte) ([]byte, error) {
	if len(stored) < 12 {
		return nil, errors.New("no nonce")
	}
	data, _ := at.AppendBinary(nil)
	return s.aead.Open(dst, stored[:12], stored[12:], append(data, more...))
}

func (s sealed) Overhead() int { return 12 + s.aead.Overhead() }
func (s sealed) KeyID() uint32 { return 9 }

// Writer and Reader make the sealer keys of its own.
func (s sealed) Writer(seal.Address) (seal.Sealer, error) { return s, nil }

func (s sealed) Reader(_ seal.Address, key uint32) (seal.Sealer, error) {
	if key != s.KeyID() {
		return nil, seal.ErrKey
	}
	return s, nil
}
