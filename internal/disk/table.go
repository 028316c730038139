package disk

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/chromad/chromad/internal/seal"
)

// The table follows the last section, the footer ends the file. Offsets of
// sections and numbers of blocks follow from the lengths before them; they are
// written for readers of the bytes and must have the one value that fits.
const (
	align       = 64
	tableHead   = 16
	tableEntry  = 32
	footerSize  = 32
	footerMagic = "CHROMEND"

	maxBlockSize = 1 << 30
	maxSections  = 256

	// tableBlock is the block number of a sealed table, which no block has.
	tableBlock = 1 << 63
)

// extent is a section as the table describes it.
type extent struct {
	kind      uint16
	blockSize int
	length    int64  // of the plain bytes
	offset    int64  // of the first stored byte
	first     uint64 // number of the first block in the file
}

func (e extent) blocks() int {
	return int((e.length + int64(e.blockSize) - 1) / int64(e.blockSize))
}

// plain is the length of block i of the section.
func (e extent) plain(i int) int {
	return int(min(int64(e.blockSize), e.length-int64(i)*int64(e.blockSize)))
}

// at is the file offset of block i, end that of the byte behind the section.
func (e extent) at(i, overhead int) int64 {
	return e.offset + int64(i)*int64(e.blockSize+overhead)
}

func (e extent) end(overhead int) int64 {
	return e.offset + e.length + int64(e.blocks())*int64(overhead)
}

func aligned(n int64) int64 { return (n + align - 1) &^ (align - 1) }

func appendTable(b []byte, sections []extent, overhead int, sums []uint64) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(sections)))
	b = binary.LittleEndian.AppendUint32(b, uint32(overhead))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(sums)))
	for _, s := range sections {
		b = binary.LittleEndian.AppendUint16(b, s.kind)
		b = binary.LittleEndian.AppendUint16(b, 0)
		b = binary.LittleEndian.AppendUint32(b, uint32(s.blockSize))
		b = binary.LittleEndian.AppendUint64(b, uint64(s.length))
		b = binary.LittleEndian.AppendUint64(b, uint64(s.offset))
		b = binary.LittleEndian.AppendUint64(b, s.first)
	}
	for _, s := range sums {
		b = binary.LittleEndian.AppendUint64(b, s)
	}
	return b
}

func appendFooter(b []byte, offset, length int64, root uint64) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(offset))
	b = binary.LittleEndian.AppendUint64(b, uint64(length))
	b = binary.LittleEndian.AppendUint64(b, root)
	return append(b, footerMagic...)
}

// rootOf is the checksum over header and table as it is stored, and so, by way
// of the block checksums in the table, over every byte but padding, which is
// zero.
func rootOf(header, table []byte) uint64 {
	var d xxhash.Digest
	d.Reset()
	d.Write(header)
	d.Write(table)
	return d.Sum64()
}

// findTable reads the footer of a whole file and returns the table's offset
// and stored bytes, and the root, which it has checked.
func findTable(file []byte) (at int64, table []byte, root uint64, err error) {
	size := int64(len(file))
	end := size - footerSize
	if end < HeaderSize+tableHead {
		return 0, nil, 0, damage(size, "file ends after %d bytes", size)
	}
	foot := file[end:]
	if string(foot[24:]) != footerMagic {
		return 0, nil, 0, damage(end+24, "footer magic is %q", foot[24:])
	}
	offset := binary.LittleEndian.Uint64(foot)
	length := binary.LittleEndian.Uint64(foot[8:])
	root = binary.LittleEndian.Uint64(foot[16:])
	if offset < HeaderSize || offset > uint64(end) || length != uint64(end)-offset {
		return 0, nil, 0, damage(end, "footer: table at %d of %d bytes, the file has %d", offset, length, size)
	}
	table = file[offset:end]
	if rootOf(file[:HeaderSize], table) != root {
		return 0, nil, 0, damage(int64(offset), "header and table: %w", errChecksum)
	}
	return int64(offset), table, root, nil
}

// openTable is the table that is stored at offset at. In a sealed file it is
// encrypted as one block, to which the whole header is bound.
func openTable(header Header, head, stored []byte, at int64, s seal.Sealer) ([]byte, error) {
	if s.Overhead() == 0 {
		return stored, nil
	}
	if len(stored) < tableHead+s.Overhead() {
		return nil, damage(at, "table of %d bytes", len(stored))
	}
	table, err := s.Open(nil, stored, header.Address(tableBlock), head)
	if err != nil {
		return nil, damage(at, "table: %w", err)
	}
	return table, nil
}

// decodeTable reads the table at offset at. It returns the sections and the
// bytes of the block checksums. Memory is bounded by the table's own length.
func decodeTable(table []byte, at int64, overhead int) ([]extent, []byte, error) {
	d := NewDecoder(table)
	count, over, blocks := d.Uint32(), d.Uint32(), d.Uint64()
	if d.Err() != nil || count > maxSections || int(count) > d.Len()/tableEntry ||
		blocks != uint64(d.Len()-int(count)*tableEntry)/8 || (d.Len()-int(count)*tableEntry)%8 != 0 {
		return nil, nil, damage(at, "table of %d bytes: %d sections, %d blocks", len(table), count, blocks)
	}
	if uint64(over) != uint64(overhead) {
		return nil, nil, damage(at+4, "blocks are %d bytes longer than their content, not %d", over, overhead)
	}
	sections := make([]extent, 0, count)
	next, first := int64(HeaderSize), uint64(0)
	for i := range int(count) {
		e, err := decodeExtent(d, at-next)
		if err != nil {
			return nil, nil, damage(at+tableHead+int64(i)*tableEntry, "section %d of the table: %w", i, err)
		}
		for _, other := range sections {
			if other.kind == e.kind {
				return nil, nil, damage(at+tableHead+int64(i)*tableEntry, "section %d of the table: kind %d again", i, e.kind)
			}
		}
		if e.offset != next || e.first != first {
			return nil, nil, damage(at+tableHead+int64(i)*tableEntry,
				"section %d of the table: at %d from block %d, not at %d from %d", i, e.offset, e.first, next, first)
		}
		next, first = aligned(e.end(overhead)), first+uint64(e.blocks())
		sections = append(sections, e)
	}
	// Each section begins where the one before ends, so if the last one ends
	// here they all are inside the file, and do not overlap.
	if first != blocks || next != at {
		return nil, nil, damage(at, "sections end at %d with block %d, the table is at %d and has %d", next, first, at, blocks)
	}
	return sections, d.Bytes(d.Len()), nil
}

// decodeExtent reads one entry; room is how many bytes the file has for it,
// which keeps the sums of its fields from overflowing.
func decodeExtent(d *Decoder, room int64) (extent, error) {
	kind, reserved, blockSize := d.Uint16(), d.Uint16(), d.Uint32()
	length, offset, first := d.Uint64(), d.Uint64(), d.Uint64()
	switch {
	case d.Err() != nil:
		return extent{}, d.Err()
	case reserved != 0:
		return extent{}, fmt.Errorf("reserved field is %d", reserved)
	case blockSize == 0 || blockSize%align != 0 || blockSize > maxBlockSize:
		return extent{}, fmt.Errorf("block size %d", blockSize)
	case room < 0 || length > uint64(room):
		return extent{}, fmt.Errorf("%d bytes at %d, room for %d", length, offset, room)
	}
	return extent{kind: kind, blockSize: int(blockSize), length: int64(length), offset: int64(offset), first: first}, nil
}
