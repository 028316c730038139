package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/mutant"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/segment"
	"github.com/chromad/chromad/wal"
)

// A checkpoint is the whole state (catalog, manifests, positions) in one file
// under a fresh number. Truth is the newest checkpoint and the log after it.
// Only after a checkpoint is durable may the log before it, older
// checkpoints, and segments that it does not name, be removed.

const (
	checkpointDir     = "checkpoint"
	checkpointSuffix  = ".ckpt"
	checkpointSection = 1
	checkpointBlock   = 64 << 10
	segmentDir        = "seg"
	segmentSuffix     = ".seg"

	// A checkpoint is written when so much was logged since the last one, or
	// four times its own size, so that it costs little of what is written.
	checkpointEvery = 16 << 20
)

// checkpointState is what is known of the newest checkpoint.
type checkpointState struct {
	number uint64
	// position: the catalog and the manifests hold every catalog entry and
	// edit up to it.
	position wal.Position
	// from is where the log is read from: the oldest entry that is not in a
	// segment, or the one after position.
	from wal.Position
	size int64

	keyset  uint64 // number of the keyset, 0: the store is plain
	written int64  // when, in seconds since 1970
	since   int64  // of the oldest deletion that is not erased, 0: none
}

func checkpointName(number uint64) string {
	return disk.Name(checkpointDir, number, checkpointSuffix)
}

// numberedFiles lists the files of a directory that are named by a number,
// ascending. Other entries are not ours and are left alone.
func numberedFiles(fs vfs.FS, dir, suffix string) ([]uint64, error) {
	infos, err := fs.List(dir)
	if err != nil {
		if isNotExist(err) {
			return nil, nil
		}
		return nil, err
	}
	var out []uint64
	for _, i := range infos {
		if n, ours := disk.Number(i.Name, suffix); ours && i.Regular {
			out = append(out, n)
		}
	}
	return out, nil
}

func (db *DB) checkpointHeader(number uint64, file seal.ID) disk.Header {
	return disk.Header{
		Kind: seal.KindCheckpoint, Version: disk.Version,
		Store: db.store, File: file, Number: number,
	}
}

// encodeCheckpoint is called with catMu held: no catalog entry and no edit is
// on its way, so all that are in the log are applied. Records' entries that are
// durable and not yet applied are held by their collection's firstUnflushed.
func (db *DB) encodeCheckpoint() (checkpointState, []byte, error) {
	end := db.log.End()
	// A number is used once: an attempt that failed may have left its file.
	db.tried++
	ck := checkpointState{number: db.tried, position: wal.Position{Epoch: end.Epoch, Seq: end.Seq - 1}, from: end}
	for _, c := range db.all() {
		ck.from.Seq = minSeq(c.firstUnflushed(), ck.from.Seq)
	}
	ck.written, ck.since = now(), db.erasure.unerased()
	if db.ring != nil {
		ck.keyset = db.ring.Keyset().Number
	}
	b, err := db.appendCheckpoint(nil, ck)
	return ck, b, err
}

// appendCheckpoint appends what ck says and the catalog as it is.
func (db *DB) appendCheckpoint(b []byte, ck checkpointState) ([]byte, error) {
	for _, p := range []wal.Position{ck.position, ck.from} {
		var err error
		if b, err = p.AppendBinary(b); err != nil {
			return nil, err
		}
	}
	for _, n := range []uint64{ck.keyset, uint64(ck.written), uint64(ck.since)} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	b = db.erasure.append(b, ck.keyset != 0)
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.catalog.append(b)
}

// writeCheckpoint writes a checkpoint and gives back what it sets free.
func (db *DB) writeCheckpoint(ctx context.Context) error {
	start := time.Now()
	if err := db.catMu.lock(ctx); err != nil {
		return err
	}
	defer db.catMu.Unlock()
	if err := db.failed(); err != nil {
		return err
	}
	logged, garbage := db.jobs.waiting()
	ck, body, err := db.encodeCheckpoint()
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if mutant.On(mutant.ReleasedEarly) {
		db.log.Release(ck.from)
	}
	if err = db.putCheckpoint(&ck, body); errors.Is(err, ErrDiskFull) && db.failed() == nil {
		db.spendReserve(forCheckpoint)
		db.tried++
		ck.number = db.tried
		err = db.putCheckpoint(&ck, body)
	}
	if err != nil {
		return db.diskError(fmt.Errorf("checkpoint: %w", err))
	}
	db.checkpoint = ck
	db.work.checkpoint.Store(ck.number)
	db.work.checkpoints.add(0, ck.size)
	removed, err := db.sweep(ctx)
	if failed := db.failed(); failed != nil {
		return failed
	}
	if err != nil { // the next checkpoint tries again what could not be removed
		db.report("remove", fmt.Errorf("checkpoint %d: %w", ck.number, err), false)
	}
	db.keepReserve()
	db.jobs.checkpointed(logged, garbage)
	if f := db.opts.Events.Checkpointed; f != nil {
		f(CheckpointEvent{Number: ck.number, Removed: removed, Duration: time.Since(start)})
	}
	return nil
}

