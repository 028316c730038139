package disk

import (
	"context"
	"errors"
)

// Damage is a finding of Check.
type Damage struct {
	Section uint16 // kind of the section; 0: between two sections
	Block   int    // of the section
	Err     error  // a CorruptError with file and offset
}

// Check reads every byte as Verify does, and goes on after damage: found is
// told of all of it, step of the bytes that were looked at. The error is the
// context's, or that of a file that cannot be read at all.
func (f *File) Check(ctx context.Context, step func(bytes int64), found func(Damage)) error {
	return f.Faults(func() error { return f.check(ctx, step, found) })
}

func (f *File) check(ctx context.Context, step func(bytes int64), found func(Damage)) error {
	at := int64(HeaderSize)
	var plain []byte
	for _, s := range f.sections {
		if err := f.verifyPadding(at, s.offset); err != nil {
			found(Damage{Err: err})
		}
		for i := range s.blocks() {
			if err := ctx.Err(); err != nil {
				return err
			}
			stored, err := s.check(i)
			if err == nil && f.Encrypted() {
				plain, err = s.decrypt(plain[:0], stored, i)
			}
			if err != nil && !errors.Is(err, ErrCorrupt) {
				return err
			}
			if err != nil {
				found(Damage{Section: s.kind, Block: i, Err: err})
			}
			step(int64(s.extent.plain(i) + f.sealer.Overhead()))
		}
		at = s.end(f.sealer.Overhead())
	}
	if err := f.verifyPadding(at, f.tableAt); err != nil {
		found(Damage{Err: err})
	}
	return nil
}

// Part is where a section stands in its file.
type Part struct {
	Kind      uint16
	Offset    int64 // of its first stored byte
	End       int64 // of its last stored byte, and one
	Length    int64 // of its plain bytes
	BlockSize int
	Blocks    int
	First     uint64 // number of its first block in the file
}

// Part tells where the section stands.
func (s *Section) Part() Part {
	return Part{
		Kind: s.kind, Offset: s.offset, End: s.end(s.file.sealer.Overhead()), Length: s.length,
		BlockSize: s.blockSize, Blocks: s.blocks(), First: s.first,
	}
}

// Parts lists the sections in the order of the file, for those who show it.
func (f *File) Parts() []Part {
	out := make([]Part, len(f.sections))
	for i, s := range f.sections {
		out[i] = s.Part()
	}
	return out
}

// Table is where the table begins: after it comes the footer, of 32 bytes.
func (f *File) Table() int64 { return f.tableAt }
