package disk_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
)

// gcm is a small real sealer: AES-GCM with the block number as nonce, so that
// the same file has the same bytes.
type gcm struct{ aead cipher.AEAD }

func newGCM(t testing.TB) gcm {
	t.Helper()
	b, err := aes.NewCipher(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	a, err := cipher.NewGCM(b)
	if err != nil {
		t.Fatal(err)
	}
	return gcm{a}
}

func (g gcm) split(at seal.Address) (nonce, data []byte) {
	data, _ = at.AppendBinary(nil)
	return binary.LittleEndian.AppendUint64(make([]byte, 4, 12), at.Block), data
}

func (g gcm) Seal(dst, block []byte, at seal.Address, more []byte) ([]byte, error) {
	nonce, data := g.split(at)
	return g.aead.Seal(dst, nonce, block, append(data, more...)), nil
}

func (g gcm) Open(dst, stored []byte, at seal.Address, more []byte) ([]byte, error) {
	nonce, data := g.split(at)
	return g.aead.Open(dst, nonce, stored, append(data, more...))
}

func (g gcm) Overhead() int { return g.aead.Overhead() }
func (g gcm) KeyID() uint32 { return 9 }

// Writer and Reader make the sealer keys of its own.
func (g gcm) Writer(seal.Address) (seal.Sealer, error) { return g, nil }

func (g gcm) Reader(_ seal.Address, key uint32) (seal.Sealer, error) {
	if key != g.KeyID() {
		return nil, seal.ErrKey
	}
	return g, nil
}

// testKeys are keys that have one sealer, which is themselves.
type testKeys interface {
	seal.Keys
	seal.Sealer
}

func id(b byte) (id seal.ID) {
	for i := range id {
		id[i] = b
	}
	return id
}

func header() disk.Header {
	return disk.Header{Kind: seal.KindSegment, Version: 1, Store: id(1), Collection: id(2), File: id(3), Number: 4}
}

// part is a section to write.
type part struct {
	kind  uint16
	block int
	data  []byte
}

func parts(seed uint64) []part {
	r := rand.New(rand.NewPCG(seed, 0))
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	return []part{
		{1, 64, random(200)}, // three blocks and a piece
		{2, 128, nil},
		{3, 128, random(128)}, // exactly one block
		{9, 4096, random(7)},  // less than one block
	}
}

func writeTo(ps []part) func(*disk.Writer) error {
	return func(w *disk.Writer) error {
		for _, p := range ps {
			if err := w.Section(p.kind, p.block); err != nil {
				return err
			}
			// Pieces of every size, so that blocks are filled in all ways.
			for i := 0; len(p.data[min(i, len(p.data)):]) > 0; {
				n := min(len(p.data)-i, 1+i%190)
				if _, err := w.Write(p.data[i : i+n]); err != nil {
					return err
				}
				i += n
			}
			if w.Written() != int64(len(p.data)) {
				return fmt.Errorf("Written is %d after %d bytes", w.Written(), len(p.data))
			}
		}
		return nil
	}
}

func tempFS(t testing.TB) *vfs.Root {
	t.Helper()
	r, err := vfs.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func sealers(t testing.TB) map[string]testKeys {
	return map[string]testKeys{"plain": seal.Plain(), "sealed": newGCM(t)}
}

// cutting is a file system whose files lose all but a page once they are mapped.
type cutting struct {
	*vfs.Root
	dir string
}

func (c cutting) Map(name string, size int64) (vfs.Mapping, error) {
	m, err := c.Root.Map(name, size)
	if err == nil {
		err = os.Truncate(filepath.Join(c.dir, name), 4096)
	}
	return m, err
}

// TestCutWhileOpening: a file that loses bytes between being measured and
// being read is damaged, which the memory of its missing pages says by a fault.
func TestCutWhileOpening(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("SKIPPED: Windows does not cut mapped files")
	}
	dir := t.TempDir()
	root, err := vfs.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	info, err := disk.WriteFile(root, "x", header(), seal.Plain(), writeTo([]part{{1, 4096, make([]byte, 100<<10)}}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := disk.OpenFile(cutting{root, dir}, "x", header(), info, seal.Plain()); !errors.Is(err, disk.ErrCorrupt) {
		t.Fatalf("opens: %v", err)
	}
}

// TestFaultElsewhere: a fault in memory that is not the file's is not its damage.
func TestFaultElsewhere(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("SKIPPED: Windows does not cut mapped files")
	}
	dir := t.TempDir()
	root, err := vfs.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	var files [2]*disk.File
	for i, name := range []string{"whole", "cut"} {
		if _, err := disk.WriteFile(root, name, header(), seal.Plain(), writeTo([]part{{3, 4096, make([]byte, 100<<10)}})); err != nil {
			t.Fatal(err)
		}
		if files[i], err = disk.OpenFile(root, name, header(), disk.Info{}, seal.Plain()); err != nil {
			t.Fatal(err)
		}
		defer files[i].Close()
	}
	s, _ := files[1].Section(3)
	b, err := s.Bytes(0, s.Len())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "cut"), 4096); err != nil {
		t.Fatal(err)
	}
	sum := byte(0)
	read := func() error {
		for _, x := range b {
			sum |= x
		}
		return nil
	}
	if err := files[1].Faults(read); !errors.Is(err, disk.ErrCorrupt) || sum != 0 {
		t.Errorf("in the file: %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("in another: it was taken for the file's")
		}
	}()
	t.Errorf("in another: %v", files[0].Faults(read))
}

