package segment

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
)

// Copy writes the segment of r once more, as spec's number and file and under
// the newest of keys. Rows and graph are the same, row by row: sections are
// copied block by block and nothing is built, but for the id table, whose
// order comes from the file's id. The file is whole and durable when Copy
// returns, and absent after an error.
func Copy(ctx context.Context, fs vfs.FS, keys seal.Keys, spec Spec, r *Reader) (Info, error) {
	if r.dim != spec.Dim || r.metric != spec.Metric {
		return Info{}, fmt.Errorf("write %s: %s has dimension %d and metric %v, not %d and %v",
			Name(spec.Number), r.name, r.dim, r.metric, spec.Dim, spec.Metric)
	}
	info, err := disk.WriteFile(fs, Name(spec.Number), spec.header(), keys, func(w *disk.Writer) error {
		for _, kind := range r.file.Kinds() {
			var err error
			if kind == sectionIDTable {
				err = r.copyTable(ctx, w, hashSeed(spec.File))
			} else {
				err = r.copySection(ctx, w, kind)
			}
			if err != nil {
				if remakable(kind) && errors.Is(err, disk.ErrCorrupt) {
					r.badCopy.set(err) // so that the segment is made anew, and can be copied then
				}
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Info{}, err
	}
	return Info{
		Number: spec.Number, File: spec.File, Rows: r.rows,
		MinOrder: r.minOrder, MaxOrder: r.maxOrder, Info: info,
	}, nil
}

// copySection takes the guard for each block anew: Close need not wait for more.
func (r *Reader) copySection(ctx context.Context, w *disk.Writer, kind uint16) error {
	s, ok := r.file.Section(kind)
	if !ok {
		return fmt.Errorf("%s: section %d is gone", r.name, kind)
	}
	size := s.BlockSize()
	if err := w.Section(kind, size); err != nil {
		return err
	}
	for off := 0; off < s.Len(); off += size {
		if err := ctx.Err(); err != nil {
			return err
		}
		var written error // w's own error does not get the name of the input
		err := r.guard(func() error {
			b, err := s.Bytes(off, min(size, s.Len()-off))
			if err == nil {
				_, written = w.Write(b)
			}
			return err
		})
		if err != nil {
			return err
		}
		if written != nil {
			return written
		}
	}
	return nil
}

// copyTable builds the table of the same ids for a file with another seed.
func (r *Reader) copyTable(ctx context.Context, w *disk.Writer, seed uint64) error {
	var ids columnWriter
	hashes := make([]uint64, 0, r.rows)
	for row := range r.rows {
		if row%checkEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		id, err := r.ID(row)
		if err != nil {
			return err
		}
		ids.add([]byte(id))
		hashes = append(hashes, hashID(seed, id))
	}
	table, err := buildTable(&ids, hashes)
	if err != nil {
		return damaged(r.table, 0, "%w", err)
	}
	return writeTable(w, table)
}

func writeTable(w *disk.Writer, table []uint32) error {
	if err := w.Section(sectionIDTable, blockProbe); err != nil {
		return err
	}
	buf := make([]byte, 0, blockProbe)
	for i, slot := range table {
		buf = binary.LittleEndian.AppendUint32(buf, slot)
		if len(buf) == cap(buf) || i == len(table)-1 {
			if _, err := w.Write(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
	}
	return nil
}
