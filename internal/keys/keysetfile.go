package keys

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
)

// Dir is the directory of the keys, below the root of the store.
const Dir = "keys"

const (
	keysetSuffix = ".keyset"
	keysetInfo   = "chromad keyset v1"

	section   = 1 // the only one of both kinds of file
	blockSize = 4096
	// maxBody bounds what is read of a file in keys/: thousands of keys.
	maxBody = 1 << 20

	flagConverting = 1 // plain files are accepted
)

// sealedKeyset is what can be read of a keyset without the operator's key.
type sealedKeyset struct {
	store  seal.ID
	number uint64
	flags  uint32
	uri    string
	sealed []byte
}

func (s *sealedKeyset) name() string { return disk.Name(Dir, s.number, keysetSuffix) }

func (s *sealedKeyset) converting() bool { return s.flags&flagConverting != 0 }

// associated is what the operator's key binds to the keyset: everything that
// is in the clear beside it.
func (s *sealedKeyset) associated() []byte {
	b := append([]byte(keysetInfo), s.store[:]...)
	b = binary.LittleEndian.AppendUint64(b, s.number)
	b = binary.LittleEndian.AppendUint32(b, s.flags)
	return append(b, s.uri...)
}

func (s *sealedKeyset) appendBody(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, s.flags)
	b = appendBlob(b, []byte(s.uri))
	return appendBlob(b, s.sealed)
}

// decodeBody reads the section of a keyset's file.
func (s *sealedKeyset) decodeBody(b []byte) error {
	d := disk.NewDecoder(b)
	s.flags = d.Uint32()
	if d.Err() == nil && s.flags&^flagConverting != 0 {
		return fmt.Errorf("flags %#x: %w", s.flags, disk.ErrFormat)
	}
	s.uri = d.String()
	if n := len(s.uri); d.Err() == nil && (n == 0 || n > maxURI) {
		d.Fail("operator's URI of %d bytes", n)
	}
	s.sealed = slices.Clone(d.Blob())
	return d.Done()
}

// write makes the file, durable when it returns.
func (s *sealedKeyset) write(fs vfs.FS) error {
	h := disk.Header{Kind: seal.KindKeyset, Version: disk.Version, Store: s.store, File: newID(), Number: s.number}
	return writeBody(fs, s.name(), h, s.appendBody(nil))
}

// readKeyset reads a keyset's file.
func readKeyset(fs vfs.FS, number uint64) (sealedKeyset, error) {
	s := sealedKeyset{number: number}
	h, err := headerOf(fs, s.name())
	if err != nil {
		return s, err
	}
	s.store = h.Store
	want := disk.Header{Kind: seal.KindKeyset, Version: disk.Version, Store: h.Store, File: h.File, Number: number}
	body, err := readBody(fs, s.name(), want)
	if err != nil {
		return s, err
	}
	err = s.decodeBody(body)
	if errors.Is(err, disk.ErrFormat) {
		return s, fmt.Errorf("%s: %w", s.name(), err)
	}
	if err != nil {
		return s, &disk.CorruptError{File: s.name(), Offset: disk.HeaderSize, Err: err}
	}
	return s, nil
}

// newestKeyset reads the keyset with the highest number. It must be valid: an
// older one may hold keys that were meant to be destroyed.
func newestKeyset(fs vfs.FS, l *listing) (sealedKeyset, error) {
	if len(l.keysets) == 0 {
		if len(l.keys) > 0 {
			return sealedKeyset{}, fmt.Errorf("%s: data keys of %d collections and no keyset that opens them: bring back the newest *%s file: %w",
				Dir, len(l.keys), keysetSuffix, seal.ErrKey)
		}
		return sealedKeyset{}, fmt.Errorf("%s: the store has no keyset and no data keys: %w", Dir, seal.ErrKey)
	}
	last := len(l.keysets) - 1
	s, err := readKeyset(fs, l.keysets[last])
	if err != nil && last > 0 {
		older := disk.Name(Dir, l.keysets[last-1], keysetSuffix)
		return s, fmt.Errorf("newest keyset, which %s does not replace: %w", older, err)
	}
	return s, err
}

// writeBody makes a file of one section that is not encrypted by itself.
func writeBody(fs vfs.FS, name string, h disk.Header, body []byte) error {
	_, err := disk.WriteFile(fs, name, h, seal.Plain(), func(w *disk.Writer) error {
		if err := w.Section(section, blockSize); err != nil {
			return err
		}
		_, err := w.Write(body)
		return err
	})
	return err
}

// headerOf reads the header of a file of ours.
func headerOf(fs vfs.FS, name string) (disk.Header, error) {
	st, err := fs.Stat(name)
	if err != nil {
		return disk.Header{}, err
	}
	if !st.Regular {
		return disk.Header{}, &disk.CorruptError{File: name, Err: errors.New("not a regular file")}
	}
	return disk.ReadHeader(fs, name)
}

// readBody reads the section of such a file, every byte of which is checked.
func readBody(fs vfs.FS, name string, want disk.Header) ([]byte, error) {
	body, _, err := disk.ReadSection(fs, name, want, seal.Plain(), section, maxBody)
	return body, err
}

func appendBlob(b, p []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(p))), p...)
}
