package engine

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/chromad/chromad/internal/mutant"
	"github.com/chromad/chromad/internal/seal"
)

// Entries of records and edits of an encrypted store are sealed under their
// collection's key, inside the frame of the log, which is under the store's:
// when the collection's key is destroyed, they are unreadable at once, in
// every copy of the log. The envelope of an entry is
//
//	op + 128, collection    as in front of a plain entry
//	generation              of the collection's key
//	session                 16 random bytes: the file of the entry's address
//	sealed                  nonce, what follows the collection in a plain entry, tag
//
// bound to the address and the first byte.

const (
	opSealed op = 0x80

	entryHead      = 1 + 16
	envelopeHead   = entryHead + 4 + 16
	envelopeMore   = envelopeHead - entryHead
	envelopeSealed = 12 + 16 // what sealing adds

	entryVersion = 1
	// sessionEntries are sealed under one derived key: far fewer than the
	// 2^24 that random nonces allow.
	sessionEntries = 1 << 20
)

func (o op) plain() op { return o &^ opSealed }

func (db *DB) entryAddress(collection ID, session seal.ID) seal.Address {
	if mutant.On(mutant.EntryUnderStoreKey) {
		collection = ID{}
	}
	return seal.Address{
		Store: db.store, Collection: seal.ID(collection), File: session,
		Kind: seal.KindEntry, Version: entryVersion,
	}
}

// sealing is a session: the sealer of a collection's entries and how many
// more it may seal.
type sealing struct {
	mu     sync.Mutex
	term   uint64 // counts the renewals
	left   int
	at     seal.Address
	sealer seal.Sealer // nil: none yet
}

// next returns the sealer for one more entry.
func (s *sealing) next(c *Collection) (seal.Sealer, seal.Address, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left == 0 {
		at := c.db.entryAddress(c.id, newFileID())
		sealer, err := c.db.ring.Writer(at)
		if err != nil {
			return nil, at, 0, err
		}
		s.sealer, s.at, s.left = sealer, at, sessionEntries
	}
	s.left--
	return s.sealer, s.at, s.term, nil
}

// renew ends the session: the next entry is under the newest key.
func (s *sealing) renew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealer, s.left = nil, 0
	s.term++
}

func (s *sealing) now() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.term
}

// entryBuffer is what an entry of size bytes is appended to: it leaves the
// room in front, and the capacity behind, that its envelope takes.
// The log copies what it is given: dropEntry takes the memory back.
func (db *DB) entryBuffer(size int) []byte {
	front := 0
	if db.ring != nil {
		front = envelopeMore
		size += envelopeMore + envelopeSealed
	}
	if b, ok := db.entries.Get().(*[]byte); ok && cap(*b) >= size {
		return (*b)[:front]
	}
	return make([]byte, front, size)
}

// keptEntry is the largest memory of an entry that is kept for others.
const keptEntry = 8 << 20

// dropEntry is for the end of an entry that the log has, or never will.
func (db *DB) dropEntry(b []byte) {
	if cap(b) > 0 && cap(b) <= keptEntry {
		db.entries.Put(&b)
	}
}

// sealEntry makes the envelope of an entry in an entryBuffer, in its memory.
// term tells whether the key is still the newest when the entry is logged
// (sealing.now). A plain store's entry is as it was.
func (c *Collection) sealEntry(b []byte) (payload []byte, term uint64, err error) {
	if c.db.ring == nil {
		return b, 0, nil
	}
	s, at, term, err := c.sealing.next(c)
	if err != nil { // of a collection that was deleted meanwhile the key is gone
		return nil, 0, cmp.Or(c.usable(), fmt.Errorf("collection %s: %w", c.id, err))
	}
	b[0] = b[envelopeMore] | byte(opSealed)
	copy(b[1:], c.id[:])
	binary.LittleEndian.PutUint32(b[entryHead:], s.KeyID())
	copy(b[entryHead+4:], at.File[:])
	payload, err = s.Seal(b[:envelopeHead], b[envelopeHead:], at, b[:1])
	return payload, term, err
}

// entryCollection is the collection of an entry that has one, sealed or not.
func entryCollection(payload []byte) (id ID, err error) {
	if len(payload) < entryHead {
		return id, fmt.Errorf("%w: entry of %d bytes", ErrCorrupt, len(payload))
	}
	copy(id[:], payload[1:])
	return id, nil
}

// openEntry returns the plain entry of an envelope, in memory of dst's, and a
// plain entry as it is. ErrKey: of the collection, or, where the entry may not
// be what it is, of the store.
func (db *DB) openEntry(dst, payload []byte) ([]byte, error) {
	switch {
	case op(payload[0])&opSealed == 0:
		if db.ring != nil && !db.ring.Keyset().Converting {
			return nil, fmt.Errorf("%w: an entry that is not encrypted in a store that is", ErrCorrupt)
		}
		return payload, nil
	case db.ring == nil:
		return nil, fmt.Errorf("an encrypted entry in a store without keys: %w", ErrKey)
	case len(payload) < envelopeHead+envelopeSealed:
		return nil, fmt.Errorf("%w: envelope of %d bytes", ErrCorrupt, len(payload))
	}
	id, err := entryCollection(payload)
	if err != nil {
		return nil, err
	}
	generation := binary.LittleEndian.Uint32(payload[entryHead:])
	if generation == 0 {
		return nil, fmt.Errorf("%w: envelope without a key", ErrCorrupt)
	}
	at := db.entryAddress(id, seal.ID(payload[entryHead+4:envelopeHead]))
	s, err := db.ring.Reader(at, generation)
	if err != nil {
		return nil, &refusedError{err}
	}
	dst = append(dst[:0], byte(op(payload[0]).plain()))
	dst = append(dst, id[:]...)
	plain, err := s.Open(dst, payload[envelopeHead:], at, payload[:1])
	if err != nil {
		return nil, &refusedError{fmt.Errorf("generation %d of the key of collection %s does not open its entry: %w: %w", generation, id, ErrKey, err)}
	}
	return plain, nil
}

// refusedError is what is wrong with a collection's key. It concerns that
// collection alone.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }
