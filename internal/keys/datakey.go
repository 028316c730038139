package keys

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
)

const (
	keySuffix = ".key"
	// wrappedSize is Tink's mark and key id, nonce, key and tag.
	wrappedSize = 1 + 4 + 12 + keySize + 16
	tinkMark    = 1
)

// KeyInfo describes one generation of a data key. Nothing in it is secret.
type KeyInfo struct {
	Collection seal.ID // zero: the store's own
	Generation uint32
	File       seal.ID // of the key's file; zero when its header is unreadable
	Wrapped    uint32  // the key of the keyset that wraps it; 0 when the file is unreadable
}

// dataKey is one generation of a data key. Its file is read when the key is
// first needed.
type dataKey struct {
	redacted
	store, collection seal.ID
	generation        uint32

	mu      sync.RWMutex // held for reading while the key is used, so that it is not wiped meanwhile
	file    seal.ID      // zero until the file was read
	wrapped [wrappedSize]byte
	secret  *[keySize]byte // nil until first used
	dropped bool
}

// keyName is the name of a data key's file.
func keyName(collection seal.ID, generation uint32) string {
	return fmt.Sprintf("%s/%v-%08x%s", Dir, collection, generation, keySuffix)
}

// parseKeyName reads the last element of a keyName. Other names are not ours.
func parseKeyName(base string) (collection seal.ID, generation uint32, ours bool) {
	name, ok := strings.CutSuffix(base, keySuffix)
	if !ok || len(name) != 32+1+8 || name[32] != '-' || strings.ToLower(name) != name {
		return collection, 0, false
	}
	if _, err := hex.Decode(collection[:], []byte(name[:32])); err != nil {
		return collection, 0, false
	}
	n, err := strconv.ParseUint(name[33:], 16, 32)
	return collection, uint32(n), err == nil && n > 0
}

func (k *dataKey) name() string { return keyName(k.collection, k.generation) }

func (k *dataKey) header() disk.Header {
	return disk.Header{
		Kind: seal.KindKey, Version: disk.Version, Store: k.store, Collection: k.collection,
		File: k.file, Number: uint64(k.generation),
	}
}

// associated binds a wrapped key to its file: the address, with the
// generation in the place of the block.
func (k *dataKey) associated() []byte {
	b, _ := k.header().Address(uint64(k.generation)).AppendBinary(nil)
	return b
}

// wrapper is the id of the key of the keyset in front of the wrapped key,
// where Tink puts it.
func (k *dataKey) wrapper() uint32 { return binary.BigEndian.Uint32(k.wrapped[1:]) }

func (k *dataKey) info() KeyInfo {
	info := KeyInfo{Collection: k.collection, Generation: k.generation, File: k.file}
	if k.file != (seal.ID{}) {
		info.Wrapped = k.wrapper()
	}
	return info
}

// newDataKey draws a key and wraps it under the primary of the keyset.
func newDataKey(ks *opened, collection seal.ID, generation uint32) (*dataKey, error) {
	k := &dataKey{store: ks.store, collection: collection, generation: generation, file: newID(), secret: new([keySize]byte)}
	rand.Read(k.secret[:]) // never fails
	wrapped, err := ks.wrap.Encrypt(k.secret[:], k.associated())
	if err != nil {
		return nil, fmt.Errorf("%s: wrap under key %d: %w", k.name(), ks.primary, err)
	}
	if copy(k.wrapped[:], wrapped) != len(wrapped) || len(wrapped) != wrappedSize || k.wrapper() != ks.primary {
		return nil, fmt.Errorf("%s: wrapped under key %d in a form of %d bytes", k.name(), ks.primary, len(wrapped))
	}
	return k, nil
}

// read reads the file, once. The caller holds mu.
func (k *dataKey) read(fsys vfs.FS) error {
	if k.file != (seal.ID{}) {
		return nil
	}
	h, err := headerOf(fsys, k.name())
	if err != nil {
		return missing(err)
	}
	want := k.header()
	want.File = h.File
	body, err := readBody(fsys, k.name(), want)
	if err != nil {
		return missing(err)
	}
	if len(body) != wrappedSize || body[0] != tinkMark || h.File == (seal.ID{}) {
		return &disk.CorruptError{File: k.name(), Offset: disk.HeaderSize, Err: fmt.Errorf("%d bytes are no wrapped key", len(body))}
	}
	k.file = h.File
	copy(k.wrapped[:], body)
	return nil
}

// missing makes a file that is gone a missing key.
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", err, seal.ErrKey)
	}
	return err
}

// open unwraps the key, once. The caller holds mu.
func (k *dataKey) open(fsys vfs.FS, ks *opened) error {
	if k.secret != nil {
		return nil
	}
	if err := k.read(fsys); err != nil {
		return err
	}
	if !slices.Contains(ks.ids, k.wrapper()) {
		return fmt.Errorf("%s: wrapped under key %d, and %s (operator's key %q) has keys %d: %w",
			k.name(), k.wrapper(), ks.name(), ks.uri, ks.ids, seal.ErrKey)
	}
	plain, err := ks.wrap.Decrypt(k.wrapped[:], k.associated())
	defer clear(plain)
	if err != nil || len(plain) != keySize {
		return &disk.CorruptError{File: k.name(), Offset: disk.HeaderSize, Err: fmt.Errorf("does not open with key %d of %s", k.wrapper(), ks.name())}
	}
	k.secret = new([keySize]byte)
	copy(k.secret[:], plain)
	return nil
}

// use calls fn with the key, which it must not keep.
func (k *dataKey) use(fsys vfs.FS, ks *opened, fn func(secret []byte) error) error {
	k.mu.RLock()
	for k.secret == nil && !k.dropped {
		k.mu.RUnlock()
		k.mu.Lock()
		var err error
		if !k.dropped {
			err = k.open(fsys, ks)
		}
		k.mu.Unlock()
		if err != nil {
			return err
		}
		k.mu.RLock()
	}
	defer k.mu.RUnlock()
	if k.dropped {
		return fmt.Errorf("%s: %w", k.name(), ErrShredded)
	}
	return fn(k.secret[:])
}

// describe reads what can be said about the key without opening it.
func (k *dataKey) describe(fsys vfs.FS) (KeyInfo, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.read(fsys)
	return k.info(), err
}

// drop wipes the key. Who uses it is waited for.
func (k *dataKey) drop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.secret != nil {
		clear(k.secret[:])
	}
	k.secret, k.dropped = nil, true
}

// write makes the key's file, durable when it returns.
func (k *dataKey) write(fsys vfs.FS) error {
	return writeBody(fsys, k.name(), k.header(), bytes.Clone(k.wrapped[:]))
}

// newID draws the identity of a file.
func newID() (id seal.ID) {
	rand.Read(id[:]) // never fails
	return id
}
