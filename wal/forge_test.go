package wal

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// A forger has the files of an encrypted log, and no key. Checksums have none,
// so those he makes fit.
type forger struct {
	fs     *faultfs.FS
	o      Options
	name   string
	id     disk.Header
	front  []byte   // header, start and checksum
	frames [][]byte // of the file
}

func newForger(t *testing.T, fs *faultfs.FS, name string, o Options) *forger {
	t.Helper()
	f := &forger{fs: fs, o: o, name: name}
	whole := content(t, fs, name)
	at := offsets(t, fs, name, o)
	var err error
	if f.id, err = disk.DecodeHeader(whole); err != nil {
		t.Fatal(err)
	}
	f.front = whole[:at[0]]
	for i := range at[1:] {
		f.frames = append(f.frames, whole[at[i]:at[i+1]])
	}
	return f
}

// forge writes the file anew with other frames. What they say of themselves is
// changed to what is expected of them (fitting), or left as it is but for the
// checksums.
func (f *forger) forge(t *testing.T, fitting bool, frames ...[]byte) {
	t.Helper()
	id := f.id
	whole := bytes.Clone(f.front)
	seq := uint64(1)
	prev := binary.LittleEndian.Uint64(whole[len(whole)-sumSize:])
	if len(frames) > 0 && len(f.frames) > 0 {
		seq = binary.LittleEndian.Uint64(f.frames[0][16:])
	}
	for i, frame := range frames {
		b := bytes.Clone(frame)
		if fitting {
			binary.LittleEndian.PutUint64(b[8:], uint64(i)+1)
			binary.LittleEndian.PutUint64(b[16:], seq)
			binary.LittleEndian.PutUint64(b[32:], prev)
		}
		prev = resum(b, id)
		seq += uint64(binary.LittleEndian.Uint32(b[24:]))
		whole = append(whole, b...)
	}
	replace(t, f.fs, f.name, whole)
}

// resum makes both checksums of a frame fit its bytes, and returns the second.
func resum(b []byte, id disk.Header) uint64 {
	at := id.Address(binary.LittleEndian.Uint64(b[8:]))
	binary.LittleEndian.PutUint64(b[headSumAt:], seal.Sum(b[:headSumAt], at))
	sum := seal.Sum(b[:len(b)-sumSize], at)
	binary.LittleEndian.PutUint64(b[len(b)-sumSize:], sum)
	return sum
}

// library is an encrypted log of two files of 20 frames, entries 1 to 20 and
// 21 to 40, all of one length.
func library(t *testing.T) (*faultfs.FS, Options) {
	t.Helper()
	o := Options{Store: seal.ID{1}, Keys: newSealed()}
	fs := faultfs.New(1)
	l, err := Open(fs, Position{}, o)
	if err != nil {
		t.Fatal(err)
	}
	replayAll(t, l)
	for i := range 40 {
		if i == 20 {
			if err := l.Rotate(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := l.Commit(context.Background(), fmt.Appendf(nil, "entry %d", i+1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return fs, o
}

// TestForgedOrder swaps, repeats, drops, turns round and moves the frames of an
// encrypted log, with all checksums made to fit. Nothing of it passes, but that
// the last frames of the log go missing.
func TestForgedOrder(t *testing.T) {
	fs, o := library(t)
	names := walFiles(fs)
	var files []*forger
	for _, name := range names {
		files = append(files, newForger(t, fs, name, o))
	}
	for n, f := range files {
		whole := content(t, fs, f.name)
		refused := func(what string, frames [][]byte) {
			t.Helper()
			for _, fitting := range []bool{false, true} {
				f.forge(t, fitting, frames...)
				got, err := read(fs, 1, o)
				// An old frame in the place of the very last one is a torn tail.
				if n == 1 && !fitting && got == 39 && err == nil && !bytes.Equal(frames[19], f.frames[19]) {
					continue
				}
				wantCorrupt(t, fmt.Sprintf("file %d, %s, fitting %v, %d entries", n+1, what, fitting, got), f.name, err)
			}
		}
		for i := range f.frames {
			for j := range f.frames {
				if i == j {
					continue
				}
				if i < j {
					swapped := slices.Clone(f.frames)
					swapped[i], swapped[j] = swapped[j], swapped[i]
					refused(fmt.Sprintf("%d and %d swapped", i, j), swapped)
				}
				refused(fmt.Sprintf("%d in the place of %d", i, j), slices.Concat(f.frames[:j], f.frames[i:i+1], f.frames[j+1:]))
				refused(fmt.Sprintf("%d again before %d", i, j), slices.Insert(slices.Clone(f.frames), j, f.frames[i]))
			}
			other := files[1-n]
			refused(fmt.Sprintf("%d of the other file", i), slices.Concat(f.frames[:i], other.frames[i:i+1], f.frames[i+1:]))
			if i < 19 {
				refused(fmt.Sprintf("%d dropped", i), slices.Concat(f.frames[:i], f.frames[i+1:]))
			}
		}
		turned := slices.Clone(f.frames)
		slices.Reverse(turned)
		refused("turned round", turned)
		refused("frames of the other file", files[1-n].frames)
		replace(t, fs, f.name, whole)
	}
	if n, err := read(fs, 1, o); n != 40 || err != nil {
		t.Fatalf("in the end %d entries, %v", n, err)
	}
}

// TestForgedHead changes each field of each frame's head, with the checksums
// made to fit.
func TestForgedHead(t *testing.T) {
	fs, o := library(t)
	f := newForger(t, fs, walFiles(fs)[1], o)
	for field, at := range map[string]int{"length": 4, "index": 8, "first": 16, "count": 24, "spare": 28, "prev": 32} {
		for i := range f.frames {
			for _, by := range []byte{1, 0xff} {
				frames := slices.Clone(f.frames)
				frames[i] = bytes.Clone(frames[i])
				frames[i][at] += by
				if field == "length" { // and so long it is
					frames[i] = append(frames[i], 0)[:len(frames[i])+int(int8(by))]
				}
				f.forge(t, false, frames...)
				n, err := read(fs, 1, o)
				// A smaller index is what a sector shows that was never written.
				if i == 19 && field == "index" && by == 0xff && n == 39 && err == nil {
					continue
				}
				wantCorrupt(t, fmt.Sprintf("%s of frame %d, by %d", field, i, by), f.name, err)
			}
		}
	}
}

// TestForgedCut cuts both files at each border of a frame.
func TestForgedCut(t *testing.T) {
	fs, o := library(t)
	names := walFiles(fs)
	for n, name := range names {
		f := newForger(t, fs, name, o)
		for keep := range 20 {
			f.forge(t, false, f.frames[:keep]...)
			got, err := read(fs, 1, o)
			what := fmt.Sprintf("%d frames of file %d", keep, n+1)
			if n == 0 {
				wantCorrupt(t, what, name, err)
				continue
			}
			if err != nil || got != 20+keep {
				t.Errorf("%s: %d entries, %v", what, got, err)
			}
			if _, err := read(fs, uint64(20+keep+1), o); err != nil {
				t.Errorf("%s, and no more in the checkpoint: %v", what, err)
			}
			_, err = read(fs, uint64(20+keep+2), o)
			wantCorrupt(t, what+", and one more in the checkpoint", name, err)
			o := o
			o.Last = uint64(20 + keep)
			if got, err := read(fs, 1, o); err != nil || got != 20+keep {
				t.Errorf("%s, the last one known: %d entries, %v", what, got, err)
			}
			o.Last++
			_, err = read(fs, 1, o)
			wantCorrupt(t, what+", and one more known", name, err)
		}
		f.forge(t, false, f.frames...)
	}
}

// TestForgedVersion puts another frame, sealed by the log for the very same
// place, where one was: as a write that a full disk refused leaves it to those
// who watch the disk. It is the next frame that does not follow it.
func TestForgedVersion(t *testing.T) {
	o := Options{Store: seal.ID{1}, Keys: newSealed()}
	fs := faultfs.New(1)
	l, err := Open(fs, Position{}, o)
	if err != nil {
		t.Fatal(err)
	}
	replayAll(t, l)
	for i := range 4 {
		if _, err := l.Commit(context.Background(), fmt.Appendf(nil, "entry %d", i+1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	f := newForger(t, fs, fileName(1), o)
	prev := binary.LittleEndian.Uint64(f.frames[1][32:])
	other, _, err := appendFrame(nil, []byte("\x07entry 2"), head{index: 2, first: 2, count: 1, prev: prev}, l.tail.id, l.tail.seal)
	if err != nil {
		t.Fatal(err)
	}
	f.forge(t, true, f.frames[0], other)
	if n, err := read(fs, 1, o); n != 2 || err != nil {
		t.Fatalf("as the last one: %d entries, %v", n, err)
	}
	f.forge(t, true, f.frames[0], other, f.frames[2], f.frames[3])
	n, err := read(fs, 1, o)
	wantCorrupt(t, fmt.Sprintf("another frame 2, %d entries", n), f.name, err)
}

// TestForgedNumber gives a file another number, in its name and its header.
func TestForgedNumber(t *testing.T) {
	for _, c := range []struct{ from, to uint64 }{{2, 3}, {1, 3}, {2, 1}} {
		fs, o := library(t)
		whole := content(t, fs, fileName(c.from))
		binary.LittleEndian.PutUint64(whole[64:], c.to)
		binary.LittleEndian.PutUint64(whole[disk.HeaderSize-8:], xxhash.Sum64(whole[:disk.HeaderSize-8]))
		id, err := disk.DecodeHeader(whole)
		if err != nil {
			t.Fatal(err)
		}
		f := &forger{fs: fs, name: fileName(c.to), id: id, front: whole[:preludeSize(newSealed())]}
		sum := seal.Sum(f.front[:len(f.front)-sumSize], id.Address(0))
		binary.LittleEndian.PutUint64(f.front[len(f.front)-sumSize:], sum)
		if c.to > 2 {
			put(t, fs, f.name, f.front)
		} else {
			replace(t, fs, f.name, f.front)
		}
		_, err = read(fs, 1, o)
		wantCorrupt(t, fmt.Sprintf("file %d as %d", c.from, c.to), f.name, err)
	}
}
