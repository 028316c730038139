package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/keys"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/segment"
	"github.com/chromad/chromad/wal"
)

// Severity says what a Finding means.
type Severity string

// The severities.
const (
	// Damage: bytes are not what was written, and something is lost.
	Damage Severity = "damage"
	// Repairable: what is damaged can be made again from the rest (graph,
	// filter index, id table, norms, vectors in bytes). Reads are right meanwhile, and slower.
	Repairable Severity = "repairable"
	// Note: nothing is wrong, but somebody may wonder.
	Note Severity = "note"
)

// Finding is something that Check has found.
type Finding struct {
	Severity   Severity `json:"severity"`
	File       string   `json:"file,omitempty"`    // below the directory of the store
	Section    string   `json:"section,omitempty"` // of a segment
	Offset     int64    `json:"offset"`            // in the file, in bytes
	Collection string   `json:"collection,omitempty"`
	Name       string   `json:"name,omitempty"` // of the collection
	Text       string   `json:"text"`
}

// Report is what Check and Verify have found.
type Report struct {
	Store       string    `json:"store,omitempty"`
	Checkpoint  uint64    `json:"checkpoint"`
	Encrypted   bool      `json:"encrypted"`
	Files       int       `json:"files"`
	Bytes       int64     `json:"bytes"` // that were read
	Collections int       `json:"collections"`
	Segments    int       `json:"segments"`
	Records     int64     `json:"records"`
	Findings    []Finding `json:"findings"`
}

// Clean tells that there are no findings but notes.
func (r *Report) Clean() bool {
	return !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity != Note })
}

