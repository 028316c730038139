package segment

import (
	"encoding/binary"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/klauspost/compress/zstd"
)

// textBlock is how much text is compressed at once. Reading one row costs
// decompressing one block.
const textBlock = 32 << 10

// textWriter gathers an optional text per row. The texts are laid end to end
// and cut every textBlock bytes, wherever that falls; each block is compressed
// alone. So a block is found by a division and never holds more than
// textBlock bytes, however long a text is.
type textWriter struct {
	zstd   *zstd.Encoder
	ends   spool  // u64 per row: end of its text << 1 | is there
	blocks spool  // u64 per block: end of its stored bytes
	stored spool  // the blocks
	raw    []byte // what has not filled a block yet
	size   uint64 // bytes of text so far
	any    bool
	buf    []byte
}

// encodersKept is for a flush and a merge at once. They are not in a sync.Pool: what that has
// kept of one store after another counts as in use, and a process that opens and closes
// many collects its garbage later and later.
const encodersKept = 2

// encoder makes an encoder, or takes one that was given back. A new one clears a megabyte,
// which takes longer than to compress the texts of a small segment.
func (c *Cache) encoder() (*zstd.Encoder, error) {
	if e := c.kept(); e != nil {
		return e, nil
	}
	return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
		zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(textBlock), zstd.WithLowerEncoderMem(true))
}

func (c *Cache) kept() *zstd.Encoder {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	last := len(c.encoders) - 1
	if last < 0 {
		return nil
	}
	e := c.encoders[last]
	c.encoders = c.encoders[:last]
	return e
}

func (c *Cache) giveBack(e *zstd.Encoder) {
	if c == nil || e == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.encoders) < encodersKept && !c.closed {
		c.encoders = append(c.encoders, e)
	}
}

func (t *textWriter) add(text *string) {
	if text == nil {
		t.ends.uint64(t.size << 1)
		return
	}
	t.any = true
	t.size += uint64(len(*text))
	t.ends.uint64(t.size<<1 | 1)
	for rest := *text; len(rest) > 0; {
		k := min(len(rest), textBlock-len(t.raw))
		t.raw = append(t.raw, rest[:k]...)
		rest = rest[k:]
		if len(t.raw) == textBlock {
			t.cut()
		}
	}
}

// cut ends the block. One that compression does not shorten is stored as it
// is, which its length tells.
func (t *textWriter) cut() {
	t.buf = t.zstd.EncodeAll(t.raw, t.buf[:0])
	if len(t.buf) >= len(t.raw) {
		t.stored.Write(t.raw)
	} else {
		t.stored.Write(t.buf)
	}
	t.blocks.uint64(uint64(t.stored.size))
	t.raw = t.raw[:0]
}

// flush writes the three sections, none if no row has a text.
func (t *textWriter) flush(w *disk.Writer, ends, blocks, stored uint16) error {
	if !t.any {
		t.ends = spool{}
		return nil
	}
	if len(t.raw) > 0 {
		t.cut()
	}
	for _, part := range []struct {
		kind  uint16
		block int
		spool *spool
	}{{ends, blockProbe, &t.ends}, {blocks, blockProbe, &t.blocks}, {stored, blockText, &t.stored}} {
		if err := w.Section(part.kind, part.block); err != nil {
			return err
		}
		if err := part.spool.flushTo(w); err != nil {
			return err
		}
	}
	return nil
}

// textCache is how many decompressed blocks a text column keeps, 128 KiB in
// all. Rows are asked for in order more often than not.
const textCache = 4

// text reads what textWriter wrote. Its zero value has no text in any row.
type text struct {
	ends, blocks, stored *disk.Section
	size                 uint64
	decoders             *sync.Pool // of *zstd.Decoder: who decodes at once has one each
	cache                [textCache]atomic.Pointer[textPart]
	shared               *Cache // nil: none
	file                 seal.ID
}

// textPart is a decompressed block. It is never changed.
type textPart struct {
	block uint64
	bytes []byte
}

