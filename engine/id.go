package engine

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/chromad/chromad/internal/seal"
)

// ID names a database or a collection: the 16 bytes of a version 4 UUID
// (RFC 9562, section 5.4). The zero ID is the default database's.
type ID [16]byte

// newID draws an ID. Callers put it into the log entry that creates the
// thing, so replaying the log draws nothing.
func newID() ID {
	var id ID
	rand.Read(id[:]) // never fails, documented so since Go 1.24
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

// newFileID draws the identity of a file.
func newFileID() seal.ID {
	var id seal.ID
	rand.Read(id[:])
	return id
}

// String is the lower-case hyphenated form.
func (id ID) String() string {
	var b [36]byte
	hex.Encode(b[:8], id[:4])
	hex.Encode(b[9:13], id[4:6])
	hex.Encode(b[14:18], id[6:8])
	hex.Encode(b[19:23], id[8:10])
	hex.Encode(b[24:], id[10:])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// ParseID reads a UUID: hyphenated or 32 hex digits, in either case, also in
// braces or behind "urn:uuid:".
func ParseID(s string) (ID, error) {
	t := strings.TrimPrefix(s, "urn:uuid:")
	if len(t) == 38 && t[0] == '{' && t[37] == '}' {
		t = t[1:37]
	}
	if len(t) == 36 {
		if t[8] != '-' || t[13] != '-' || t[18] != '-' || t[23] != '-' {
			return ID{}, fmt.Errorf("%w: %q is not a UUID", ErrInvalid, s)
		}
		t = t[:8] + t[9:13] + t[14:18] + t[19:23] + t[24:]
	}
	var id ID
	if len(t) != 32 {
		return ID{}, fmt.Errorf("%w: %q is not a UUID", ErrInvalid, s)
	}
	if _, err := hex.Decode(id[:], []byte(t)); err != nil {
		return ID{}, fmt.Errorf("%w: %q is not a UUID", ErrInvalid, s)
	}
	return id, nil
}
