package wal

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// look lists what is found in a log, a line for each file, each run of entries,
// and each error.
func look(t *testing.T, fs *faultfs.FS, o Options) (lines []string) {
	t.Helper()
	ops := fs.Ops()
	finding := func(name string, err error) {
		if torn, ok := errors.AsType[*TornTail](err); ok && !errors.Is(err, disk.ErrCorrupt) {
			lines = append(lines, fmt.Sprintf("%s torn at %d, %d bytes", torn.File, torn.Offset, torn.Bytes))
		} else if c, ok := errors.AsType[*disk.CorruptError](err); ok {
			lines = append(lines, fmt.Sprintf("%s corrupt at %d", c.File, c.Offset))
		} else {
			lines = append(lines, fmt.Sprintf("%s %v", name, err))
		}
	}
	for f, err := range Files(fs, o) {
		if err != nil {
			finding(f.Name, err)
			continue
		}
		lines = append(lines, fmt.Sprintf("%s from %v", f.Name, f.Begin))
		seen, end := "", f.Frames
		for fr, err := range Frames(fs, f.Number, o) {
			if err != nil {
				finding(fr.File, err)
				continue
			}
			if fr.Offset != end {
				t.Errorf("%s: frame %d at %d instead of %d", fr.File, fr.Index, fr.Offset, end)
			}
			end += fr.Bytes
			n := 0
			for e := range fr.Entries() {
				seen += fmt.Sprintf(" %d", e.Position.Seq)
				if want := fmt.Sprintf("entry %d", e.Position.Seq); string(e.Payload) != want {
					t.Errorf("%q, want %q", e.Payload, want)
				}
				n++
			}
			if n != fr.Count {
				t.Errorf("%d entries of %d", n, fr.Count)
			}
		}
		lines = append(lines, "entries"+seen)
	}
	if fs.Ops() != ops || fs.Handles() != 0 {
		t.Errorf("written %v, or %d files left open", fs.Trace()[ops:], fs.Handles())
	}
	return lines
}

