// Package seal turns a block into stored bytes and back, given its address.
//
// A stored block carries a checksum that binds it to its address (Sum), so a
// block that is damaged, moved, or of another file is recognised without any
// key. With keys set it is also encrypted and authenticated with the address
// as associated data; without, the stored bytes are the block itself and may
// be mapped.
package seal

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/chromad/chromad/internal/mutant"
)

// ID names a store, a collection or a file: 16 random bytes of our own.
type ID [16]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Kind is what a file holds.
type Kind uint16

const (
	KindLog        Kind = 1
	KindSegment    Kind = 2
	KindCheckpoint Kind = 3
	KindKeyset     Kind = 4
	KindKey        Kind = 5 // a data key
	KindEntry      Kind = 6 // an entry sealed inside a frame of the log: no file
	KindReceipt    Kind = 7 // of an erasure
	KindAudit      Kind = 8 // a closed file of the audit log
	KindAuditLog   Kind = 9 // what the audit log has added since
)

// Address is the place of a block: the associated data of its checksum and
// of its encryption. Two blocks never share one.
type Address struct {
	Store, Collection, File ID
	Kind                    Kind
	Version                 uint16
	Block                   uint64 // running number in the file
}

// AddressSize is the length of the encoded form.
const AddressSize = 3*16 + 2 + 2 + 8

// AppendBinary appends the AddressSize bytes of a: the three ids, kind,
// version and block, little endian.
func (a Address) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, a.Store[:]...)
	b = append(b, a.Collection[:]...)
	b = append(b, a.File[:]...)
	b = binary.LittleEndian.AppendUint16(b, uint16(a.Kind))
	b = binary.LittleEndian.AppendUint16(b, a.Version)
	return binary.LittleEndian.AppendUint64(b, a.Block), nil
}

// Sum is the checksum of a stored block at its address: xxhash64 of the
// address followed by the bytes.
func Sum(stored []byte, at Address) uint64 {
	var buf [AddressSize]byte
	head, _ := at.AppendBinary(buf[:0])
	if mutant.On(mutant.AddressNotSummed) {
		head = nil
	}
	var d xxhash.Digest
	d.Reset()
	d.Write(head)
	d.Write(stored)
	return d.Sum64()
}

// ErrKey says that the key for a file is missing, or is not the right one.
var ErrKey = errors.New("wrong key")

// Keys hands out the sealers of a store's files. It is safe for concurrent
// use.
type Keys interface {
	// Writer is the sealer of a new file at an address whose block is not
	// looked at: the newest key of the collection.
	Writer(at Address) (Sealer, error)
	// Reader is the sealer of the file whose header names the key, 0 for
	// none. ErrKey: there is no such key, or files may not be without.
	Reader(at Address, key uint32) (Sealer, error)
}

// Sealer turns the blocks of one file into stored bytes and back. It is safe
// for concurrent use. The checksum is the caller's (Sum, over what is stored).
type Sealer interface {
	// Seal appends the stored form of block to dst. more is bound to it as at
	// is: whoever opens the block must know both.
	Seal(dst, block []byte, at Address, more []byte) ([]byte, error)
	// Open appends the block to dst; an error means that the bytes are not
	// what was sealed at this address with the same more.
	Open(dst, stored []byte, at Address, more []byte) ([]byte, error)
	// Overhead is how much longer the stored form is than the block. 0 means
	// that it is the block itself.
	Overhead() int
	// KeyID names the key, 0 for none. It stands in file headers.
	KeyID() uint32
}

// Plain is the keys of a store without any: blocks are stored as they are.
func Plain() Unsealed { return Unsealed{} }

// Unsealed is what Plain returns: Keys, and the Sealer that they hand out.
type Unsealed struct{}

// Writer implements Keys.
func (u Unsealed) Writer(Address) (Sealer, error) { return u, nil }

// Reader implements Keys: a file with a key is not for those without.
func (u Unsealed) Reader(_ Address, key uint32) (Sealer, error) {
	if key != 0 {
		return nil, fmt.Errorf("encrypted with key %d, and no keys are given: %w", key, ErrKey)
	}
	return u, nil
}

// Seal implements Sealer.
func (Unsealed) Seal(dst, block []byte, _ Address, _ []byte) ([]byte, error) {
	return append(dst, block...), nil
}

// Open implements Sealer.
func (Unsealed) Open(dst, stored []byte, _ Address, _ []byte) ([]byte, error) {
	return append(dst, stored...), nil
}

// Overhead implements Sealer.
func (Unsealed) Overhead() int { return 0 }

// KeyID implements Sealer.
func (Unsealed) KeyID() uint32 { return 0 }
