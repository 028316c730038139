package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

var damages = flag.Int("damage.n", 150, "flipped bits, and half as many other damages, of TestDamage")

// spoilt is a store as lived leaves it, with one more record as the last entry
// of the log: before and after differ by it.
func spoilt(t testing.TB, op OperatorKey) (fs *faultfs.FS, before, after model) {
	t.Helper()
	fs, before = lived(t, op)
	db := openOn(t, fs, Options{Keys: op, GraphMin: 4, Workers: 1})
	db.jobs.stop()
	db.tidy(nil) // every file is needed
	after = before.clone()
	name := sortedKeys(after)[0]
	r := rec("last", make([]float32, after[name].dim)...)
	check(t, collection(t, db, name).Add(t.Context(), r))
	after[name].write(writeAdd, []Record{r})
	fs = fs.Clone()
	db.Close()
	return fs, before, after
}

// refusal tells the errors that say: this is not what was written.
func refusal(err error) bool {
	return errors.Is(err, ErrCorrupt) || errors.Is(err, ErrFormat) || errors.Is(err, ErrKey)
}

// judge reads everything that a damaged store still gives. refused tells that
// something was not given, torn that the last entry of the log is missing; an
// error is anything that was never written, or that should be there.
func judge(ctx context.Context, fs *faultfs.FS, op OperatorKey, before, after model) (refused, torn bool, err error) {
	db, err := Open("", &Options{Keys: op, ReadOnly: true, OpenSegments: 2, fs: fs})
	if err != nil {
		if !refusal(err) {
			return false, false, fmt.Errorf("open: %w", err)
		}
		return true, false, nil
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for name, want := range after {
		c, err := db.Default().Collection(ctx, name)
		if err != nil {
			return refused, torn, err
		}
		d, err := want.diff(ctx, c)
		if err == nil && d != "" {
			if d2, err := before[name].diff(ctx, c); d2 != "" || err != nil {
				return refused, torn, fmt.Errorf("%s: %s %w", name, d, err)
			}
			torn, want = true, before[name]
		}
		if err == nil {
			err = want.findAll(ctx, c)
		}
		switch {
		case refusal(err):
			refused = true
		case err != nil:
			return refused, torn, fmt.Errorf("%s: %w", name, err)
		}
	}
	return refused, torn, nil
}

// found wants Check to tell damage that reads need not meet.
func found(fs *faultfs.FS, op OperatorKey) (bool, error) {
	r, err := Check(context.Background(), "", &Options{fs: fs, Keys: op}, CheckOptions{})
	if err != nil {
		return refusal(err), nil
	}
	return !r.Clean(), nil
}

// spoil is a way to damage a file that is not empty.
type spoil struct {
	name string
	do   func(r *rand.Rand, fs *faultfs.FS, name string) func(b []byte) []byte
}

var spoils = []spoil{
	{"bit", func(r *rand.Rand, _ *faultfs.FS, _ string) func(b []byte) []byte {
		return func(b []byte) []byte {
			b[r.IntN(len(b))] ^= 1 << r.IntN(8)
			return b
		}
	}},
	{"zeros", func(r *rand.Rand, _ *faultfs.FS, _ string) func(b []byte) []byte {
		return func(b []byte) []byte {
			clear(sector(r, b))
			return b
		}
	}},
	{"ones", func(r *rand.Rand, _ *faultfs.FS, _ string) func(b []byte) []byte {
		return func(b []byte) []byte {
			for s, i := sector(r, b), 0; i < len(s); i++ {
				s[i] = 0xff
			}
			return b
		}
	}},
	{"swapped sectors", func(r *rand.Rand, _ *faultfs.FS, _ string) func(b []byte) []byte {
		return func(b []byte) []byte {
			one, two := sector(r, b), sector(r, b)
			for i := range min(len(one), len(two)) {
				one[i], two[i] = two[i], one[i]
			}
			return b
		}
	}},
	{"cut", func(r *rand.Rand, _ *faultfs.FS, _ string) func(b []byte) []byte {
		return func(b []byte) []byte { return b[:r.IntN(len(b))] }
	}},
	{"appended", func(r *rand.Rand, _ *faultfs.FS, _ string) func(b []byte) []byte {
		return func(b []byte) []byte { return append(b, make([]byte, 1+r.IntN(600))...) }
	}},
	{"another file's sector", func(r *rand.Rand, fs *faultfs.FS, name string) func(b []byte) []byte {
		names := fs.Files()
		other, _ := fs.Content(names[r.IntN(len(names))])
		return func(b []byte) []byte {
			if at := r.IntN((len(b)+511)/512) * 512; at < len(other) {
				copy(b[at:min(len(b), at+512)], other[at:])
			}
			return b
		}
	}},
}

// sector is a random one of 512 bytes; what is written to it changes b.
func sector(r *rand.Rand, b []byte) []byte {
	at := r.IntN((len(b)+511)/512) * 512
	return b[at:min(len(b), at+512)]
}

// Bits, sectors and ends of every file decay. Nothing that was not written is
// ever read, what is refused is refused as damage, and Check finds all of it,
// but for the last frame of the log, which a power cut may have torn.
func TestDamage(t *testing.T) {
	heavy(t)
	for name, op := range map[string]OperatorKey{"plain": nil, "encrypted": operator("a")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fs, before, after := spoilt(t, op)
			names := slices.DeleteFunc(fs.Files(), func(n string) bool {
				b, _ := fs.Content(n)
				return len(b) == 0 || strings.HasPrefix(n, "RESERVE") || n == "LOCK"
			})
			met := 0
			for n := range *damages * 3 / 2 {
				r := rand.New(rand.NewPCG(uint64(n), 9))
				how := spoils[0]
				if n >= *damages {
					how = spoils[1+n%(len(spoils)-1)]
				}
				name, hit := names[n%len(names)], fs.Clone()
				if r.IntN(2) == 0 { // long files deserve more
					name = names[r.IntN(len(names))]
				}
				if strings.HasSuffix(name, ".wal") && how.name != "bit" {
					continue // several frames at the end may be gone: package wal tests what that means
				}
				old, _ := hit.Content(name)
				check(t, hit.Damage(name, how.do(r, hit, name)))
				if now, _ := hit.Content(name); slices.Equal(old, now) {
					continue
				}
				refused, torn, err := judge(t.Context(), hit, op, before, after)
				if err != nil {
					t.Fatalf("%s of %s (%d): %v", how.name, name, n, err)
				}
				told, err := found(hit, op)
				check(t, err)
				isLog := strings.HasSuffix(name, ".wal")
				if !told && !isLog || refused && !told || torn && !isLog {
					t.Errorf("%s of %s (%d): refused %v, torn %v, found %v", how.name, name, n, refused, torn, told)
				}
				if refused || torn {
					met++
				}
			}
			if met < *damages/4 {
				t.Errorf("only %d damages were met", met)
			}
		})
	}
}

// A file is put back as it was earlier, or another one is put in its place, of
// the same store or of one that was made alike: refused.
func TestOtherFiles(t *testing.T) {
	ctx := t.Context()
	fs, before, after := spoilt(t, nil)
	alike, _, _ := spoilt(t, nil)
	for _, name := range fs.Files() {
		dir, _, _ := strings.Cut(name, "/")
		for _, from := range []*faultfs.FS{fs, alike} {
			for _, other := range from.Files() {
				b, _ := from.Content(other)
				if own, _ := fs.Content(name); !strings.HasPrefix(other, dir+"/") || slices.Equal(b, own) || filepath.Ext(name) != filepath.Ext(other) {
					continue
				}
				hit := fs.Clone()
				check(t, hit.Damage(name, func([]byte) []byte { return b }))
				refused, torn, err := judge(ctx, hit, nil, before, after)
				if err != nil || !refused || torn {
					t.Errorf("%s in the place of %s: refused %v, torn %v, %v", other, name, refused, torn, err)
				}
			}
		}
	}
}

// A file is missing: refused as damage. One that nobody named, and what a
// crash left over, are in nobody's way.
func TestMissingAndExtra(t *testing.T) {
	ctx := t.Context()
	fs, before, after := spoilt(t, nil)
	needed := 0
	for _, name := range fs.Files() {
		if name == "LOCK" || strings.HasPrefix(name, "RESERVE") {
			continue
		}
		hit := fs.Clone()
		check(t, hit.Remove(name))
		refused, torn, err := judge(ctx, hit, nil, before, after)
		if err != nil || torn {
			t.Errorf("without %s: torn %v, %v", name, torn, err)
		}
		if refused {
			needed++
		}
	}
	if needed < 5 {
		t.Errorf("only %d files are missed", needed)
	}
	for _, name := range []string{
		"notes.txt", "tmp/x", "seg/0000000000000fff.seg", "seg/x", "checkpoint/0000000000000001.ckpt", "checkpoint/x.ckpt",
		"checkpoint/00000000000000FF.ckpt", "log/x", "log/0000000000000fff.tmp", "seg/0000000000000001.seg.bak",
	} {
		hit := fs.Clone()
		if _, err := hit.Stat(name); err == nil {
			t.Fatalf("%s is there", name)
		}
		f, err := hit.Create(name)
		check(t, err)
		_, err = f.Write([]byte("what is this?"))
		check(t, errors.Join(err, f.Close()))
		if refused, torn, err := judge(ctx, hit, nil, before, after); refused || torn || err != nil {
			t.Errorf("with %s: refused %v, torn %v, %v", name, refused, torn, err)
		}
		if err := reopened(hit, nil, after, after); err != nil {
			t.Errorf("with %s: %v", name, err)
		}
	}
}

