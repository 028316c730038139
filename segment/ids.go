package segment

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/cespare/xxhash/v2"
	"github.com/chromad/chromad/internal/seal"
)

// The id table is a hash table with open addressing: an array of u32 slots,
// 0 for a free one, else row+1 in the low rowBits bits and a tag, bits of the
// id's hash, in the others. A lookup starts at the slot that the hash names
// and goes on to the next until it has found the id or a free slot; ids are
// compared only where the tag agrees.
//
// Two thirds of the slots are taken: 6 bytes a row, and a lookup reads two
// slots on average that are there, five that are not.

// slotCount leaves at least one slot free, so every lookup ends.
func slotCount(rows uint32) int { return int(rows) + int(rows)/2 + 1 }

// hashSeed differs from file to file, so that ids which were chosen to fall
// into one place of one segment do not in another.
func hashSeed(file seal.ID) uint64 { return xxhash.Sum64(file[:]) }

func hashID(seed uint64, id string) uint64 {
	var d xxhash.Digest
	d.ResetWithSeed(seed)
	d.WriteString(id)
	return d.Sum64()
}

// slotOf is where a hash begins to look and the tag it looks for, in place.
// The high bits choose the slot, the low bits are the tag.
func slotOf(hash uint64, rows uint32, slots int) (slot int, tag uint32) {
	high, _ := bits.Mul64(hash, uint64(slots))
	return int(high), uint32(hash) << bits.Len32(rows)
}

// buildTable returns the slots for ids, whose hashes are given, row by row.
func buildTable(ids *columnWriter, hashes []uint64) ([]uint32, error) {
	rows := uint32(len(hashes))
	mask := uint32(1)<<bits.Len32(rows) - 1
	table := make([]uint32, slotCount(rows))
	var mine, other []byte
	for row, hash := range hashes {
		slot, tag := slotOf(hash, rows, len(table))
		for table[slot] != 0 {
			before := table[slot]&mask - 1
			if hashes[before] == hash {
				start, end := ids.bounds(uint32(row))
				mine = ids.data.appendRange(mine[:0], start, end)
				start, end = ids.bounds(before)
				other = ids.data.appendRange(other[:0], start, end)
				if bytes.Equal(mine, other) {
					return nil, clash(fmt.Sprintf("rows %d and %d have the same id", before, row)) // which is nothing for a log
				}
			}
			if slot++; slot == len(table) {
				slot = 0
			}
		}
		table[slot] = tag | uint32(row+1)
	}
	return table, nil
}

// probe goes through the slots at which id may be: those of table, or of the
// file when it is nil.
func (r *Reader) probe(table []uint32, id string) (uint32, bool, error) {
	slots := slotCount(r.rows)
	mask := uint32(1)<<bits.Len32(r.rows) - 1
	slot, tag := slotOf(hashID(r.seed, id), r.rows, slots)
	for range slots {
		entry, err := r.slot(table, slot)
		if err != nil {
			return 0, false, err
		}
		if entry == 0 {
			return 0, false, nil
		}
		if entry&^mask == tag {
			row := entry&mask - 1
			if row >= r.rows {
				return 0, false, damaged(r.table, slot*4, "slot %d of the id table names row %d of %d", slot, row, r.rows)
			}
			stored, err := r.ids.at(row)
			if err != nil {
				return 0, false, err
			}
			if string(stored) == id {
				return row, true, nil
			}
		}
		if slot++; slot == slots {
			slot = 0
		}
	}
	return 0, false, damaged(r.table, 0, "the id table has no free slot")
}

// slot reads a slot of table, or of the file when it is nil.
func (r *Reader) slot(table []uint32, n int) (uint32, error) {
	if table != nil {
		return table[n], nil
	}
	b, err := r.table.Bytes(n*4, 4)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}
