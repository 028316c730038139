package segment

import (
	"encoding/binary"
	"io"
)

// spoolChunk bounds what growing copies and what the last chunk may waste.
const spoolChunk = 1 << 20

// spool is a growing run of bytes that is written out once: the sections of a
// file while its vectors are still coming. It is a list of chunks, so growing
// never copies more than one.
type spool struct {
	chunks [][]byte
	size   int
}

func (s *spool) Write(p []byte) (int, error) {
	n := len(p)
	s.size += n
	for len(p) > 0 {
		last := len(s.chunks) - 1
		if last < 0 {
			s.chunks = append(s.chunks, nil) // small segments stay small
			last = 0
		} else if len(s.chunks[last]) == spoolChunk {
			s.chunks = append(s.chunks, make([]byte, 0, spoolChunk))
			last++
		}
		k := min(len(p), spoolChunk-len(s.chunks[last]))
		s.chunks[last] = append(s.chunks[last], p[:k]...)
		p = p[k:]
	}
	return n, nil
}

func (s *spool) uint64(v uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	s.Write(b[:])
}

// appendRange appends the bytes from off to end to b.
func (s *spool) appendRange(b []byte, off, end int) []byte {
	for off < end {
		chunk := s.chunks[off/spoolChunk]
		at := off % spoolChunk
		k := min(end-off, len(chunk)-at)
		b = append(b, chunk[at:at+k]...)
		off += k
	}
	return b
}

// uint64At is the value that the i-th call of uint64 wrote.
func (s *spool) uint64At(i int) uint64 {
	return binary.LittleEndian.Uint64(s.chunks[i*8/spoolChunk][i*8%spoolChunk:])
}

// flushTo writes the bytes out and lets go of them.
func (s *spool) flushTo(w io.Writer) error {
	for i, chunk := range s.chunks {
		if _, err := w.Write(chunk); err != nil {
			return err
		}
		s.chunks[i] = nil
	}
	*s = spool{}
	return nil
}
