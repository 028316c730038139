package wal

import (
	"encoding/binary"
	"fmt"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/mutant"
	"github.com/chromad/chromad/internal/seal"
)

const (
	frameMagic    = "CHWF"
	headSize      = 48 // of a frame's header
	sumSize       = 8  // of a frame's checksum, behind its body
	frameOverhead = headSize + sumSize
	headSumAt     = headSize - 8 // the header's own checksum covers what is before it
)

// head is a frame's header.
type head struct {
	length uint32 // bytes of the stored body
	index  uint64 // of the frame in its file, from 1: the block number of its address
	first  uint64 // sequence number of its first entry
	count  uint32 // of entries
	spare  uint32 // zero
	prev   uint64 // checksum of the frame before, or of the file's header
}

// size is the length of the whole frame in the file.
func (h head) size() int64 { return frameOverhead + int64(h.length) }

// appendFrame appends the frame of body, whose entries are encoded as a
// uvarint length and the payload each, and returns the frame's checksum. The
// length is filled in here. The head is bound to the sealed body: checksums
// can be made by anybody, and nobody may change what a frame says of itself.
func appendFrame(b, body []byte, h head, id disk.Header, s seal.Sealer) ([]byte, uint64, error) {
	start := len(b)
	at := id.Address(h.index)
	h.length = uint32(len(body) + s.Overhead())
	b = h.append(b, at)
	b, err := s.Seal(b, body, at, b[start:start+headSumAt])
	if err == nil && len(b)-start-headSize != int(h.length) {
		err = fmt.Errorf("%d bytes became %d instead of %d", len(body), len(b)-start-headSize, h.length)
	}
	if err != nil {
		return b[:min(start, len(b))], 0, fmt.Errorf("seal frame %d: %w", h.index, err)
	}
	sum := seal.Sum(b[start:], at)
	return binary.LittleEndian.AppendUint64(b, sum), sum, nil
}

// append appends the headSize bytes of h.
func (h head) append(b []byte, at seal.Address) []byte {
	start := len(b)
	b = append(b, frameMagic...)
	b = binary.LittleEndian.AppendUint32(b, h.length)
	b = binary.LittleEndian.AppendUint64(b, h.index)
	b = binary.LittleEndian.AppendUint64(b, h.first)
	b = binary.LittleEndian.AppendUint32(b, h.count)
	b = binary.LittleEndian.AppendUint32(b, h.spare)
	b = binary.LittleEndian.AppendUint64(b, h.prev)
	return binary.LittleEndian.AppendUint64(b, seal.Sum(b[start:], at))
}

// decodeHead reads the header of a frame, b having headSize bytes. It believes
// nothing before the header's checksum: id is the file that b is read from.
func decodeHead(b []byte, id disk.Header) (head, error) {
	if string(b[:len(frameMagic)]) != frameMagic {
		return head{}, fmt.Errorf("frame magic is %q", b[:len(frameMagic)])
	}
	h := head{
		length: binary.LittleEndian.Uint32(b[4:]),
		index:  binary.LittleEndian.Uint64(b[8:]),
		first:  binary.LittleEndian.Uint64(b[16:]),
		count:  binary.LittleEndian.Uint32(b[24:]),
		spare:  binary.LittleEndian.Uint32(b[28:]),
		prev:   binary.LittleEndian.Uint64(b[32:]),
	}
	if seal.Sum(b[:headSumAt], id.Address(h.index)) != binary.LittleEndian.Uint64(b[headSumAt:]) {
		return head{}, fmt.Errorf("frame header: %w", errChecksum)
	}
	return h, nil
}

// follows says in what an intact header differs from the one that is expected:
// the frame index, whose first entry is seq, behind a frame with checksum prev.
// A smaller index is damage like any other: a sector that was never written
// may hold what an old write left there.
func (h head) follows(index, seq, prev uint64) error {
	switch {
	case h.index < index:
		return &tornError{fmt.Errorf("frame %d where frame %d belongs", h.index, index)}
	case h.index > index:
		return fmt.Errorf("frame %d where frame %d belongs", h.index, index)
	case h.first != seq:
		return fmt.Errorf("frame %d begins with entry %d instead of %d", h.index, h.first, seq)
	case h.prev != prev && !mutant.On(mutant.ChainIgnored):
		return fmt.Errorf("frame %d does not follow the frame before it", h.index)
	case h.count == 0:
		return fmt.Errorf("frame %d has no entries", h.index)
	case h.first+uint64(h.count) < h.first:
		return fmt.Errorf("frame %d overflows the sequence numbers", h.index)
	case h.spare != 0:
		return fmt.Errorf("frame %d has its spare bytes set", h.index)
	}
	return nil
}

// checkBody counts the entries of a frame's body, so that a caller who walks
// them with nextEntry meets no surprise.
func checkBody(body []byte, count uint32) error {
	d := disk.NewDecoder(body)
	for range count {
		if d.Blob(); d.Err() != nil {
			break
		}
	}
	return d.Done()
}

// nextEntry cuts the first entry off a checked body.
func nextEntry(body []byte) (payload, rest []byte) {
	length, n := binary.Uvarint(body)
	end := n + int(length)
	return body[n:end:end], body[end:]
}
