package engine

import (
	"fmt"
	"runtime"
	"time"

	"github.com/chromad/chromad/hnsw"
	"github.com/chromad/chromad/internal/vfs"
)

// Options tune a store. The zero value is the recommended set.
type Options struct {
	// ReadOnly opens an existing store without writing a byte, for as many
	// readers as like; what the log holds is read into memory, and has to fit
	// MemoryLimit (ErrTooLarge). Readers and a writer exclude each other with
	// ErrLocked, since a writer removes files. Where LOCK is missing, as in a
	// copy, or may not be read, nothing is locked: then nobody may write.
	ReadOnly bool
	// MemtableRows and MemtableBytes are how much of one collection is kept
	// in memory before it is flushed into a segment. 0: 16,384 rows, 64 MiB.
	MemtableRows  int
	MemtableBytes int64
	// MemoryLimit bounds the memtables of all collections together; the
	// largest are flushed first. 0: 1 GiB.
	MemoryLimit int64
	// LogLimit is how long the log may grow before the collections that hold
	// its oldest entries are flushed. It bounds the time to recover.
	// 0: 256 MiB.
	LogLimit int64
	// TextCache bounds what is kept for conditions: decompressed documents,
	// which rows of a segment a condition held for, and, of conditions that come with
	// query after query, copies of what a search reads of these rows. 0: an eighth of
	// MemoryLimit, beside it.
	TextCache int64
	// SegmentMemory bounds what is held of segments outside of Go's heap, beside
	// mapped files: the hot part of each (codes and links of its index, some
	// 200 bytes a row of 128 dimensions, 330 of 768), which the first search of
	// the segment loads, and of an encrypted store what was decrypted beside
	// that. Hot parts that do not fit are read where they are mapped, 5 to 20 %
	// slower; encrypted ones are loaded all the same. Decrypted blocks are
	// forgotten and decrypted again. What runs at the moment may pass the bound.
	// Mapped files do not count, but as many as would fit into the bound too are read
	// in large pages.
	// 0: twice MemoryLimit, beside it.
	SegmentMemory int64
	// OpenSegments bounds how many segment files are open at a time. 0: 1,000.
	OpenSegments int
	// GraphMin is the number of rows from which a segment has a graph;
	// smaller ones are scanned. 0: 1,000.
	GraphMin int
	// IndexBits is how many bits of each number searches walk over: 2, 4, 8, or 32
	// for the vectors themselves. More take more memory and time, fewer lose
	// neighbours where vectors are hard to tell apart. 0: chosen for each segment by
	// trying on a sample of its rows, and again on their neighbours. It counts for
	// segments that are written from now on.
	IndexBits int
	// Workers is how many goroutines build a graph. 0: GOMAXPROCS.
	Workers int
	Limits  Limits
	// Keys is the operator's key under which the store is encrypted. A new
	// store is made with it or plain, for good: Encrypt converts a plain one.
	// nil: the store is plain.
	Keys OperatorKey
	// MinGeneration refuses a store whose Generation is smaller (ErrRollback):
	// somebody has put an older copy in its place.
	MinGeneration uint64
	// EraseWithin is how long the bytes of what was deleted or overwritten may
	// stay in the files: they are erased in the background before that. What it
	// cannot reach, EraseNow says. 0: 24 hours; negative: when EraseNow is
	// called, and as far as merging and checkpoints happen to do it.
	EraseWithin time.Duration
	// AuditFile is the size in bytes from which on a file of the audit log is
	// closed. 0: 16 MiB.
	AuditFile int64
	// ExpireEvery is how often records that are over (Collection.SetRetention)
	// are deleted, which no read has any more by then: EraseWithin counts from
	// that. 0: every minute; negative: when Collection.Expire is called.
	ExpireEvery time.Duration
	// RestAfter is how long a collection must not have been written to before its
	// segments become one, where that is worth it. Queries of several take longer.
	// 0: 10 seconds; negative: several may stay, until Compact is called.
	RestAfter time.Duration
	// Events is told about background work. nil: nobody is.
	Events *Events

	convert bool   // a plain store becomes an encrypted one
	mending bool   // what another log says is written again: neither holds nor the clock count
	fs      vfs.FS // tests put a file system of their own in place
	reserve int64  // and need not fill disks with a whole reserve
}

// Limits bound one record and one call. Zero fields take the defaults.
type Limits struct {
	Dimension     int // floats of an embedding, 65,535
	IDBytes       int // 65,536
	MetadataKeys  int // keys of a record, 10,000
	MetadataBytes int // encoded metadata of a record, 16 MiB
	DocumentBytes int // 64 MiB
	BatchRecords  int // records of a call, 1,000,000
	BatchBytes    int // encoded size of a call, 192 MiB
}

