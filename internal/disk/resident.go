package disk

import "github.com/chromad/chromad/internal/vfs"

// Resident is all of the section, verified, in memory of the process's own
// where that pays and fits: own says so. Such bytes lie in large pages, which
// those of a mapped file get when all goes well, cannot fault when the file is truncated,
// and are valid until File.Close. What is small, and what the budget has no
// room for, is Bytes. Each call makes a copy of its own, so there is one.
func (s *Section) Resident() (b []byte, own bool, err error) {
	if s.revealed != nil {
		b, err = s.Bytes(0, s.Len())
		return b, err == nil && !s.revealed.evictable, err
	}
	if s.length < largeSection || !s.file.shared.room(s.length) {
		b, err = s.Bytes(0, s.Len())
		return b, false, err
	}
	m, err := vfs.Anonymous(s.Len())
	if err != nil {
		b, err = s.Bytes(0, s.Len()) // the system has no room either
		return b, false, err
	}
	m.Fill()
	b = m.Bytes()
	if err := s.share(0, s.n, func(i int) error {
		stored, err := s.check(i)
		if err != nil {
			return err
		}
		copy(b[i*s.blockSize:], stored)
		s.found(i)
		return nil
	}); err != nil {
		m.Close()
		return nil, false, err
	}
	s.file.keep(m)
	return b, true, nil
}

// keep counts memory and gives it back when the file is closed.
func (f *File) keep(m *vfs.Memory) {
	f.keptMu.Lock()
	defer f.keptMu.Unlock()
	f.kept = append(f.kept, m)
	n := int64(len(m.Bytes()))
	f.resident.Add(n)
	if f.shared != nil {
		f.shared.used.Add(n)
	}
}