func newDecoder() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(textBlock),
		zstd.WithDecoderMaxWindow(textBlock), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderLowmem(true), zstd.IgnoreChecksum(true))
}

// at is the text of row, a copy. What the shared cache has is used, and
// nothing is put into it: a merge that reads all texts once would empty it.
func (t *text) at(row uint32) (string, bool, error) { return t.read(row, false) }

// again is at for texts that will be read again soon: the shared cache keeps
// their blocks.
func (t *text) again(row uint32) (string, bool, error) { return t.read(row, true) }

func (t *text) read(row uint32, keep bool) (string, bool, error) {
	if t.ends == nil {
		return "", false, nil
	}
	start, end, err := endsAt(t.ends, row)
	if err != nil {
		return "", false, err
	}
	present := end&1 != 0
	start, end = start>>1, end>>1
	if start > end || end > t.size || !present && start != end {
		return "", false, damaged(t.ends, int(row)*8, "text of row %d is at %d to %d of %d", row, start, end, t.size)
	}
	if start == end {
		return "", present, nil
	}
	part, err := t.block(start/textBlock, keep)
	if err != nil {
		return "", false, err
	}
	from, rest := int(start%textBlock), end-start
	if rest <= uint64(len(part)-from) {
		return string(part[from : from+int(rest)]), true, nil
	}
	// The text goes on in further blocks. What it will need is not known
	// before they are read: the file says it, and it may lie.
	var b strings.Builder
	b.Write(part[from:])
	rest -= uint64(len(part) - from)
	for n := start/textBlock + 1; rest > 0; n++ {
		if part, err = t.block(n, keep); err != nil {
			return "", false, err
		}
		k := min(rest, uint64(len(part)))
		b.Write(part[:k])
		rest -= k
	}
	return b.String(), true, nil
}

// block is block n, decompressed. Every block but the last has textBlock
// bytes, and one that has another length than it must is an error, so at never
// waits for bytes that do not come.
func (t *text) block(n uint64, keep bool) ([]byte, error) {
	slot := &t.cache[n%textCache]
	if part := slot.Load(); part != nil && part.block == n {
		return part.bytes, nil
	}
	key := cacheKey{file: t.file, block: n}
	if b := t.shared.block(key); b != nil {
		return b, nil
	}
	part, err := t.decompress(n)
	if err != nil {
		return nil, err
	}
	if slot.Store(part); keep {
		t.shared.putBlock(key, part.bytes)
	}
	return part.bytes, nil
}

func (t *text) decompress(n uint64) (*textPart, error) {
	start, end, err := endsAt(t.blocks, uint32(n))
	if err != nil {
		return nil, err
	}
	if start > end || end > uint64(t.stored.Len()) || end-start > textBlock {
		return nil, damaged(t.blocks, int(n)*8, "text block %d is at %d to %d of %d", n, start, end, t.stored.Len())
	}
	stored, err := t.stored.Bytes(int(start), int(end-start))
	if err != nil {
		return nil, err
	}
	size := int(min(t.size-n*textBlock, textBlock))
	part := &textPart{block: n}
	if len(stored) == size {
		part.bytes = append([]byte(nil), stored...)
	} else {
		dec, _ := t.decoders.Get().(*zstd.Decoder)
		if dec == nil {
			if dec, err = newDecoder(); err != nil {
				return nil, err
			}
		}
		part.bytes, err = dec.DecodeAll(stored, make([]byte, 0, size))
		t.decoders.Put(dec)
		if err != nil {
			return nil, damaged(t.stored, int(start), "text block %d: %w", n, err)
		}
		if len(part.bytes) != size {
			return nil, damaged(t.stored, int(start), "text block %d has %d bytes, not %d", n, len(part.bytes), size)
		}
	}
	return part, nil
}

// textBlocks is how many blocks size bytes of text have.
func textBlocks(size uint64) uint64 { return size/textBlock + min(size%textBlock, 1) }

// textEnd is where the text of the last row ends.
func textEnd(ends *disk.Section, rows uint32) (uint64, error) {
	b, err := ends.Bytes((int(rows)-1)*8, 8)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b) >> 1, nil
}
