package segment

import (
	"encoding/binary"

	"github.com/chromad/chromad/internal/disk"
)

// columnWriter gathers one byte string per row: where each ends, and the
// bytes themselves.
type columnWriter struct {
	ends, data spool
}

func (c *columnWriter) add(p []byte) {
	c.data.Write(p)
	c.ends.uint64(uint64(c.data.size))
}

// bounds is where row begins and ends in data.
func (c *columnWriter) bounds(row uint32) (start, end int) {
	if row > 0 {
		start = int(c.ends.uint64At(int(row) - 1))
	}
	return start, int(c.ends.uint64At(int(row)))
}

func (c *columnWriter) flush(w *disk.Writer, ends, data uint16) error {
	if err := w.Section(ends, blockProbe); err != nil {
		return err
	}
	if err := c.ends.flushTo(w); err != nil {
		return err
	}
	if err := w.Section(data, blockText); err != nil {
		return err
	}
	return c.data.flushTo(w)
}

// column reads what columnWriter wrote.
type column struct {
	ends, data *disk.Section
}

// at is the byte string of row, aliasing the file's memory.
func (c column) at(row uint32) ([]byte, error) {
	at, err := c.span(row)
	if err != nil {
		return nil, err
	}
	return c.data.Bytes(at.from, at.n)
}

// span is a place in the data of a column.
type span struct{ from, n int }

// span is where the byte string of row is.
func (c column) span(row uint32) (span, error) {
	start, end, err := endsAt(c.ends, row)
	if err != nil {
		return span{}, err
	}
	if start > end || end > uint64(c.data.Len()) {
		return span{}, damaged(c.ends, int(row)*8, "row %d is at %d to %d of %d", row, start, end, c.data.Len())
	}
	return span{int(start), int(end - start)}, nil
}

// spans appends the spans of rows, which are rows of the column.
func (c column) spans(list []span, rows []uint32) ([]span, error) {
	ends, err := c.ends.Map()
	if err != nil {
		return list, err
	}
	if !c.ends.Verified() {
		for _, row := range rows {
			prefetch(ends, int(row)*8)
		}
		for _, row := range rows {
			at, err := c.span(row)
			if err != nil {
				return list, err
			}
			list = append(list, at)
		}
		return list, nil
	}
	size := uint64(c.data.Len())
	for _, row := range rows {
		end, start := binary.LittleEndian.Uint64(ends[8*int(row):]), uint64(0)
		if row > 0 {
			start = binary.LittleEndian.Uint64(ends[8*int(row)-8:])
		}
		if start > end || end > size {
			_, err := c.span(row) // which says so
			return list, err
		}
		list = append(list, span{int(start), int(end - start)})
	}
	return list, nil
}

// endsAt reads the entries row-1 (0 for the first row) and row of an array
// of u64.
func endsAt(s *disk.Section, row uint32) (before, at uint64, err error) {
	if row == 0 {
		b, err := s.Bytes(0, 8)
		if err != nil {
			return 0, 0, err
		}
		return 0, binary.LittleEndian.Uint64(b), nil
	}
	b, err := s.Bytes((int(row)-1)*8, 16)
	if err != nil {
		return 0, 0, err
	}
	return binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]), nil
}