// Err is nil when the report is clean, else an ErrCorrupt that tells the
// first finding and how many there are.
func (r *Report) Err() error {
	n, first := 0, Finding{}
	for _, f := range r.Findings {
		if f.Severity != Note {
			if n++; n == 1 {
				first = f
			}
		}
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%w: %d findings, the first: %s at %d: %s", ErrCorrupt, n, first.File, first.Offset, first.Text)
}

// CheckOptions tune Check.
type CheckOptions struct {
	// Progress is told now and then how many bytes of how many were read; nil: nobody is.
	Progress func(done, total int64)
}

// Check reads every byte of the store in dir, decodes everything, and compares
// what should agree: catalog and files, log and checkpoint, rows and their
// indexes, segments of a collection with each other. It goes on after damage
// and changes nothing. Nobody may have the store open (ErrLocked). The error
// says why nothing could be checked; what is wrong is in the report.
func Check(ctx context.Context, dir string, opts *Options, co CheckOptions) (*Report, error) {
	in, err := look(dir, opts)
	if err != nil {
		return nil, fmt.Errorf("check: %w", err)
	}
	defer in.close()
	k := &checkup{inspection: in, ctx: ctx, progress: co.Progress, seen: map[string]bool{}}
	if err := k.store(); err != nil {
		return nil, fmt.Errorf("check: %w", err)
	}
	return k.finish(), nil
}

// Verify is Check for an open store: each collection as it is now, in memory
// and in its segments. Log and directory are left out, which change meanwhile.
func (db *DB) Verify(ctx context.Context) (*Report, error) {
	if err := db.enter(ctx); err != nil {
		return nil, err
	}
	defer db.leave()
	in := &inspection{db: db, open: true}
	k := &checkup{inspection: in, ctx: ctx, seen: map[string]bool{}}
	k.report.Store, k.report.Checkpoint = db.store.String(), db.work.checkpoint.Load()
	for _, c := range db.byName() {
		if err := k.collection(c); err != nil {
			return nil, fmt.Errorf("verify: %w", err)
		}
	}
	return k.finish(), nil
}

// inspection is a store that is looked at from outside: nothing of it is
// changed, and it may be damaged.
type inspection struct {
	db           *DB // read-only; what could be read of it
	open         bool
	encrypted    bool
	found        bool                   // the catalog is known
	broken       error                  // why not
	log          error                  // where the log stops to make sense
	locked       string                 // why the lock was not taken, when it was not
	checkpointed map[uint64]*Collection // segments as the newest checkpoint names them
}

// look takes the lock of the store in dir and finds its keys, no more.
func look(dir string, opts *Options) (*inspection, error) {
	in, err := prepare(dir, opts)
	if err != nil {
		return nil, err
	}
	for _, step := range []func() error{in.isStore, in.lock, in.openKeys} {
		if err := step(); err != nil {
			return nil, errors.Join(err, in.close())
		}
	}
	return in, nil
}

// prepare opens the directory.
func prepare(dir string, opts *Options) (*inspection, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	o.ReadOnly = true
	o.MemoryLimit = math.MaxInt64 / 4 // the log is read as a whole
	db := &DB{
		opts: o, fs: o.fs, keys: seal.Plain(), files: liveFiles{refs: map[uint64]int{}},
		catMu: newWaitLock(), rotation: newWaitLock(), catalog: newCatalog(),
	}
	db.gate.init()
	db.audit = newAuditLog(db)
	if db.fs == nil {
		root, err := vfs.Open(dir)
		if err != nil {
			return nil, err
		}
		db.fs, db.root = root, root
	}
	db.texts = segment.NewCache(o.TextCache)
	db.memory = disk.NewBudget(o.SegmentMemory)
	db.readers = newReaderCache(db.fs, o.OpenSegments)
	return &inspection{db: db}, nil
}

// openKeys finds the keys, whatever is damaged beside them. Damage of the keys
// themselves is kept.
func (in *inspection) openKeys() error {
	db := in.db
	h := in.anyHeader()
	db.store, in.encrypted = h.Store, h.KeyID != 0
	present, err := keys.Present(db.fs)
	if err != nil {
		return err
	}
	op := db.opts.Keys
	switch {
	case present:
		in.encrypted = true
		db.ring, err = keys.Open(context.Background(), db.fs, h.Store, op, true)
		if errors.Is(err, ErrCorrupt) {
			in.broken = err
			return nil
		}
		if err != nil {
			return err
		}
		db.store, db.keys = db.ring.Store(), db.ring
	case in.encrypted:
		in.broken = fmt.Errorf("%w: the store is encrypted, and there is no key in its directory %s: without them nothing can be read: %w", ErrCorrupt, keys.Dir, ErrKey)
	case op != nil:
		return fmt.Errorf("the store is not encrypted, and the operator's key %q is given: %w", op.URI(), ErrKey)
	}
	db.readers.keys = db.keys
	return nil
}

// anyHeader is the header of the first file of which it can be read: newest
// checkpoint, segments, log. Only store and key of it are of use.
func (in *inspection) anyHeader() disk.Header {
	for _, dir := range []string{checkpointDir, segmentDir, "log"} {
		infos, err := in.db.fs.List(dir)
		if err != nil {
			continue
		}
		for _, i := range slices.Backward(infos) {
			if !i.Regular {
				continue
			}
			if h, err := disk.ReadHeader(in.db.fs, dir+"/"+i.Name); err == nil {
				return h
			}
		}
	}
	return disk.Header{}
}

// isStore refuses a directory that has nothing of a store.
func (in *inspection) isStore() error {
	ours := false
	for _, dir := range []string{checkpointDir, "log", segmentDir} {
		st, err := in.db.fs.Stat(dir)
		ours = ours || err == nil && st.Dir
	}
	if !ours {
		return fmt.Errorf("no store here: %w", ErrNotFound)
	}
	return nil
}

// lock keeps others from changing what is looked at. A directory that cannot
// be written to has no writer either.
func (in *inspection) lock() error {
	lock, err := in.db.fs.Lock("LOCK", "chromad: the store is looked at")
	switch {
	case err == nil:
		in.db.lock = lock
	case errors.Is(err, ErrLocked):
		return fmt.Errorf("somebody has the store open: %w", err)
	default: // a read-only file system, a directory of somebody else's
		in.locked = err.Error()
	}
	return nil
}

func (in *inspection) close() error { return in.db.closeFiles() }

// load reads checkpoint and log as far as they make sense. Damage is kept for
// those who judge it; the error is what nobody can go on with, a missing key
// above all.
func (in *inspection) load() error {
	db := in.db
	if in.broken != nil {
		return nil
	}
	found, err := db.loadCheckpoint()
	switch {
	case errors.Is(err, ErrCorrupt):
		in.broken = err
		return nil
	case err != nil:
		return err
	case !found:
		in.broken = fmt.Errorf("%w: no checkpoint, so nothing tells what the files are", ErrCorrupt)
		return nil
	}
	in.found = true
	in.checkpointed = db.named()
	db.work.checkpoint.Store(db.checkpoint.number)
	in.log = in.replay()
	if in.log != nil && !errors.Is(in.log, ErrCorrupt) {
		return in.log
	}
	return nil
}

func (in *inspection) replay() (err error) {
	db := in.db
	db.log, err = wal.Open(db.fs, db.checkpoint.from, in.logOptions())
	if err != nil {
		return err
	}
	// After damage the records before it are applied all the same.
	damage := db.replay(db.replayCatalog)
	if damage != nil && !errors.Is(damage, ErrCorrupt) {
		return damage
	}
	if err := db.checkCollectionKeys(); err != nil {
		return err
	}
	return cmp.Or(damage, db.replay(db.replayRecords))
}

func (in *inspection) logOptions() wal.Options {
	db := in.db
	return wal.Options{
		Store: db.store, Keys: db.keys, ReadOnly: true, Epoch: db.checkpoint.from.Epoch, NewID: newFileID,
		Existing: in.found && db.checkpoint.number > 1,
		Last:     db.checkpoint.position.Seq,
	}
}

// byName returns the collections, sorted so that reports are the same each time.
func (db *DB) byName() []*Collection {
	all := db.all()
	slices.SortFunc(all, func(a, b *Collection) int {
		return cmp.Or(cmp.Compare(a.tenant, b.tenant), cmp.Compare(a.database, b.database), cmp.Compare(a.name, b.name), slices.Compare(a.id[:], b.id[:]))
	})
	return all
}

// checkup is one run of Check or Verify.
type checkup struct {
	*inspection
	ctx      context.Context
	report   Report
	progress func(done, total int64)
	total    int64
	seen     map[string]bool // findings, so that one damage is told once
}

func (k *checkup) finish() *Report {
	if k.report.Findings == nil {
		k.report.Findings = []Finding{} // JSON has a list, always
	}
	return &k.report
}

// step counts bytes that were read.
func (k *checkup) step(n int64) {
	k.report.Bytes += n
	if k.progress != nil {
		k.progress(min(k.report.Bytes, k.total), k.total)
	}
}

// tell adds a finding. file says where, unless the error knows better.
func (k *checkup) tell(s Severity, c *Collection, file, section string, err error) {
	f := Finding{Severity: s, File: file, Section: section, Text: err.Error()}
	if e, ok := errors.AsType[*disk.CorruptError](err); ok {
		f.Text, f.Offset = e.Err.Error(), e.Offset
		f.File = cmp.Or(e.File, file)
	}
	if c != nil {
		f.Collection, f.Name = c.id.String(), c.name
	}
	if key := fmt.Sprint(f.File, f.Offset, f.Section); f.Offset > 0 && s != Note {
		if k.seen[key] {
			return
		}
		k.seen[key] = true
	}
	k.report.Findings = append(k.report.Findings, f)
}

func (k *checkup) note(file, format string, args ...any) {
	k.tell(Note, nil, file, "", fmt.Errorf(format, args...))
}
