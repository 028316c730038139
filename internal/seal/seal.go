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

	"github.com/cespare/xxhash/v2"
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
	var d xxhash.Digest
	d.Reset()
	d.Write(head)
	d.Write(stored)
	return d.Sum64()
}

// Sealer turns blocks into stored bytes and back. It is safe for concurrent
// use. The checksum is the caller's (Sum, over what is stored).
type Sealer interface {
	// Seal appends the stored form of block to dst.
	Seal(dst, block []byte, at Address) ([]byte, error)
	// Open appends the block to dst; an error means that the bytes are not
	// what was sealed at this address.
	Open(dst, stored []byte, at Address) ([]byte, error)
	// Overhead is how much longer the stored form is than the block. 0 means
	// that it is the block itself.
	Overhead() int
	// KeyID names the key, 0 for none. It stands in file headers.
	KeyID() uint32
}

// Plain is the sealer without keys: blocks are stored as they are.
func Plain() Sealer { return plain{} }

type plain struct{}

func (plain) Seal(dst, block []byte, _ Address) ([]byte, error)  { return append(dst, block...), nil }
func (plain) Open(dst, stored []byte, _ Address) ([]byte, error) { return append(dst, stored...), nil }
func (plain) Overhead() int                                      { return 0 }
func (plain) KeyID() uint32                                      { return 0 }