// A directory, a link or a fifo stands in the place of a file: refused, and
// nobody waits for who may write into the fifo.
func TestSpecialFiles(t *testing.T) {
	ctx := t.Context()
	fs, _, after := spoilt(t, nil)
	make := map[string]func(name, elsewhere string) error{
		"directory": func(name, _ string) error { return os.Mkdir(name, 0o700) },
		"link":      func(name, elsewhere string) error { return os.Symlink(elsewhere, name) },
		"fifo":      func(name, _ string) error { return fifo(name) },
	}
	for _, name := range fs.Files() {
		if name == "LOCK" || strings.HasPrefix(name, "RESERVE") {
			continue
		}
		for kind, put := range make {
			dir := t.TempDir()
			root, err := vfs.Open(dir)
			check(t, err)
			check(t, errors.Join(fs.Export(root), root.Close()))
			path, elsewhere := filepath.Join(dir, name), filepath.Join(dir, "elsewhere")
			check(t, os.Rename(path, elsewhere))
			if err := put(path, elsewhere); errors.Is(err, errors.ErrUnsupported) {
				t.Logf("%s: not on this system", kind)
				continue
			} else if err != nil {
				t.Fatal(err)
			}
			db, err := Open(dir, &Options{ReadOnly: true})
			if err == nil {
				for c := range after {
					if d, rerr := after[c].diff(ctx, collection(t, db, c)); d != "" {
						t.Errorf("%s as a %s: %s", name, kind, d)
					} else {
						err = errors.Join(err, rerr)
					}
				}
				check(t, db.Close())
			}
			if strings.HasSuffix(name, ".seg") || strings.HasSuffix(name, ".ckpt") || strings.HasSuffix(name, ".wal") {
				if err == nil {
					t.Errorf("%s as a %s is taken", name, kind)
				}
			}
		}
	}
}

// The newest checkpoint is damaged. An older one that is there still is not
// taken in its place, since the log after it may be gone, but it is named.
func TestNewestCheckpointDamaged(t *testing.T) {
	ctx := t.Context()
	fs := faultfs.New(1)
	db := openOn(t, fs, Options{})
	newCollection(t, db, "c")
	in := fs.Inject(faultfs.Rule{Op: faultfs.OpRemove, Path: "checkpoint/*", Forever: true})
	check(t, db.writeCheckpoint(ctx))
	check(t, db.Close())
	in.Remove()
	numbers, err := numberedFiles(fs, checkpointDir, checkpointSuffix)
	check(t, err)
	if len(numbers) < 2 {
		t.Fatalf("checkpoints %v", numbers)
	}
	newest, older := checkpointName(numbers[len(numbers)-1]), checkpointName(numbers[len(numbers)-2])
	whole, err := fs.Content(newest)
	check(t, err)
	for at := range whole {
		hit := fs.Clone()
		check(t, hit.Damage(newest, func(b []byte) []byte {
			b[at] ^= 0x40
			return b
		}))
		_, err := Open("", &Options{fs: hit})
		if !refusal(err) || !strings.Contains(err.Error(), newest) || !strings.Contains(err.Error(), older) {
			t.Fatalf("byte %d: %v, which should name %s and %s", at, err, newest, older)
		}
	}
}

// Files of a newer version, of an unknown kind, or with a flag that nobody
// knows are refused before a byte is written.
func TestNewerVersion(t *testing.T) {
	fs, _, _ := spoilt(t, nil)
	for _, name := range fs.Files() {
		if !strings.HasSuffix(name, ".ckpt") && !strings.HasSuffix(name, ".wal") || strings.HasPrefix(name, "RESERVE") {
			continue // segments are opened by who reads them
		}
		for what, change := range map[string]func(h []byte){
			"version": func(h []byte) { h[8]++ },
			"kind":    func(h []byte) { h[10] = 200 },
			"flag":    func(h []byte) { h[80] = 1 },
		} {
			hit := fs.Clone()
			check(t, hit.Damage(name, func(b []byte) []byte {
				change(b)
				binary.LittleEndian.PutUint64(b[120:], xxhash.Sum64(b[:120]))
				return b
			}))
			before := hit.Ops()
			for _, readOnly := range []bool{true, false} {
				if _, err := Open("", &Options{fs: hit, ReadOnly: readOnly}); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), name) {
					t.Errorf("%s of %s: %v", what, name, err)
				}
			}
			if now := hit.Ops() - before; now > 1 { // the lock
				t.Errorf("%s of %s: %d operations: %v", what, name, now, hit.Trace())
			}
		}
	}
}