// TestReadSection: what is read is a copy, of a file with that one section;
// one that loses bytes after it was opened is damaged.
func TestReadSection(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789abcde\n"), 100<<10/16)
	for name, s := range sealers(t) {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			root, err := vfs.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			for file, ps := range map[string][]part{
				"one": {{3, 4096, body}}, "empty": {{3, 4096, nil}}, "other": {{4, 4096, body}}, "two": {{3, 4096, body}, {4, 64, nil}},
			} {
				info, err := disk.WriteFile(root, file, header(), s, writeTo(ps))
				if err != nil {
					t.Fatal(err)
				}
				b, got, err := disk.ReadSection(root, file, header(), s, 3, len(body))
				if whole := file == "one" || file == "empty"; whole && (err != nil || got != info || !bytes.Equal(b, ps[0].data)) ||
					!whole && (!errors.Is(err, disk.ErrCorrupt) || b != nil) {
					t.Errorf("%s: %d bytes, %v", file, len(b), err)
				}
			}
			if _, _, err := disk.ReadSection(root, "one", header(), s, 3, len(body)-1); !errors.Is(err, disk.ErrCorrupt) {
				t.Errorf("beyond the limit: %v", err)
			}
			if runtime.GOOS == "windows" {
				t.Skip("SKIPPED: Windows does not cut mapped files")
			}
			f, err := disk.OpenFile(root, "one", header(), disk.Info{}, s)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := os.Truncate(filepath.Join(dir, "one"), 4096); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Only(3, len(body)); !errors.Is(err, disk.ErrCorrupt) {
				t.Errorf("cut off: %v", err)
			}
		})
	}
}

