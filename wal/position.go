package wal

import (
	"cmp"
	"encoding/binary"
	"fmt"
)

// Position is a place in the log's order: never a file offset. Seq counts
// the entries from 1 and never starts again, so it alone orders the entries
// of one log; Epoch says under whose term an entry was written.
type Position struct{ Epoch, Seq uint64 }

// Compare is negative when p is before q, positive when it is after.
func (p Position) Compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Epoch, q.Epoch), cmp.Compare(p.Seq, q.Seq))
}

// String is "epoch.seq".
func (p Position) String() string { return fmt.Sprintf("%d.%d", p.Epoch, p.Seq) }

const positionSize = 16

// AppendBinary appends epoch and seq, 8 bytes each, little endian.
func (p Position) AppendBinary(b []byte) ([]byte, error) {
	b = binary.LittleEndian.AppendUint64(b, p.Epoch)
	return binary.LittleEndian.AppendUint64(b, p.Seq), nil
}

// decodePosition reads what AppendBinary wrote. b has positionSize bytes.
func decodePosition(b []byte) Position {
	return Position{Epoch: binary.LittleEndian.Uint64(b), Seq: binary.LittleEndian.Uint64(b[8:])}
}
