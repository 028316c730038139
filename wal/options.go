package wal

import (
	"encoding/binary"
	"hash/maphash"

	"github.com/chromad/chromad/internal/seal"
)

// MaxPayload is the length in bytes that no entry may exceed.
const MaxPayload = 256 << 20

const (
	defaultMaxFile  = 64 << 20
	defaultMaxFrame = 4 << 20
)

// Options say how a log is opened. Zero values mean the defaults.
type Options struct {
	// Store is the identity of the store. Files of another one are refused.
	Store seal.ID
	// Kind is what the headers of the files say, default seal.KindLog: a store
	// that has several logs tells their files apart by it.
	Kind seal.Kind
	// Keys seal the frames, each file with the newest key; nil: seal.Plain().
	Keys seal.Keys
	// MaxFile is the size in bytes from which on a new file is started,
	// default 64 MiB.
	MaxFile int64
	// MaxFrame bounds the payload in bytes that is gathered in one frame,
	// default 4 MiB. A larger entry gets a frame of its own.
	MaxFrame int
	// ReadOnly replays without writing a byte.
	ReadOnly bool
	// Epoch stands in the positions of new entries. It may not be smaller
	// than that of the entries that are there.
	Epoch uint64
	// Existing says that the log was made before, so that no file at all means
	// that they are lost. Without it, that is an empty log when Open asks for
	// the first position.
	Existing bool
	// New says that there is no log, nor was there one: it begins at the position
	// that Open is given, whatever that is.
	New bool
	// Last is an entry that was durable, 0 for none: a log that ends before it
	// is corrupt, however it ends. Open's own position says the same of those
	// before it.
	Last uint64
	// NewID draws the identity of a new file: never the same twice, and not
	// to be guessed by those who write entries, or they could forge frames
	// inside their payloads. nil: drawn from the seeds of hash/maphash.
	NewID func() seal.ID
}

func (o Options) withDefaults() Options {
	if o.Keys == nil {
		o.Keys = seal.Plain()
	}
	if o.Kind == 0 {
		o.Kind = seal.KindLog
	}
	if o.MaxFile <= 0 {
		o.MaxFile = defaultMaxFile
	}
	if o.MaxFrame <= 0 {
		o.MaxFrame = defaultMaxFrame
	}
	if o.NewID == nil {
		o.NewID = drawID
	}
	return o
}

// drawID takes its chance from the runtime, which is seeded by the system.
func drawID() (id seal.ID) {
	binary.LittleEndian.PutUint64(id[:8], maphash.Bytes(maphash.MakeSeed(), nil))
	binary.LittleEndian.PutUint64(id[8:], maphash.Bytes(maphash.MakeSeed(), nil))
	return id
}