func TestRoundTrip(t *testing.T) {
	for name, s := range sealers(t) {
		t.Run(name, func(t *testing.T) {
			fsys := tempFS(t)
			ps := parts(1)
			info, err := disk.WriteFile(fsys, "seg/1.seg", header(), s, writeTo(ps))
			if err != nil {
				t.Fatal(err)
			}
			if st, err := fsys.Stat("seg/1.seg"); err != nil || st.Size != info.Length {
				t.Fatalf("file is %d bytes (%v), Info says %d", st.Size, err, info.Length)
			}
			if left, err := fsys.List("tmp"); err != nil || len(left) != 0 {
				t.Fatalf("left in tmp: %v %v", left, err)
			}
			f, err := disk.OpenFile(fsys, "seg/1.seg", header(), info, s)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if f.Info() != info {
				t.Errorf("Info is %+v after opening, %+v when written", f.Info(), info)
			}
			for _, p := range ps {
				sec, ok := f.Section(p.kind)
				if !ok || sec.Len() != len(p.data) {
					t.Fatalf("section %d: %v, %d bytes", p.kind, ok, sec.Len())
				}
				for off := range p.data {
					for _, n := range []int{0, 1, 63, 64, 65, len(p.data) - off} {
						if off+n > len(p.data) {
							continue
						}
						b, err := sec.Bytes(off, n)
						if err != nil || !bytes.Equal(b, p.data[off:off+n]) {
							t.Fatalf("section %d: bytes %d+%d differ, %v", p.kind, off, n, err)
						}
					}
				}
			}
			if _, ok := f.Section(77); ok {
				t.Error("there is a section 77")
			}
			if err := f.Verify(context.Background()); err != nil {
				t.Error(err)
			}
			h, err := disk.ReadHeader(fsys, "seg/1.seg")
			want := header()
			want.KeyID = s.KeyID()
			if err != nil || h != want {
				t.Errorf("header is %+v, %v", h, err)
			}
		})
	}
}

func TestBytesBeyond(t *testing.T) {
	fsys := tempFS(t)
	info, err := disk.WriteFile(fsys, "x", header(), seal.Plain(), writeTo(parts(1)))
	if err != nil {
		t.Fatal(err)
	}
	f, err := disk.OpenFile(fsys, "x", header(), info, seal.Plain())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sec, _ := f.Section(1)
	const most = int(^uint(0) >> 1)
	for _, r := range [][2]int{{-1, 1}, {0, -1}, {0, 201}, {200, 1}, {201, 0}, {1, most}, {most, 1}, {most, most}, {-most, most}} {
		if b, err := sec.Bytes(r[0], r[1]); !errors.Is(err, disk.ErrCorrupt) {
			t.Errorf("Bytes(%d, %d) = %d bytes, %v", r[0], r[1], len(b), err)
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		header disk.Header
		write  func(*disk.Writer) error
	}{
		"block size 0":           {header(), func(w *disk.Writer) error { return w.Section(1, 0) }},
		"block size negative":    {header(), func(w *disk.Writer) error { return w.Section(1, -64) }},
		"block size unaligned":   {header(), func(w *disk.Writer) error { return w.Section(1, 96) }},
		"write before a section": {header(), func(w *disk.Writer) error { _, err := w.Write([]byte{1}); return err }},
		"kind twice": {header(), func(w *disk.Writer) error {
			return errors.Join(w.Section(1, 64), w.Section(2, 64), w.Section(1, 64))
		}},
		"error ignored by the caller": {header(), func(w *disk.Writer) error { w.Section(1, 1); return nil }},
		"newer version":               {disk.Header{Kind: seal.KindSegment, Version: disk.Version + 1}, writeTo(nil)},
		"unknown kind":                {disk.Header{Kind: 99, Version: 1}, writeTo(nil)},
		"the caller's error":          {header(), func(w *disk.Writer) error { return fs.ErrPermission }},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := tempFS(t)
			if _, err := disk.WriteFile(fsys, "seg/1", c.header, seal.Plain(), c.write); err == nil {
				t.Error("written without an error")
			}
			for _, dir := range []string{"seg", "tmp"} {
				if left, err := fsys.List(dir); err != nil || len(left) != 0 {
					t.Errorf("%s holds %v, %v", dir, left, err)
				}
			}
		})
	}
}