// TestInspect damages logs and compares what is found with what was done.
func TestInspect(t *testing.T) {
	o := Options{Store: seal.ID{1}}
	const a, b, c = "log/0000000000000001.wal", "log/0000000000000002.wal", "log/0000000000000003.wal"
	const head, size = 160, 64 // of a file, of a frame
	whole := []string{a + " from 0.1", "entries 1 2 3", b + " from 0.4", "entries 4 5 6", c + " from 0.7", "entries 7 8 9"}
	flip := func(name string, at int) func(*faultfs.FS) error {
		return func(fs *faultfs.FS) error {
			return fs.Damage(name, func(b []byte) []byte { b[at] ^= 4; return b })
		}
	}
	cut := func(name string, n int) func(*faultfs.FS) error {
		return func(fs *faultfs.FS) error {
			return fs.Damage(name, func(b []byte) []byte { return b[:len(b)-n] })
		}
	}
	for _, x := range []struct {
		name string
		do   func(*faultfs.FS) error
		want []string
	}{
		{"whole", func(*faultfs.FS) error { return nil }, whole},
		{"a frame of the first file", flip(a, head+size+50),
			slices.Replace(slices.Clone(whole), 1, 2, fmt.Sprint(a, " corrupt at ", head+size), "entries 1")},
		{"the header of a file", flip(b, 70), []string{whole[0], whole[1], b + " corrupt at 120", whole[4], whole[5]}},
		{"the start of a file", flip(b, 130), []string{whole[0], whole[1], b + " corrupt at 128", whole[4], whole[5]}},
		{"the end of a file that is not the last", cut(a, 1),
			slices.Replace(slices.Clone(whole), 1, 2, fmt.Sprint(a, " corrupt at ", head+2*size), "entries 1 2")},
		{"the last frame of a file that is not the last", cut(a, size),
			slices.Replace(slices.Clone(whole), 1, 2, fmt.Sprint(a, " corrupt at ", head+2*size), "entries 1 2")},
		{"a frame of the last file", flip(c, head+size),
			slices.Replace(slices.Clone(whole), 5, 6, fmt.Sprint(c, " corrupt at ", head+size), "entries 7")},
		{"the last frame", flip(c, head+2*size+20),
			slices.Replace(slices.Clone(whole), 5, 6, fmt.Sprint(c, " torn at ", head+2*size, ", ", size, " bytes"), "entries 7 8")},
		{"the last byte", cut(c, 1),
			slices.Replace(slices.Clone(whole), 5, 6, fmt.Sprint(c, " torn at ", head+2*size, ", ", size-1, " bytes"), "entries 7 8")},
		{"the newest file", func(fs *faultfs.FS) error { return fs.Remove(c) }, append(whole[:4:4], c+" corrupt at 0")},
		{"the mark", func(fs *faultfs.FS) error { return fs.Remove(markName(3)) }, append(whole[:4:4], "log corrupt at 0")},
		{"a file between", func(fs *faultfs.FS) error { return fs.Remove(b) },
			[]string{whole[0], fmt.Sprint(a, " corrupt at ", head+3*size), whole[1], whole[4], whole[5]}},
		{"what a recovered file holds beyond its end", func(fs *faultfs.FS) error {
			return errors.Join(cut(c, 1)(fs), useAndReopen(fs, 1, o), flip(c, head+size+5)(fs))
		}, append(whole[:5:5], "entries 7", "log/0000000000000004.wal from 0.8", "entries 8", "log/0000000000000005.wal from 0.9", "entries 9 10")},
		{"another history", func(fs *faultfs.FS) error {
			other := shelf(t, o)
			return fs.Damage(b, func([]byte) []byte { return content(t, other, b) })
		}, []string{whole[0], b + " corrupt at 128", whole[1], whole[2], c + " corrupt at 128", whole[3], whole[4], whole[5]}},
	} {
		fs := shelf(t, o)
		if err := x.do(fs); err != nil {
			t.Fatal(err)
		}
		if got := look(t, fs, o); !slices.Equal(got, x.want) {
			t.Errorf("%s:\n%q, want\n%q", x.name, got, x.want)
		}
	}
}

// TestInspectKeys compares what is said of a sealed log, and of one whose key
// is missing.
func TestInspectKeys(t *testing.T) {
	keys := generations{}
	keys.add(5)
	o := Options{Store: seal.ID{1}, Keys: keys}
	fs := shelf(t, o)
	sum, files := uint64(0), 0
	for f, err := range Files(fs, o) {
		if err != nil {
			t.Fatal(err)
		}
		files++
		if f.Number != uint64(files) || f.KeyID != 5 || f.Chain != sum || f.Size != int64(len(content(t, fs, f.Name))) || f.ID == (seal.ID{}) {
			t.Errorf("%+v, chain %x", f, sum)
		}
		for fr, err := range Frames(fs, f.Number, o) {
			if err != nil {
				t.Fatal(err)
			}
			if fr.KeyID != 5 || fr.Plain != 8 || fr.Stored != 8+28 || fr.Bytes != 8+28+frameOverhead {
				t.Errorf("%+v", fr)
			}
			sum = fr.Sum
		}
	}
	named := 0
	for f, err := range Files(fs, Options{Store: o.Store}) {
		if !errors.Is(err, seal.ErrKey) || f.Number == 0 || f.KeyID != 5 {
			t.Errorf("%+v: %v", f, err)
		}
		named++
	}
	if files != 3 || named != 3 {
		t.Errorf("%d files, %d of them without a key", files, named)
	}
	_, err := read(faultfs.New(1), 1, Options{Store: o.Store, Existing: true})
	wantCorrupt(t, "no log", dir, err)
	if got := look(t, faultfs.New(1), Options{Existing: true}); !slices.Equal(got, []string{"log corrupt at 0"}) {
		t.Errorf("no log: %q", got)
	}
}
