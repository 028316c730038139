package wal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// FuzzBody decodes the body of a frame, as it is behind a right checksum.
func FuzzBody(f *testing.F) {
	f.Add([]byte("\x05hello\x03log"), uint32(2))
	f.Add([]byte("\xff\xff\xff\xff\x0f"), uint32(1))
	f.Add([]byte{}, uint32(1<<31))
	f.Fuzz(func(t *testing.T, body []byte, count uint32) {
		if checkBody(body, count) != nil {
			return
		}
		var b batch
		n := uint32(0)
		for rest := body; len(rest) > 0; n++ {
			var p []byte
			p, rest = nextEntry(rest)
			b.add(p, nil)
		}
		if n != count || !bytes.Equal(b.bytes, body) {
			t.Fatalf("%d entries of %d, %x", n, count, b.bytes)
		}
	})
}

// FuzzFrame puts bytes behind the header of a file, plain or sealed. Sums, and
// the seal, are made right on demand, so that what is behind them is reached.
func FuzzFrame(f *testing.F) {
	type front struct {
		o     Options
		bytes []byte
		id    disk.Header
		s     seal.Sealer
	}
	var fronts []front
	for _, kind := range []string{"plain", "sealed"} {
		o := sealers()[kind].withDefaults()
		fs := shelf(f, o)
		whole := content(f, fs, fileName(1))
		at := offsets(f, fs, fileName(1), o)
		id, s, err := decodeHeader(whole, fileName(1), 1, o)
		if err != nil {
			f.Fatal(err)
		}
		fronts = append(fronts, front{o, whole[:at[0]], id, s})
		f.Add(whole[at[0]:], false, kind == "sealed")
		f.Add(whole[at[0]:at[1]], true, kind == "sealed")
		f.Add(whole[at[1]:], true, kind == "sealed")
	}
	f.Add(bytes.Repeat([]byte(frameMagic), 50), false, false)
	f.Fuzz(func(t *testing.T, frame []byte, right, sealed bool) {
		file := fronts[0]
		if sealed {
			file = fronts[1]
		}
		if right && len(frame) >= frameOverhead {
			frame = mend(frame, file.bytes, file.id, file.s)
		}
		fs := faultfs.New(1)
		put(t, fs, fileName(1), append(bytes.Clone(file.bytes), frame...))
		put(t, fs, markName(1), nil)
		checkDirectory(t, fs, file.o)
	})
}

// mend makes a frame that follows the front of a file out of bytes: they say
// how many entries it has, and are its body.
func mend(frame, front []byte, id disk.Header, s seal.Sealer) []byte {
	prev := binary.LittleEndian.Uint64(front[len(front)-sumSize:])
	h := head{index: 1, first: 1, count: binary.LittleEndian.Uint32(frame[24:]), prev: prev}
	return must(appendFrame(nil, frame[headSize:len(frame)-sumSize], h, id, s))
}

func must(b []byte, _ uint64, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// FuzzLog opens a directory of two files that hold anything, with a mark for
// the file of a number, or none.
func FuzzLog(f *testing.F) {
	o := Options{Store: seal.ID{1}}
	fs := shelf(f, o)
	names := walFiles(fs)
	f.Add(content(f, fs, names[0]), content(f, fs, names[1]), uint64(2))
	f.Add(content(f, fs, names[0]), content(f, fs, names[0]), uint64(2))
	f.Add([]byte{}, content(f, fs, names[0])[:200], uint64(2))
	f.Add(content(f, fs, names[0])[:200], []byte{}, uint64(1))
	f.Add(content(f, fs, names[0]), content(f, fs, names[1]), uint64(0))
	f.Add(content(f, fs, names[0]), content(f, fs, names[1]), uint64(3))
	f.Fuzz(func(t *testing.T, a, b []byte, newest uint64) {
		fs := faultfs.New(1)
		put(t, fs, names[0], a)
		put(t, fs, names[1], b)
		if newest > 0 {
			put(t, fs, markName(newest), nil)
		}
		checkDirectory(t, fs, o)
	})
}

func put(t *testing.T, fs *faultfs.FS, name string, b []byte) {
	if err := fs.Mkdir(dir); err != nil {
		t.Fatal(err)
	}
	w, err := fs.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// inspected lists the entries that are found file by file. clean says that
// there was no finding, but for a torn tail.
func inspected(fs *faultfs.FS, o Options) (all []string, clean bool) {
	clean = true
	next := uint64(1)
	for f, err := range Files(fs, o) {
		clean = clean && err == nil && f.Begin.Seq <= next
		for fr, err := range Frames(fs, f.Number, o) {
			if _, torn := errors.AsType[*TornTail](err); err != nil {
				clean = clean && torn
				continue
			}
			for e := range fr.Entries() {
				all = append(all, fmt.Sprintf("%v %x", e.Position, e.Payload))
				next = e.Position.Seq + 1
			}
		}
	}
	for _, err := range Salvage(fs, Position{}, o) {
		if _, torn := errors.AsType[*TornTail](err); err != nil {
			clean = clean && torn
		}
	}
	return all, clean
}

// checkDirectory opens what is there, whatever it is. If it opens, it is the
// same each time, and what is appended to it stays.
func checkDirectory(t *testing.T, fs *faultfs.FS, o Options) {
	ops := fs.Ops()
	entries := func(readOnly bool) (all []string, l *Log, err error) {
		o.ReadOnly, o.Epoch = readOnly, noLimit
		if l, err = Open(fs, Position{}, o); err != nil {
			return nil, nil, err
		}
		for e, err := range l.Replay() {
			if err != nil {
				return all, l, err
			}
			all = append(all, fmt.Sprintf("%v %x", e.Position, e.Payload))
		}
		return all, l, nil
	}
	first, _, err := entries(true)
	if seen, clean := inspected(fs, o); clean && (err != nil || fmt.Sprint(first) != fmt.Sprint(seen)) {
		t.Fatalf("%q %v, and no finding: %q", first, err, seen)
	}
	if fs.Ops() != ops {
		t.Fatal("reading wrote")
	}
	second, l, err2 := entries(false)
	if (err == nil) != (err2 == nil) || fmt.Sprint(first) != fmt.Sprint(second) {
		t.Fatalf("%q %v, then %q %v", first, err, second, err2)
	}
	if err != nil {
		return
	}
	at, err := l.Commit(context.Background(), []byte("more"))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	third, _, err := entries(true)
	want := append(second, fmt.Sprintf("%v %x", at, "more"))
	if err != nil || fmt.Sprint(third) != fmt.Sprint(want) {
		t.Fatalf("%q %v, want %q", third, err, want)
	}
	if n := fs.Handles(); n != 0 {
		t.Fatalf("%d files left open", n)
	}
}
