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

// fetchFrom is the size from which on memory is asked for what will be read: less is in a
// cache as a rule, which answers sooner than asking pays for.
const fetchFrom = 1 << 18

// fetch asks memory for where the byte strings of rows are, unless the column is short.
func (c column) fetch(rows []uint32) {
	ends, err := c.ends.Map()
	if err != nil || len(ends) < fetchFrom {
		return // of an error who needs them will hear
	}
	for _, row := range rows {
		prefetch(ends, 8*max(int(row), 1)-8)
	}
}

// spans appends the spans of rows, which are rows of the column, and asks memory for what
// is there, in data, the Map of c.data, unless that is little. total is how many bytes that is.
func (c column) spans(list []span, rows []uint32, data []byte) (_ []span, total int, err error) {
	ends, err := c.ends.Map()
	if err != nil {
		return list, 0, err
	}
	whole := c.ends.Verified() // then its blocks need not be asked for
	if !whole {
		c.fetch(rows)
	}
	size := uint64(len(data))
	for _, row := range rows {
		var at span
		if !whole || row == 0 {
			if at, err = c.span(row); err != nil {
				return list, 0, err
			}
		} else {
			pair := ends[8*int(row)-8:][:16]
			start, end := binary.LittleEndian.Uint64(pair), binary.LittleEndian.Uint64(pair[8:])
			if start > end || end > size {
				_, err := c.span(row) // which says so
				return list, 0, err
			}
			at = span{int(start), int(end - start)}
		}
		if len(data) >= fetchFrom {
			prefetch(data, at.from)
		}
		list = append(list, at)
		total += at.n
	}
	return list, total, nil
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
