package disk_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"runtime"
	"testing"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// FuzzOpenFile reads whole files of hostile bytes. With fix the checksums of
// header and table are made right first, and the table of a sealed file, which
// the input has in the clear, is sealed: so its fields are what is tested, by
// somebody who even has the key. Nothing panics, and what a file can make us allocate is bounded by
// what it weighs.
func FuzzOpenFile(f *testing.F) {
	for _, s := range sealers(f) {
		fsys, _ := small(f, s)
		b, err := fsys.Content("f")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, false, s.Overhead() > 0)
		f.Add(b[:len(b)/2], false, s.Overhead() > 0)
		f.Add(unsealTable(f, b, s), true, s.Overhead() > 0)
	}
	gcm := newGCM(f)
	f.Fuzz(func(t *testing.T, b []byte, fix, sealed bool) {
		var s testKeys = seal.Plain()
		if sealed {
			s = gcm
		}
		if fix && !fixable(b) {
			return
		}
		if fix {
			b = reroot(sealTable(t, b, s))
		}
		fsys := faultfs.New(1)
		h, err := fsys.Create("f")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Write(b); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		readAll(t, fsys, s)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 16*uint64(len(b))+1<<20 {
			t.Errorf("%d bytes allocated for a file of %d", used, len(b))
		}
	})
}

// fixable reports whether reroot finds header, table and footer.
func fixable(b []byte) bool {
	if len(b) < disk.HeaderSize+48 {
		return false
	}
	at := binary.LittleEndian.Uint64(b[len(b)-32:])
	return at >= disk.HeaderSize && at <= uint64(len(b)-32)
}

func readAll(t *testing.T, fsys *faultfs.FS, s testKeys) {
	got, err := disk.ReadHeader(fsys, "f")
	if err != nil {
		got = header() // the file is opened all the same
	}
	f, err := disk.OpenFile(fsys, "f", got, disk.Info{}, s)
	if err != nil {
		if !errors.Is(err, disk.ErrCorrupt) && !errors.Is(err, disk.ErrFormat) && !errors.Is(err, disk.ErrKey) {
			t.Fatalf("unexpected: %v", err)
		}
		return
	}
	verified := f.Verify(context.Background())
	for _, kind := range f.Kinds() {
		sec, _ := f.Section(kind)
		p, err := sec.Bytes(0, sec.Len())
		if err == nil && len(p) != sec.Len() || err != nil && verified == nil {
			t.Fatalf("section %d: %d bytes of %d, %v; verified: %v", kind, len(p), sec.Len(), err, verified)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// FuzzHeader: what decodes encodes to the same bytes.
func FuzzHeader(f *testing.F) {
	b, _ := header().AppendBinary(nil)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := disk.DecodeHeader(b)
		if err != nil {
			return
		}
		again, _ := h.AppendBinary(nil)
		if !bytes.Equal(again, b[:disk.HeaderSize]) {
			t.Fatalf("%x became %x", b[:disk.HeaderSize], again)
		}
	})
}