// Events are called from background goroutines. They must return soon and
// must not call the store. nil functions are skipped.
type Events struct {
	Flushed      func(FlushEvent)
	Compacted    func(CompactEvent)
	Checkpointed func(CheckpointEvent)
	Expired      func(ExpireEvent)
	// Degraded is told once of each segment with a damaged index.
	Degraded func(DegradedEvent)
	// Error is told of every failure of background work; Failed holds when
	// the store accepts no more writes because of it.
	Error func(ErrorEvent)
}

// FlushEvent tells of a memtable that became a segment.
type FlushEvent struct {
	Collection ID
	Rows       int
	Bytes      int64 // length of the file
	Duration   time.Duration
}

// CompactEvent tells of segments that became one (Rows 0: nothing was left).
type CompactEvent struct {
	Collection ID
	Segments   int // that were merged
	Rows       int
	Bytes      int64 // length of the new file
	Duration   time.Duration
}

// ExpireEvent tells of records that were deleted because their time was over.
type ExpireEvent struct {
	Collection ID
	Records    int
}

// CheckpointEvent tells of a checkpoint and of the files it set free.
type CheckpointEvent struct {
	Number   uint64
	Removed  int // files of segments and older checkpoints
	Duration time.Duration
}

// DegradedEvent tells of a segment whose graph, filter index, id table or
// vectors in bytes are damaged. Reads go on without, slower, and it is made anew in the background.
type DegradedEvent struct {
	Collection ID
	Segment    uint64 // number in the file's name
	Err        error  // an ErrCorrupt
}

// ErrorEvent tells of background work that failed.
type ErrorEvent struct {
	Op     string // "write", "apply", "flush", "compact", "relieve pressure" (of memory and log), "remove" (of files nobody needs), "reserve", "rotate keys", "erase", "expire", "checkpoint"
	Err    error
	Failed bool // no more writes are accepted
}

func (o *Options) withDefaults() (Options, error) {
	var v Options
	if o != nil {
		v = *o
	}
	for _, f := range []struct {
		name string
		n    int64
	}{
		{"MemtableRows", int64(v.MemtableRows)}, {"MemtableBytes", v.MemtableBytes}, {"MemoryLimit", v.MemoryLimit},
		{"LogLimit", v.LogLimit}, {"TextCache", v.TextCache}, {"SegmentMemory", v.SegmentMemory},
		{"OpenSegments", int64(v.OpenSegments)}, {"GraphMin", int64(v.GraphMin)}, {"Workers", int64(v.Workers)}, {"AuditFile", v.AuditFile},
	} {
		if f.n < 0 {
			return v, &InvalidError{Field: "Options." + f.name, Index: -1, Reason: fmt.Sprintf("%d is negative", f.n)}
		}
	}
	if err := (hnsw.Params{Bits: v.IndexBits}).Check(); err != nil {
		return v, &InvalidError{Field: "Options.IndexBits", Index: -1, Reason: fmt.Sprintf("%d is not 0, 2, 4, 8 or 32", v.IndexBits)}
	}
	setDefault(&v.MemtableRows, 16384)
	setDefault(&v.MemtableBytes, 64<<20)
	setDefault(&v.MemoryLimit, 1<<30)
	setDefault(&v.LogLimit, 256<<20)
	setDefault(&v.TextCache, v.MemoryLimit/8)
	setDefault(&v.SegmentMemory, 2*v.MemoryLimit)
	setDefault(&v.OpenSegments, 1000)
	setDefault(&v.GraphMin, 1000)
	setDefault(&v.AuditFile, 16<<20)
	setDefault(&v.Workers, runtime.GOMAXPROCS(0))
	setDefault(&v.Limits.Dimension, 65535)
	setDefault(&v.Limits.IDBytes, 1<<16)
	setDefault(&v.Limits.MetadataKeys, 10000)
	setDefault(&v.Limits.MetadataBytes, 16<<20)
	setDefault(&v.Limits.DocumentBytes, 64<<20)
	setDefault(&v.Limits.BatchRecords, 1000000)
	setDefault(&v.Limits.BatchBytes, 192<<20)
	if v.EraseWithin == 0 {
		v.EraseWithin = defaultErase
	}
	if v.ExpireEvery == 0 {
		v.ExpireEvery = defaultExpire
	}
	if v.RestAfter == 0 {
		v.RestAfter = defaultRest
	}
	if v.Events == nil {
		v.Events = &Events{}
	}
	return v, nil
}

func setDefault[T int | int64](p *T, v T) {
	if *p == 0 {
		*p = v
	}
}
