package engine

import (
	"sync/atomic"
	"time"
)

// Stats are figures about a store at one time. They are read one after the
// other while the store goes on, so they need not add up exactly.
type Stats struct {
	Collections int
	Records     int64 // that are alive, in memory and in segments

	Segments     int   // that collections consist of; files of older states may still be there
	SegmentBytes int64 // length of their files, with what is dead in them
	OpenSegments int   // files that are open, those of older states too
	// DegradedSegments have a damaged index and are read without it, slower.
	// Each is made anew in the background.
	DegradedSegments int

	MemtableRows  int64 // in memory and in no segment yet; those that are being flushed count
	MemtableBytes int64 // their memory, an estimate that Options.MemoryLimit bounds

	// SegmentMemory is what is held of segments in memory of the process's own,
	// which Options.SegmentMemory bounds.
	SegmentMemory int64

	LogBytes int64  // length of the log's files, what a checkpoint will release included
	LogEpoch uint64 // position of the last durable entry
	LogSeq   uint64 // 0: there has never been one

	Checkpoint uint64 // number of the newest one

	// Unerased is the age of the oldest deletion whose bytes may still be in
	// files, EraseOverdue by how much that is more than Options.EraseWithin.
	Unerased, EraseOverdue time.Duration

	// Expired counts records whose time was over and that were deleted for it since
	// the store was opened, ExpireOverdue is how long the background has not
	// succeeded in that. Held are the collections under legal hold.
	Expired       int64
	ExpireOverdue time.Duration
	Held          int

	// Failed holds when the store accepts no more writes; DB.Err says why.
	Failed bool

	// What was done since the store was opened.
	Flushes, Compactions, Checkpoints Work
}

// Work counts background work of one kind, and what it has written.
type Work struct {
	Runs  int64
	Rows  int64 // of new segments; checkpoints have none
	Bytes int64 // length of the files
}

// Stats tells how large the store is and what it has done. It reads memory
// only and costs a walk over the collections; it waits for no write, at most
// for a segment that is being opened.
func (db *DB) Stats() Stats {
	end := db.log.End()
	out := Stats{
		OpenSegments: db.readers.opened(), MemtableBytes: db.memBytes.Load(), SegmentMemory: db.memory.Used(),
		LogBytes: db.log.Size(), LogEpoch: end.Epoch, LogSeq: end.Seq - 1, Checkpoint: db.work.checkpoint.Load(),
		Failed:  db.Err() != nil,
		Flushes: db.work.flushes.read(), Compactions: db.work.compactions.read(), Checkpoints: db.work.checkpoints.read(),
	}
	out.Unerased, out.EraseOverdue = db.erasureStats()
	all := db.all()
	out.Expired = db.expiry.total.Load()
	out.Held, out.ExpireOverdue = db.expiryStats(all)
	for _, c := range all {
		s := c.state.Load()
		out.Collections++
		out.Records += int64(s.live)
		out.MemtableRows += int64(s.rows)
		if s.frozen != nil {
			out.MemtableRows += int64(s.frozen.len())
		}
		for _, h := range s.version.segments {
			out.Segments++
			out.SegmentBytes += h.info.Length
			if h.met.told.Load() {
				out.DegradedSegments++
			}
		}
	}
	return out
}

// workDone is what Stats tells of the background.
type workDone struct {
	flushes, compactions, checkpoints tally
	checkpoint                        atomic.Uint64 // number of the newest one
}

type tally struct{ runs, rows, bytes atomic.Int64 }

func (t *tally) add(rows, bytes int64) {
	t.runs.Add(1)
	t.rows.Add(rows)
	t.bytes.Add(bytes)
}

func (t *tally) read() Work {
	return Work{Runs: t.runs.Load(), Rows: t.rows.Load(), Bytes: t.bytes.Load()}
}