func TestWriteFileNeverReplaces(t *testing.T) {
	fsys := tempFS(t)
	info, err := disk.WriteFile(fsys, "seg/1", header(), seal.Plain(), writeTo(parts(1)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := disk.WriteFile(fsys, "seg/1", header(), seal.Plain(), writeTo(parts(2))); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second write: %v", err)
	}
	f, err := disk.OpenFile(fsys, "seg/1", header(), info, seal.Plain())
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

// writes notes where each write ended.
type writes struct {
	vfs.File
	at   int64
	ends []int64
}

func (w *writes) Write(p []byte) (int, error) {
	n, err := w.File.Write(p)
	w.at += int64(n)
	w.ends = append(w.ends, w.at)
	return n, err
}

// TestWrites: what is written in one call ends where a large page does, whatever the
// sizes of blocks and pieces, so that the system can keep it in one.
func TestWrites(t *testing.T) {
	const page = 2 << 20
	for name, keys := range sealers(t) {
		t.Run(name, func(t *testing.T) {
			f, err := tempFS(t).Create("f")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			noted := &writes{File: f}
			w, err := disk.NewWriter(noted, header(), keys)
			if err != nil {
				t.Fatal(err)
			}
			for kind, block := range []int{64, 24 << 10, 64 << 10} {
				if err := w.Section(uint16(kind+1), block); err != nil {
					t.Fatal(err)
				}
				for _, n := range []int{1, 3<<20 + 100, 70_000} {
					if _, err := w.Write(make([]byte, n)); err != nil {
						t.Fatal(err)
					}
				}
			}
			info, err := w.Finish()
			if err != nil {
				t.Fatal(err)
			}
			last := len(noted.ends) - 1
			if noted.ends[last] != info.Length || info.Length < 9<<20 {
				t.Fatalf("%d bytes of %d were written", noted.ends[last], info.Length)
			}
			for i, end := range noted.ends[:last] {
				if end != int64(i+1)*page {
					t.Errorf("write %d ends at %d", i, end)
				}
			}
		})
	}
}

func TestMapSection(t *testing.T) {
	fsys := tempFS(t)
	ps := parts(1)
	_, err := disk.WriteFile(fsys, "seg/1", header(), seal.Plain(), func(w *disk.Writer) error {
		for _, p := range ps {
			if err := writeTo([]part{p})(w); err != nil {
				return err
			}
			for _, q := range ps {
				m, b, err := w.MapSection(q.kind)
				if q.kind > p.kind {
					if err == nil {
						t.Errorf("section %d mapped before it was written", q.kind)
					}
					continue
				}
				if err != nil {
					return err
				}
				if !bytes.Equal(b, q.data) {
					t.Errorf("section %d differs while %d is written", q.kind, p.kind)
				}
				if err := m.Close(); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = disk.WriteFile(fsys, "seg/2", header(), newGCM(t), func(w *disk.Writer) error {
		if err := w.Section(1, 64); err != nil {
			return err
		}
		_, _, err := w.MapSection(1)
		return err
	})
	if !errors.Is(err, disk.ErrSealed) {
		t.Errorf("MapSection of a sealed file: %v", err)
	}
}

func TestConcurrentTouch(t *testing.T) {
	for name, s := range sealers(t) {
		t.Run(name, func(t *testing.T) {
			fsys := tempFS(t)
			data := bytes.Repeat([]byte("0123456789abcdef"), 4096)
			info, err := disk.WriteFile(fsys, "x", header(), s, writeTo([]part{{1, 256, data}}))
			if err != nil {
				t.Fatal(err)
			}
			f, err := disk.OpenFile(fsys, "x", header(), info, s)
			if err != nil {
				t.Fatal(err)
			}
			sec, _ := f.Section(1)
			var wg sync.WaitGroup
			for g := range 4 {
				wg.Go(func() {
					r := rand.New(rand.NewPCG(1, uint64(g)))
					for range 2000 {
						off := r.IntN(len(data))
						n := r.IntN(min(1000, len(data)-off))
						if b, err := sec.Bytes(off, n); err != nil || !bytes.Equal(b, data[off:off+n]) {
							t.Errorf("bytes %d+%d: %v", off, n, err)
							return
						}
					}
				})
			}
			wg.Wait()
			if err := errors.Join(f.Close(), f.Close()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestErrorText(t *testing.T) {
	err := error(&disk.CorruptError{File: "seg/0001.seg", Offset: 8192, Err: fmt.Errorf("block 3: checksum mismatch")})
	if got := err.Error(); got != "seg/0001.seg: at 8192: block 3: checksum mismatch: corrupt" {
		t.Error(got)
	}
	if !errors.Is(err, disk.ErrCorrupt) || strings.Contains(err.Error(), "%!") {
		t.Error("not ErrCorrupt")
	}
}
