package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// crafted is a text column with the given sections, whatever they say.
func crafted(t *testing.T, size uint64, ends, blocks []uint64, stored []byte) *text {
	t.Helper()
	array := func(values []uint64) (b []byte) {
		for _, v := range values {
			b = binary.LittleEndian.AppendUint64(b, v)
		}
		return b
	}
	fs := faultfs.New(1)
	h := testSpec(1, 1, kernel.L2).header()
	info, err := disk.WriteFile(fs, Name(1), h, seal.Plain(), func(w *disk.Writer) error {
		for i, b := range [][]byte{array(ends), array(blocks), stored} {
			if err := w.Section(uint16(i+1), 4096); err != nil {
				return err
			}
			if _, err := w.Write(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := disk.OpenFile(fs, Name(1), h, info, seal.Plain())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	x := &text{size: size, decoders: new(sync.Pool)}
	x.ends, _ = f.Section(1)
	x.blocks, _ = f.Section(2)
	x.stored, _ = f.Section(3)
	return x
}

// zeros is n zero bytes, compressed.
func zeros(t *testing.T, n int) []byte {
	t.Helper()
	enc, err := (*Cache)(nil).encoder()
	if err != nil {
		t.Fatal(err)
	}
	return enc.EncodeAll(make([]byte, n), nil)
}

// Text columns that lie: an error each, and no more memory than a block.
func TestTextHostile(t *testing.T) {
	end := func(n int) uint64 { return uint64(n)<<1 | 1 }
	small, long, huge := zeros(t, 10), zeros(t, textBlock+1), zeros(t, 64<<20)
	plain := bytes.Repeat([]byte("x"), 2*textBlock)
	for name, x := range map[string]*text{
		"ends descend":               crafted(t, 100, []uint64{end(50), end(20)}, []uint64{100}, plain[:100]),
		"end beyond the text":        crafted(t, 100, []uint64{end(10), end(101)}, []uint64{100}, plain[:100]),
		"bytes without a text":       crafted(t, 100, []uint64{end(10), 100 << 1}, []uint64{100}, plain[:100]),
		"a block too short":          crafted(t, 100, []uint64{end(90), end(100)}, []uint64{uint64(len(small))}, small),
		"a block too long":           crafted(t, textBlock, []uint64{end(9), end(90)}, []uint64{uint64(len(long))}, long),
		"a bomb":                     crafted(t, textBlock, []uint64{end(9), end(90)}, []uint64{uint64(len(huge))}, huge),
		"no frame":                   crafted(t, 100, []uint64{end(9), end(90)}, []uint64{50}, plain[:50]),
		"stored bytes descend":       crafted(t, textBlock+9, []uint64{end(textBlock), end(textBlock + 9)}, []uint64{50, 20}, plain),
		"stored bytes beyond":        crafted(t, 100, []uint64{end(9), end(90)}, []uint64{101}, plain[:100]),
		"stored bytes that say much": crafted(t, 100, []uint64{end(9), end(90)}, []uint64{2 * textBlock}, plain),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _, err := x.at(1)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, disk.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%s: %d bytes were allocated", name, n)
		}
	}
	// The same columns, told rightly.
	x := crafted(t, 10, []uint64{end(4), end(10)}, []uint64{uint64(len(small))}, small)
	if got, ok, err := x.at(1); got != strings.Repeat("\x00", 6) || !ok || err != nil {
		t.Errorf("%q, %v, %v", got, ok, err)
	}
}

func TestSpool(t *testing.T) {
	rng := rand.New(rand.NewPCG(12, 12))
	var s, numbers spool
	var want []byte
	for len(want) < 3*spoolChunk {
		p := make([]byte, rng.IntN(spoolChunk/3))
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		s.Write(p)
		want = append(want, p...)
	}
	for range 200 {
		from := rng.IntN(len(want))
		to := from + rng.IntN(len(want)-from+1)
		if got := s.appendRange([]byte("x"), from, to); string(got[1:]) != string(want[from:to]) {
			t.Fatalf("%d to %d is wrong", from, to)
		}
	}
	for i := range spoolChunk / 3 {
		numbers.uint64(uint64(i) * 3)
	}
	for i := range spoolChunk / 3 {
		if numbers.uint64At(i) != uint64(i)*3 {
			t.Fatalf("number %d is %d", i, numbers.uint64At(i))
		}
	}
	var out bytes.Buffer
	if err := s.flushTo(&out); err != nil || !bytes.Equal(out.Bytes(), want) {
		t.Fatalf("%d bytes of %d, %v", out.Len(), len(want), err)
	}
}
