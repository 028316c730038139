package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/chromad/chromad/internal/mutant"
	"github.com/chromad/chromad/internal/seal"
)

const (
	keySize  = 32      // AES-256
	overhead = 12 + 16 // nonce in front, tag behind
	most     = 1 << 24 // blocks under one file key
	fileInfo = "chromad file key v1"
)

// With random nonces of 96 bits the chance that two of n blocks share one is
// below n*n / 2^97: 2^-49 for the most that a file key seals (NIST SP
// 800-38D, section 8.3, allows 2^32 blocks and 2^-32).
var errWornOut = fmt.Errorf("%d blocks are sealed under this file's key, no more may be: write another file: %w", most, seal.ErrKey)

var errOtherFile = errors.New("address of another file than the sealer's")

// fileKey derives the key of one file (RFC 5869): the salt is the file's id,
// which is random and never used again, the info what else identifies it.
func fileKey(data []byte, at seal.Address) ([]byte, error) {
	info := make([]byte, 0, len(fileInfo)+2*16+4)
	info = append(info, fileInfo...)
	info = append(info, at.Store[:]...)
	info = append(info, at.Collection[:]...)
	info = binary.LittleEndian.AppendUint16(info, uint16(at.Kind))
	info = binary.LittleEndian.AppendUint16(info, at.Version)
	return hkdf.Key(sha256.New, data, at.File[:], string(info), keySize)
}

// fileSealer is the seal.Sealer of one file: AES-256-GCM with a random nonce
// for each block. The bytes are those of Tink's AES256-GCM without a prefix;
// Tink's own call allocates and copies each block.
type fileSealer struct {
	redacted
	at      seal.Address // block 0
	key     uint32
	gcm     cipher.AEAD
	sealed  atomic.Int64
	scratch *sync.Pool // of *[]byte: what goes through an interface is on the heap
}

func newFileSealer(data []byte, at seal.Address, key uint32, scratch *sync.Pool) (*fileSealer, error) {
	at.Block = 0
	secret, err := fileKey(data, at)
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if mutant.On(mutant.NonceReused) {
		gcm, err = mutant.FixedNonce(block)
	}
	if err != nil {
		return nil, err
	}
	return &fileSealer{at: at, key: key, gcm: gcm, scratch: scratch}, nil
}

// Seal implements seal.Sealer.
func (s *fileSealer) Seal(dst, block []byte, at seal.Address, more []byte) ([]byte, error) {
	if s.sealed.Add(1) > most {
		return nil, errWornOut
	}
	ad, err := s.associated(at, more)
	if err != nil {
		return nil, err
	}
	defer s.scratch.Put(ad)
	return s.gcm.Seal(dst, nil, block, *ad), nil
}

// Open implements seal.Sealer.
func (s *fileSealer) Open(dst, stored []byte, at seal.Address, more []byte) ([]byte, error) {
	ad, err := s.associated(at, more)
	if err != nil {
		return nil, err
	}
	defer s.scratch.Put(ad)
	return s.gcm.Open(dst, nil, stored, *ad)
}

// Overhead implements seal.Sealer.
func (s *fileSealer) Overhead() int { return overhead }

// KeyID implements seal.Sealer.
func (s *fileSealer) KeyID() uint32 { return s.key }

// associated is the address followed by more, in memory of the pool's.
func (s *fileSealer) associated(at seal.Address, more []byte) (*[]byte, error) {
	block := at.Block
	if at.Block = 0; at != s.at {
		return nil, errOtherFile
	}
	if !mutant.On(mutant.BlockNotBound) {
		at.Block = block
	}
	ad, ok := s.scratch.Get().(*[]byte)
	if !ok {
		ad = new([]byte)
		*ad = make([]byte, 0, seal.AddressSize+128)
	}
	*ad, _ = at.AppendBinary((*ad)[:0])
	*ad = append(*ad, more...)
	return ad, nil
}
