package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cespare/xxhash/v2"

	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
)

// HeaderSize is the length of the header of every file.
const HeaderSize = 128

// Version is the newest format version of every kind of file.
const Version = 1

const (
	magic       = "CHROMAD\x00"
	headerUsed  = 72 // bytes before the reserved ones
	headerSumAt = HeaderSize - 8
)

// Header is a file's identity.
type Header struct {
	Kind       seal.Kind
	Version    uint16
	KeyID      uint32 // 0: not encrypted
	Store      seal.ID
	Collection seal.ID // zero for files of the whole store
	File       seal.ID // random, never reused
	Number     uint64  // the number in the file's name
}

// Address is the address of the file's block n.
func (h Header) Address(n uint64) seal.Address {
	return seal.Address{
		Store: h.Store, Collection: h.Collection, File: h.File,
		Kind: h.Kind, Version: h.Version, Block: n,
	}
}

// AppendBinary appends the HeaderSize bytes of h.
func (h Header) AppendBinary(b []byte) ([]byte, error) {
	start := len(b)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint16(b, h.Version)
	b = binary.LittleEndian.AppendUint16(b, uint16(h.Kind))
	b = binary.LittleEndian.AppendUint32(b, h.KeyID)
	b = append(b, h.Store[:]...)
	b = append(b, h.Collection[:]...)
	b = append(b, h.File[:]...)
	b = binary.LittleEndian.AppendUint64(b, h.Number)
	b = append(b, make([]byte, headerSumAt-headerUsed)...)
	return binary.LittleEndian.AppendUint64(b, xxhash.Sum64(b[start:])), nil
}

// DecodeHeader reads the header at the front of b. The checksum is looked at
// first: only of an undamaged header may the version be believed.
func DecodeHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, damage(int64(len(b)), "header ends after %d bytes of %d", len(b), HeaderSize)
	}
	b = b[:HeaderSize]
	if string(b[:len(magic)]) != magic {
		return Header{}, damage(0, "magic is %q", b[:len(magic)])
	}
	if xxhash.Sum64(b[:headerSumAt]) != binary.LittleEndian.Uint64(b[headerSumAt:]) {
		return Header{}, damage(headerSumAt, "header: %w", errChecksum)
	}
	h := Header{
		Version: binary.LittleEndian.Uint16(b[8:]),
		Kind:    seal.Kind(binary.LittleEndian.Uint16(b[10:])),
		KeyID:   binary.LittleEndian.Uint32(b[12:]),
		Number:  binary.LittleEndian.Uint64(b[64:]),
	}
	copy(h.Store[:], b[16:])
	copy(h.Collection[:], b[32:])
	copy(h.File[:], b[48:])
	if h.Version == 0 || h.Version > Version {
		return Header{}, fmt.Errorf("version %d: %w", h.Version, ErrFormat)
	}
	switch h.Kind {
	case seal.KindLog, seal.KindSegment, seal.KindCheckpoint, seal.KindKeyset, seal.KindKey, seal.KindReceipt, seal.KindAudit, seal.KindAuditLog:
	default:
		return Header{}, fmt.Errorf("kind %d: %w", h.Kind, ErrFormat)
	}
	// What a later version puts here changes the meaning of the file.
	if !zero(b[headerUsed:headerSumAt]) {
		return Header{}, fmt.Errorf("reserved bytes of the header are set: %w", ErrFormat)
	}
	return h, nil
}

// ReadHeader reads the header of a file and nothing else. Kind and version
// are checked, the identity is the caller's to judge.
func ReadHeader(fs vfs.FS, name string) (Header, error) {
	f, err := fs.Open(name)
	if err != nil {
		return Header{}, err
	}
	var b [HeaderSize]byte
	n, err := f.ReadAt(b[:], 0)
	if errors.Is(err, io.EOF) {
		err = nil // DecodeHeader says how much is missing
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return Header{}, fmt.Errorf("%s: header: %w", name, err)
	}
	h, err := DecodeHeader(b[:n])
	if err != nil {
		return Header{}, in(name, err)
	}
	return h, nil
}

// expect compares the identity of an undamaged header with the one wanted. The
// key is not part of it.
func (h Header) expect(want Header) error {
	switch {
	case h.Version != want.Version:
		return fmt.Errorf("version %d instead of %d: %w", h.Version, want.Version, ErrFormat)
	case h.Kind != want.Kind:
		return damage(10, "file of kind %d instead of %d", h.Kind, want.Kind)
	case h.Store != want.Store:
		return damage(16, "file of store %v instead of %v", h.Store, want.Store)
	case h.Collection != want.Collection:
		return damage(32, "file of collection %v instead of %v", h.Collection, want.Collection)
	case h.File != want.File:
		return damage(48, "file %v instead of %v", h.File, want.File)
	case h.Number != want.Number:
		return damage(64, "file number %d instead of %d", h.Number, want.Number)
	}
	return nil
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
