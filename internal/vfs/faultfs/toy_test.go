package faultfs_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// bugs are the classic mistakes, planted one at a time. The disk is as strong
// as the mistakes that it finds.
type bugs struct {
	ackBeforeSync, noDirSyncAfterCreate, noDirSyncAfterRename, noSyncBeforeRename, noChecksum,
	appendToTornTail, removeBeforeRename, retrySync, goOnAfterShortWrite, unboundRecords bool
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errDamaged = errors.New("damaged")

// toy is a store of numbers: logs that rotate, a snapshot that replaces the
// logs before it, both numbered. Truth is the newest snapshot and the logs from
// its number on.
type toy struct {
	fs   vfs.FS
	bugs bugs
	data map[uint32]uint32
	next int // number of the log that comes after the current one
	log  vfs.File
	end  int // of the current log
	puts int
	dead error
}

// record is crc, length of the padding, key, value, padding. The crc covers the
// file's name and the offset too, so that an old record which lies where a new
// one was lost is not taken for it.
func (s *toy) record(name string, at int, k, v uint32, pad int) []byte {
	b := make([]byte, 4, 16+pad)
	b = binary.LittleEndian.AppendUint32(b, uint32(pad))
	b = binary.LittleEndian.AppendUint32(b, k)
	b = binary.LittleEndian.AppendUint32(b, v)
	for i := range pad {
		b = append(b, byte(int(k)*7+i)|1)
	}
	binary.LittleEndian.PutUint32(b, s.sum(b, name, at))
	return b
}

func (s *toy) sum(record []byte, name string, at int) uint32 {
	place := crc32.Checksum(fmt.Appendf(nil, "%s:%d", name, at), castagnoli)
	if s.bugs.unboundRecords {
		place = 0
	}
	return crc32.Update(place, castagnoli, record[4:])
}

// replay reads records up to the first bad one and returns where it stands.
func (s *toy) replay(name string, b []byte) int {
	at := 0
	for len(b)-at >= 16 {
		r := b[at:]
		n := 16 + int(binary.LittleEndian.Uint32(r[4:]))
		if n > len(r) || n > 1<<20 {
			break
		}
		if s.bugs.noChecksum {
			if binary.LittleEndian.Uint32(r) == 0 {
				break // an empty place
			}
		} else if s.sum(r[:n], name, at) != binary.LittleEndian.Uint32(r) {
			break
		}
		s.data[binary.LittleEndian.Uint32(r[8:])] = binary.LittleEndian.Uint32(r[12:])
		at += n
	}
	return at
}

func read(fsys vfs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	_, err = f.ReadAt(b, 0)
	return b, errors.Join(err, f.Close())
}

func openToy(fsys vfs.FS, b bugs) (*toy, error) {
	s := &toy{fs: fsys, bugs: b, data: map[uint32]uint32{}}
	if err := errors.Join(fsys.Mkdir("tmp"), fsys.SyncDir(".")); err != nil {
		return nil, err
	}
	list, err := fsys.List(".")
	if err != nil {
		return nil, err
	}
	first := 0
	for _, i := range list {
		if number, ok := strings.CutPrefix(i.Name, "snap-"); ok {
			fmt.Sscanf(number, "%d", &first) // sorted: the last is the newest
		}
	}
	if first > 0 {
		all, err := read(fsys, snapName(first))
		if err != nil {
			return nil, err
		}
		if s.replay(snapName(first), all) != len(all) || len(all) == 0 {
			return nil, fmt.Errorf("snapshot %d: %w", first, errDamaged)
		}
		delete(s.data, 0)
	}
	s.next = first
	for _, i := range list {
		number, ok := strings.CutPrefix(i.Name, "log-")
		n := 0
		if fmt.Sscanf(number, "%d", &n); !ok || n < first {
			continue
		}
		if err := s.recoverLog(n, i.Name == lastLog(list)); err != nil {
			return nil, err
		}
	}
	for _, i := range list {
		n := 0
		if _, err := fmt.Sscanf(i.Name, "snap-%d", &n); err == nil && n < first {
			if err := fsys.Remove(i.Name); err != nil {
				return nil, err
			}
		}
	}
	if s.log == nil {
		return s, s.rotate()
	}
	// What was found has been shown, so it must stay.
	return s, errors.Join(s.log.Sync(), fsys.SyncDir("."))
}

func lastLog(list []vfs.Info) (name string) {
	for _, i := range list {
		if strings.HasPrefix(i.Name, "log-") {
			name = i.Name
		}
	}
	return name
}

func (s *toy) recoverLog(n int, last bool) error {
	if n != s.next {
		return fmt.Errorf("log %d is missing: %w", s.next, errDamaged)
	}
	all, err := read(s.fs, logName(n))
	if err != nil {
		return err
	}
	good := s.replay(logName(n), all)
	if s.log != nil {
		s.log.Close()
	}
	if s.log, err = s.fs.OpenWrite(logName(n)); err != nil {
		return err
	}
	if good < len(all) && !last {
		return fmt.Errorf("log %d: %w", n, errDamaged)
	}
	if good < len(all) && !s.bugs.appendToTornTail {
		if err := s.log.Truncate(int64(good)); err != nil {
			return err
		}
	}
	s.next, s.end = n+1, good
	if s.bugs.appendToTornTail {
		s.end = len(all)
	}
	return nil
}

func logName(n int) string  { return fmt.Sprintf("log-%06d", n) }
func snapName(n int) string { return fmt.Sprintf("snap-%06d", n) }

func (s *toy) rotate() error {
	f, err := s.fs.Create(logName(s.next))
	if err != nil {
		return err
	}
	if s.log != nil {
		s.log.Close()
	}
	s.log, s.end = f, 0
	s.next++
	if s.bugs.noDirSyncAfterCreate {
		return nil
	}
	return s.fs.SyncDir(".")
}

// put has kept its promise when it returns nil.
func (s *toy) put(k, v uint32, pad int) error {
	if s.dead != nil {
		return s.dead
	}
	s.puts++
	if s.puts%7 == 0 {
		s.dead = s.rotate()
	}
	if s.puts%20 == 0 && s.dead == nil {
		s.dead = s.snapshot()
	}
	if s.dead != nil {
		return s.dead
	}
	n, err := s.log.Write(s.record(logName(s.next-1), s.end, k, v, pad))
	s.end += n
	if err != nil {
		if !s.bugs.goOnAfterShortWrite || !errors.Is(err, vfs.ErrNoSpace) {
			s.dead = err
		}
		return err
	}
	if s.bugs.ackBeforeSync {
		s.data[k] = v
		return nil
	}
	err = s.log.Sync()
	if err != nil && s.bugs.retrySync {
		err = s.log.Sync()
	}
	if err != nil {
		s.dead = err
		return err
	}
	s.data[k] = v
	return nil
}

func (s *toy) snapshot() error {
	if err := s.rotate(); err != nil {
		return err
	}
	n := s.next - 1
	all := s.record(snapName(n), 0, 0, 0, 0) // so that an empty snapshot is no empty file
	for k := range uint32(5000) {
		if v, ok := s.data[k]; ok {
			all = append(all, s.record(snapName(n), len(all), k, v, 0)...)
		}
	}
	f, err := s.fs.Create(fmt.Sprintf("tmp/%d", n))
	if errors.Is(err, fs.ErrExist) {
		if err := s.fs.Remove(fmt.Sprintf("tmp/%d", n)); err != nil {
			return err
		}
		f, err = s.fs.Create(fmt.Sprintf("tmp/%d", n))
	}
	if err != nil {
		return err
	}
	if _, err := f.Write(all); err != nil {
		return err
	}
	if !s.bugs.noSyncBeforeRename {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	if err := f.Close(); err != nil {
		return err
	}
	if s.bugs.removeBeforeRename {
		if err := s.release(n); err != nil {
			return err
		}
	}
	if err := s.fs.Rename(fmt.Sprintf("tmp/%d", n), snapName(n)); err != nil {
		return err
	}
	if !s.bugs.noDirSyncAfterRename {
		if err := s.fs.SyncDir("."); err != nil {
			return err
		}
	}
	return s.release(n)
}

// release removes the logs before n.
func (s *toy) release(n int) error {
	list, err := s.fs.List(".")
	if err != nil {
		return err
	}
	for _, i := range list {
		number := 0
		if _, err := fmt.Sscanf(i.Name, "log-%d", &number); err == nil && number < n {
			if err := s.fs.Remove(i.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// promises is what the callers of a toy know.
type promises struct{ acked, tried map[uint32]uint32 }

func (p promises) drive(s *toy, r *rand.Rand, first uint32, n int) {
	for k := first; k < first+uint32(n) && s.dead == nil; k++ {
		v := r.Uint32()
		p.tried[k] = v
		if s.put(k, v, r.IntN(1500)) == nil {
			p.acked[k] = v
		}
	}
}

func (p promises) check(s *toy) error {
	for k, v := range p.acked {
		if got, ok := s.data[k]; !ok || got != v {
			return fmt.Errorf("key %d was acknowledged and is lost", k)
		}
	}
	for k, v := range s.data {
		if want, ok := p.tried[k]; !ok || want != v {
			return fmt.Errorf("key %d was never written so", k)
		}
	}
	return nil
}

// oneSeed runs a store into a power cut, and two more, and compares what is
// there with what was promised.
func oneSeed(seed uint64, b bugs) (violation error) {
	r := rand.New(rand.NewPCG(seed, 1))
	disk := faultfs.New(seed)
	s, err := openToy(disk, b)
	if err != nil {
		return err
	}
	switch r.IntN(4) {
	case 0:
		disk.Inject(faultfs.Rule{Op: faultfs.OpSync, Nth: r.IntN(40)})
	case 1:
		disk.Inject(faultfs.Rule{Op: faultfs.OpWrite, Nth: r.IntN(40), Fault: faultfs.Short})
	}
	p := promises{map[uint32]uint32{}, map[uint32]uint32{}}
	disk.CrashAt(disk.Ops() + r.IntN(220))
	p.drive(s, r, 1, 60)
	for round := range uint32(3) {
		disk = disk.Crash(r)
		if s, err = openToy(disk, b); err != nil {
			return fmt.Errorf("cut %d: %w", round, err)
		}
		if err := p.check(s); err != nil {
			return fmt.Errorf("cut %d: %w", round, err)
		}
		disk.CrashAt(disk.Ops() + r.IntN(30))
		p.drive(s, r, 1000*(round+1), 8)
	}
	return nil
}

func TestToyIsRight(t *testing.T) {
	n := uint64(3000)
	if testing.Short() {
		n = 300
	}
	for seed := range n {
		if err := oneSeed(seed, bugs{}); err != nil {
			t.Fatalf("SEED=%d: %v", seed, err)
		}
	}
}

// TestFindsBugs: the seeds are those that each bug is found within, doubled or
// more; a weaker disk would need more.
func TestFindsBugs(t *testing.T) {
	for _, c := range []struct {
		name  string
		seeds uint64
		bugs  bugs
	}{
		{"acknowledge before sync", 10, bugs{ackBeforeSync: true}},
		{"no directory sync after create", 10, bugs{noDirSyncAfterCreate: true}},
		{"no directory sync after rename, then remove", 2000, bugs{noDirSyncAfterRename: true}},
		{"no sync before rename", 100, bugs{noSyncBeforeRename: true}},
		{"no checksum", 2000, bugs{noChecksum: true}},
		{"append to a torn tail", 20, bugs{appendToTornTail: true}},
		{"remove before rename", 300, bugs{removeBeforeRename: true}},
		{"retry a failed sync", 100, bugs{retrySync: true}},
		{"records not bound to their place", 15000, bugs{unboundRecords: true}},
		{"go on after a short write", 200, bugs{goOnAfterShortWrite: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for seed := range c.seeds {
				if err := oneSeed(seed, c.bugs); err != nil {
					t.Logf("SEED=%d: %v", seed, err)
					return
				}
			}
			t.Errorf("not found with %d seeds", c.seeds)
		})
	}
}

func BenchmarkPowerCut(b *testing.B) {
	seed := uint64(0)
	for b.Loop() {
		if err := oneSeed(seed, bugs{}); err != nil {
			b.Fatal(err)
		}
		seed++
	}
	b.ReportMetric(float64(3*b.N)/b.Elapsed().Minutes(), "cuts/min")
}
