package fuzz

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
)

// image is the files of a store.
type image map[string][]byte

// damage is what a fuzzer does to one file of an image.
type damage struct {
	file   string
	how    byte
	offset uint32
	data   []byte
	other  []byte // content of another file
}

// The ways of doing damage; other numbers stand for one of these.
const (
	overwrite = iota
	flip
	truncate
	extend
	remove
	replace
	swap      // two sectors of the file
	misdirect // a sector of the other file lands in this one
	ways
)

// apply changes a copy of the image. The file and only the file is changed.
func (d damage) apply(im image) image {
	im = maps.Clone(im)
	b := slices.Clone(im[d.file])
	at := 0
	if len(b) > 0 {
		at = int(d.offset) % len(b)
	}
	switch d.how % ways {
	case overwrite:
		copy(b[at:], d.data)
	case flip:
		for i := range min(len(d.data), len(b)-at) {
			b[at+i] ^= d.data[i]
		}
	case truncate:
		b = b[:at]
	case extend:
		b = append(b, d.data...)
	case remove:
		delete(im, d.file)
		return im
	case replace:
		b = slices.Clone(d.other)
	case swap:
		first := sector(b, at)
		second := sector(b, int(d.offset>>16)+len(d.data)*sectorSize)
		for i := range min(len(first), len(second)) {
			first[i], second[i] = second[i], first[i]
		}
	case misdirect:
		copy(sector(b, at), sector(d.other, at))
	}
	im[d.file] = b
	return im
}

const sectorSize = 512

// sector is the one that holds the byte at an offset.
func sector(b []byte, at int) []byte {
	if len(b) == 0 {
		return nil
	}
	from := at % len(b) / sectorSize * sectorSize
	return b[from:min(from+sectorSize, len(b))]
}

// mend gives a damaged file the checksums that its bytes should have, in
// itself and wherever other files name them, so that what is behind the
// checksums is reached. before is the image without the damage. Files have
// kept their lengths; what cannot be followed any more is left as it is.
func (im image) mend(file string, before image) {
	old, b := before[file], im[file]
	if len(b) != len(old) || len(b) < disk.HeaderSize {
		return
	}
	was, is := mendSections(old), mendSections(b)
	if strings.HasSuffix(file, ".wal") {
		was, is = mendLog(old), mendLog(b)
	}
	if was == is {
		return
	}
	for name, other := range im {
		if name == file {
			continue
		}
		named := bytes.ReplaceAll(other, binary.LittleEndian.AppendUint64(nil, was), binary.LittleEndian.AppendUint64(nil, is))
		if !bytes.Equal(named, other) {
			im[name] = named
			im.mend(name, before)
		}
	}
}

// mendHeader returns the identity that a header claims to have.
func mendHeader(b []byte) disk.Header {
	end := disk.HeaderSize - 8
	binary.LittleEndian.PutUint64(b[end:], xxhash.Sum64(b[:end]))
	h := disk.Header{Version: binary.LittleEndian.Uint16(b[8:]), Kind: seal.Kind(binary.LittleEndian.Uint16(b[10:]))}
	copy(h.Store[:], b[16:])
	copy(h.Collection[:], b[32:])
	copy(h.File[:], b[48:])
	return h
}

// mendSections mends a segment or a checkpoint as docs/format/file.md draws
// it, and returns the root by which it is named.
func mendSections(b []byte) (root uint64) {
	const foot, head, entry = 32, 16, 32
	id := mendHeader(b)
	end := len(b) - foot
	if end < disk.HeaderSize+head {
		return 0
	}
	at := binary.LittleEndian.Uint64(b[end:])
	if at < disk.HeaderSize || at > uint64(end-head) {
		return 0
	}
	table := b[at:end]
	if sealed(b) { // nobody without the key knows what stands in the table
		root = xxhash.Sum64(slices.Concat(b[:disk.HeaderSize], table))
		binary.LittleEndian.PutUint64(b[end+16:], root)
		return root
	}
	sections := int(binary.LittleEndian.Uint32(table))
	if sections > (len(table)-head)/entry {
		return 0
	}
	sums := table[head+sections*entry:]
	for i := range sections {
		e := table[head+i*entry:]
		size, length := uint64(binary.LittleEndian.Uint32(e[4:])), binary.LittleEndian.Uint64(e[8:])
		offset, block := binary.LittleEndian.Uint64(e[16:]), binary.LittleEndian.Uint64(e[24:])
		for size > 0 && length > 0 && block < uint64(len(sums)/8) && offset < at && length <= at-offset {
			n := min(size, length)
			binary.LittleEndian.PutUint64(sums[block*8:], seal.Sum(b[offset:offset+n], id.Address(block)))
			offset, length, block = offset+n, length-n, block+1
		}
	}
	root = xxhash.Sum64(slices.Concat(b[:disk.HeaderSize], table))
	binary.LittleEndian.PutUint64(b[end+16:], root)
	return root
}

// Lengths of docs/format/wal.md.
const (
	logFrameHead = 48
	logFrame     = logFrameHead + 8
)

// logPrelude is the length of what is in front of the first frame of a file.
func logPrelude(b []byte) int {
	const overhead = 28 // of what is sealed
	if sealed(b) {
		return disk.HeaderSize + 24 + overhead + 8
	}
	return disk.HeaderSize + 24 + 8
}

// sealed tells that the header of a file names a key.
func sealed(b []byte) bool {
	return len(b) >= disk.HeaderSize && binary.LittleEndian.Uint32(b[12:]) != 0
}

// mendLog mends a file of the log and returns the checksum of its last frame,
// to which the next file is chained.
func mendLog(b []byte) (last uint64) {
	front := logPrelude(b)
	if len(b) < front {
		return 0
	}
	id := mendHeader(b)
	last = seal.Sum(b[:front-8], id.Address(0))
	binary.LittleEndian.PutUint64(b[front-8:], last)
	for _, end := range logFrames(b) {
		f := b[end.begin:end.end]
		at := id.Address(binary.LittleEndian.Uint64(f[8:]))
		binary.LittleEndian.PutUint64(f[32:], last)
		binary.LittleEndian.PutUint64(f[40:], seal.Sum(f[:40], at))
		last = seal.Sum(f[:len(f)-8], at)
		binary.LittleEndian.PutUint64(f[len(f)-8:], last)
	}
	return last
}

type span struct{ begin, end int }

// logFrames is where the frames of a file of the log are, as far as their
// lengths can be followed.
func logFrames(b []byte) (out []span) {
	for at := logPrelude(b); at+logFrame <= len(b); {
		n := int(binary.LittleEndian.Uint32(b[at+4:]))
		if n > len(b)-at-logFrame {
			break
		}
		out = append(out, span{at, at + logFrame + n})
		at += logFrame + n
	}
	return out
}