func (db *DB) putCheckpoint(ck *checkpointState, body []byte) error {
	name := checkpointName(ck.number)
	info, err := disk.WriteFile(db.fs, name, db.checkpointHeader(ck.number, newFileID()), db.keys, func(w *disk.Writer) error {
		if err := w.Section(checkpointSection, checkpointBlock); err != nil {
			return err
		}
		_, err := w.Write(body)
		return err
	})
	ck.size = info.Length
	return db.written(name, err)
}

// written judges the error of writing a file whole. A full disk may refuse the
// sync of the directory too, behind the renaming; then it is as with every
// sync that failed: nobody knows which of the names there are on the disk.
func (db *DB) written(name string, err error) error {
	if errors.Is(err, ErrDiskFull) {
		if _, there := db.fs.Stat(name); !isNotExist(there) {
			return db.fail(err)
		}
	}
	return err
}

// sweep removes what the newest checkpoint does not need: log files,
// checkpoints before it, and segments that no manifest, no reader and no
// builder names. What cannot be removed does not keep the rest. catMu is held.
func (db *DB) sweep(ctx context.Context) (removed int, err error) {
	errs := []error{db.log.Release(db.checkpoint.from), db.readers.forget(db.files.needed)}
	remove := func(name string) {
		if err := db.fs.Remove(name); err != nil && !isNotExist(err) {
			errs = append(errs, err)
			return
		}
		removed++
	}
	old, err := numberedFiles(db.fs, checkpointDir, checkpointSuffix)
	errs = append(errs, err)
	for _, n := range old {
		if n < db.checkpoint.number {
			remove(checkpointName(n))
		}
	}
	named := db.named()
	segs, err := numberedFiles(db.fs, segmentDir, segmentSuffix)
	errs = append(errs, err)
	for _, n := range segs {
		if ctx.Err() != nil {
			break // the rest goes next time
		}
		if named[n] == nil && !db.files.needed(n) {
			remove(segment.Name(n))
		}
	}
	return removed, errors.Join(errs...)
}

// named are the segments of all collections, by number, and whose they are;
// catMu is held, or nobody else is there yet.
func (db *DB) named() map[uint64]*Collection {
	named := map[uint64]*Collection{}
	for _, c := range db.all() {
		for _, s := range c.manifest.segments {
			named[s.info.Number] = c
		}
	}
	return named
}

// discard removes a segment whose edit was refused: the space may be what is
// wanted. One that is there still goes with a later checkpoint, as does what
// an entry in doubt may need.
func (db *DB) discard(number uint64) {
	if db.failed() != nil {
		return
	}
	if err := db.fs.Remove(segment.Name(number)); err != nil && !isNotExist(err) {
		db.report("remove", err, false)
	}
}

// notOlder says of a newest checkpoint that is no good that there is another,
// which is not taken instead: the log that follows it may be gone, and with it
// what was acknowledged.
func notOlder(numbers []uint64, err error) error {
	if n := len(numbers); err != nil && n > 1 {
		return fmt.Errorf("%w (an older one is there too and was not used, %s)", err, checkpointName(numbers[n-2]))
	}
	return err
}

// loadCheckpoint reads the newest checkpoint; found is false when there is none.
func (db *DB) loadCheckpoint() (found bool, err error) {
	numbers, err := numberedFiles(db.fs, checkpointDir, checkpointSuffix)
	if err != nil || len(numbers) == 0 {
		return false, err
	}
	defer func() { err = notOlder(numbers, err) }()
	number := numbers[len(numbers)-1]
	if mutant.On(mutant.OldCheckpointUsed) {
		number = numbers[0]
	}
	name := checkpointName(number)
	// The checkpoint is where the store's own identity is learnt from.
	h, err := disk.ReadHeader(db.fs, name)
	if err != nil {
		return false, err
	}
	db.store = h.Store
	body, info, err := disk.ReadSection(db.fs, name, db.checkpointHeader(number, h.File), db.keys, checkpointSection, math.MaxInt)
	if err != nil {
		return false, err
	}
	if err := db.decodeCheckpoint(number, body); err != nil {
		return false, fmt.Errorf("%s: %w: %w", name, ErrCorrupt, err)
	}
	db.checkpoint.size, db.tried = info.Length, number
	return true, nil
}

func (db *DB) decodeCheckpoint(number uint64, body []byte) error {
	d := disk.NewDecoder(body)
	db.checkpoint = checkpointState{
		number:   number,
		position: wal.Position{Epoch: d.Uint64(), Seq: d.Uint64()},
		from:     wal.Position{Epoch: d.Uint64(), Seq: d.Uint64()},
		keyset:   d.Uint64(),
		written:  int64(d.Uint64()),
		since:    int64(d.Uint64()),
	}
	db.erasure.decode(d, db.checkpoint.keyset != 0)
	if p, from := db.checkpoint.position.Seq, db.checkpoint.from.Seq; from == 0 || from-1 > p {
		d.Fail("a log from %d on, the catalog is of %d", from, p)
	}
	return db.decodeCatalog(d)
}
