package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
)

// Fields are the fields of a file's header, start and frame headers, whatever
// is damaged of them. What is encrypted is one field.
func Fields(fs vfs.FS, number uint64, o Options) (fields []disk.Field, err error) {
	o = o.withDefaults()
	f, err := fs.Open(fileName(number))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b := make([]byte, disk.HeaderSize)
	n, err := f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	fields = disk.HeaderFields(b[:n])
	h, err := disk.DecodeHeader(b[:n])
	if err != nil {
		return fields, nil // nothing tells what the rest is
	}
	s, err := o.Keys.Reader(h.Address(0), h.KeyID)
	if err != nil {
		return fields, nil
	}
	more, err := startFields(f, h, s)
	if err != nil {
		return nil, err
	}
	fields = append(fields, more...)
	for frame, err := range Frames(fs, number, o) {
		if err != nil {
			break // check tells
		}
		head := make([]byte, headSize)
		if _, err := f.ReadAt(head, frame.Offset); err != nil {
			return nil, err
		}
		fields = append(fields, frameFields(head, h, frame)...)
	}
	return fields, nil
}

func startFields(f vfs.File, h disk.Header, s seal.Sealer) ([]disk.Field, error) {
	b := make([]byte, preludeSize(s))
	n, err := f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	b = b[:n]
	r := disk.ReadFields(b[min(n, disk.HeaderSize):], disk.HeaderSize)
	if s.Overhead() > 0 {
		r.Cut(startSize+s.Overhead(), "start", func([]byte) string { return "encrypted" })
	} else {
		r.Cut(8, "epoch", disk.Decimal)
		r.Cut(8, "first entry", disk.Decimal)
		r.Cut(8, "chain", func([]byte) string { return "checksum of the last frame before this file" })
	}
	if n == preludeSize(s) {
		r.Cut(sumSize, "checksum", disk.Is(seal.Sum(b[:n-sumSize], h.Address(0))))
	}
	return r.Fields(), nil
}

func frameFields(b []byte, h disk.Header, f FrameInfo) []disk.Field {
	r := disk.ReadFields(b, f.Offset)
	r.Cut(4, "frame magic", func(b []byte) string { return fmt.Sprintf("%q", b) })
	r.Cut(4, "body bytes", disk.Decimal)
	r.Cut(8, "index", disk.Decimal)
	r.Cut(8, "first entry", disk.Decimal)
	r.Cut(4, "entries", disk.Decimal)
	r.Cut(4, "spare", disk.Decimal)
	r.Cut(8, "previous", func([]byte) string { return "checksum of the frame before" })
	index := binary.LittleEndian.Uint64(b[8:])
	r.Cut(8, "checksum", disk.Is(seal.Sum(b[:headSumAt], h.Address(index))))
	return r.Fields()
}
