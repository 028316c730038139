package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/keys"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/wal"
)

// A repair reads what can be proven of a damaged store and makes a new store
// of it beside the old one, which stays as it is. Segments that are whole are
// copied; of the others the rows that can be read are written anew, with new
// indexes. What the log holds beyond the segments is written to the new store
// as users write, so it becomes what it was. Everything that is not in the new
// store is in the report.

// RepairOptions tune Repair.
type RepairOptions struct {
	// Progress is told now and then how many bytes of how many were read; nil: nobody is.
	Progress func(done, total int64)

	out vfs.FS // tests put a file system of their own in place
}

// RepairReport says what a repair has done.
type RepairReport struct {
	Store       string               `json:"store"`
	Basis       string               `json:"basis"` // where the list of collections comes from
	Collections []RepairedCollection `json:"collections"`
	Lost        []Loss               `json:"lost"`
	Chosen      []string             `json:"chosen"` // what was decided where there was a choice
	Check       *Report              `json:"check"`  // of the result
}

// RepairedCollection is a collection of the new store.
type RepairedCollection struct {
	ID        string `json:"id"`
	Tenant    string `json:"tenant"`
	Database  string `json:"database"`
	Name      string `json:"name"`
	Recovered bool   `json:"recovered"` // it is known from its files only: name, metadata and deletions are not
	Copied    int    `json:"copied"`    // segments that were whole
	Rebuilt   int    `json:"rebuilt"`   // segments that were written anew
	Records   int    `json:"records"`
}

// Loss is something that is not in the new store.
type Loss struct {
	Collection string   `json:"collection,omitempty"`
	Name       string   `json:"name,omitempty"`    // of the collection
	ID         string   `json:"id,omitempty"`      // of the record, where it can be read
	Segment    uint64   `json:"segment,omitempty"` // number in the file's name
	Row        int      `json:"row"`               // of the segment; -1: not about a row
	First      uint64   `json:"first,omitempty"`   // entries of the log, from First
	Last       uint64   `json:"last,omitempty"`    // to Last
	Parts      []string `json:"parts,omitempty"`   // of a record that is kept: what it is without
	Text       string   `json:"text"`
}

// Repair makes a new store in out, which must be empty or missing, of what can
// be read in dir. Nothing in dir is changed, and nobody may have it open. A
// store that is encrypted needs its keys, and so will the new one. The error
// says why there is no new store, or that it did not pass its check.
func Repair(ctx context.Context, dir, out string, opts *Options, ro RepairOptions) (*RepairReport, error) {
	in, err := look(dir, opts)
	if err != nil {
		return nil, fmt.Errorf("repair: %w", err)
	}
	defer in.close()
	r := &repair{inspection: in, ctx: ctx, o: ro, report: RepairReport{Collections: []RepairedCollection{}, Lost: []Loss{}, Chosen: []string{}}}
	err = r.run(out)
	if r.root != nil {
		err = errors.Join(err, r.root.Close())
	}
	if err != nil {
		return &r.report, fmt.Errorf("repair: %w", err)
	}
	r.report.Check, err = Check(ctx, out, r.outOptions(), CheckOptions{})
	if err == nil {
		err = r.report.Check.Err()
	}
	if err != nil {
		return &r.report, fmt.Errorf("repair: the new store in %s: %w", out, err)
	}
	return &r.report, nil
}

// repair is one run of Repair.
type repair struct {
	*inspection
	ctx    context.Context
	o      RepairOptions
	report RepairReport

	to      vfs.FS
	root    io.Closer // of to, if we opened it
	target  *DB       // while its first checkpoint is made
	number  uint64
	highest uint64 // number of a checkpoint
	sources []*source
	byID    map[ID]*source
	gaps    []gap // of the log, ascending
	gone    map[ID]bool
	wiped   bool   // the log says that everything was deleted, and what came after is known
	next    uint64 // sequence number after the last entry that could be read
	epoch   uint64
	// logDamage is what reading the log has met.
	logDamage []string

	done, total int64
}

// source is a collection of the damaged store.
type source struct {
	c         *Collection
	recovered bool
	edited    bool            // the log says which files it has
	created   uint64          // sequence number of its creation, 0: before the log
	versions  map[string]bool // ids that were seen, when nothing tells which rows are dead
	lost      map[string]bool // ids of rows that are lost
	partly    map[string]bool // ids of rows of which a part is
	nameless  int             // rows that are lost with their ids
	out       RepairedCollection
}

// gap is a run of entries that cannot be read: from first to before last.
type gap struct{ first, end uint64 }

func (r *repair) run(out string) error {
	if r.encrypted && r.db.ring == nil {
		return r.broken // without keys there is nothing to read
	}
	if err := r.make(out); err != nil {
		return err
	}
	if err := r.basis(); err != nil {
		return err
	}
	if err := r.readCatalog(); err != nil {
		return err
	}
	if err := r.measure(); err != nil {
		return err
	}
	if err := r.makeTarget(); err != nil {
		return err
	}
	for _, c := range r.db.byName() {
		s := r.source(c)
		if err := r.segments(s); err != nil {
			return err
		}
		r.sources = append(r.sources, s)
	}
	if err := r.finishTarget(); err != nil {
		return err
	}
	return r.writeLog(out)
}

// make opens the directory of the new store and puts the keys there.
func (r *repair) make(out string) error {
	if r.to = r.o.out; r.to == nil {
		root, err := vfs.Make(out)
		if err != nil {
			return err
		}
		r.to, r.root = root, root
	}
	infos, err := r.to.List(".")
	if err != nil {
		return err
	}
	for _, i := range infos {
		return fmt.Errorf("%s is not empty (%s): name a directory that is not there yet", out, i.Name)
	}
	for _, dir := range []string{disk.TmpDir, checkpointDir, "log", segmentDir} {
		if err := r.to.Mkdir(dir); err != nil {
			return err
		}
	}
	if r.db.ring != nil {
		if err := r.copyKeys(); err != nil {
			return err
		}
	}
	if err := r.copyAudit(); err != nil {
		return err
	}
	return r.to.SyncDir(".")
}

func (r *repair) copyKeys() error {
	if err := r.to.Mkdir(keys.Dir); err != nil {
		return err
	}
	infos, err := r.db.fs.List(keys.Dir)
	if err != nil {
		return err
	}
	for _, i := range infos {
		if !i.Regular {
			continue
		}
		name := keys.Dir + "/" + i.Name
		if err := r.wholeKey(name); contained(err) || errors.Is(err, ErrFormat) {
			r.lose(nil, Loss{Row: -1, Text: err.Error()}) // a damaged key opens nothing, there as here
			continue
		} else if err != nil {
			return err
		}
		if err := copyFile(r.ctx, r.db.fs, r.to, name); err != nil {
			return err
		}
	}
	return r.to.SyncDir(keys.Dir)
}

// wholeKey looks whether a file of keys is what was written.
func (r *repair) wholeKey(name string) error {
	h, err := disk.ReadHeader(r.db.fs, name)
	if err != nil {
		return err
	}
	f, err := disk.OpenFile(r.db.fs, name, h, disk.Info{}, seal.Plain())
	if err != nil {
		return err
	}
	return errors.Join(f.Verify(r.ctx), f.Close())
}

// copyFile copies a file under the name that it has.
func copyFile(ctx context.Context, from, to vfs.FS, name string) error {
	in, err := from.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	size, err := in.Size()
	if err != nil {
		return err
	}
	out, err := to.Create(name)
	if err != nil {
		return err
	}
	buf := make([]byte, min(size, 1<<20))
	for off := int64(0); off < size && err == nil; {
		n := min(size-off, int64(len(buf)))
		if _, err = in.ReadAt(buf[:n], off); err == nil {
			_, err = out.Write(buf[:n])
		}
		off += n
		err = errors.Join(err, ctx.Err())
	}
	if err == nil {
		err = out.Sync()
	}
	return errors.Join(err, out.Close())
}

// outOptions open the new store: whatever was written once is let in again.
func (r *repair) outOptions() *Options {
	o := r.db.opts
	o.ReadOnly, o.fs, o.reserve = false, r.o.out, 0
	o.MemoryLimit, o.TextCache, o.Events = 0, 0, nil
	o.mending = true
	o.Limits = Limits{
		Dimension: math.MaxInt32, IDBytes: math.MaxInt32, MetadataKeys: math.MaxInt32, MetadataBytes: math.MaxInt32,
		DocumentBytes: math.MaxInt32, BatchRecords: math.MaxInt32, BatchBytes: math.MaxInt32,
	}
	return &o
}

// makeTarget prepares the DB by which the files of the new store are made.
func (r *repair) makeTarget() error {
	t := &DB{
		opts: *r.outOptions(), fs: r.to, keys: r.db.keys, store: r.db.store, ring: r.db.ring,
		files: liveFiles{refs: map[uint64]int{}}, catMu: newWaitLock(), rotation: newWaitLock(),
	}
	t.catalog = &catalog{settings: r.db.catalog.settings, tenants: r.db.catalog.tenants, databases: map[dbKey]*database{}, collections: map[ID]*Collection{}}
	for _, d := range r.db.catalog.databases {
		t.catalog.addDatabase(d.Database)
	}
	r.target = t
	return nil
}

// finishTarget writes the first checkpoint of the new store, and a log that
// begins behind it. Its numbers go on, so that nobody takes it for an older copy.
func (r *repair) finishTarget() error {
	if err := r.to.SyncDir(segmentDir); err != nil {
		return err
	}
	at := wal.Position{Epoch: r.epoch + 1, Seq: 1}
	log, err := wal.Open(r.to, at, wal.Options{Store: r.target.store, Keys: r.target.keys, Epoch: at.Epoch, NewID: newFileID})
	if err != nil {
		return err
	}
	for _, e := range log.Replay() {
		if e != nil {
			return errors.Join(e, log.Close())
		}
	}
	if err := log.Close(); err != nil {
		return err
	}
	ck := checkpointState{number: r.highest + 1, position: wal.Position{Epoch: at.Epoch}, from: at}
	body, err := r.target.appendCheckpoint(nil, ck)
	if err != nil {
		return err
	}
	return r.target.putCheckpoint(&ck, body)
}

func (r *repair) measure() error {
	for _, c := range r.db.all() {
		for _, s := range c.manifest.segments {
			r.total += s.info.Length
			r.number = max(r.number, s.info.Number)
		}
	}
	numbers, err := numberedFiles(r.db.fs, segmentDir, segmentSuffix)
	for _, n := range numbers {
		r.number = max(r.number, n)
	}
	return err
}

func (r *repair) step(n int64) {
	r.done += n
	if r.o.Progress != nil {
		r.o.Progress(min(r.done, r.total), r.total)
	}
}

func (r *repair) lose(s *source, l Loss) {
	if s != nil {
		l.Collection, l.Name = s.c.id.String(), s.c.name
	}
	r.report.Lost = append(r.report.Lost, l)
}

func (r *repair) chose(format string, args ...any) {
	r.report.Chosen = append(r.report.Chosen, fmt.Sprintf(format, args...))
}
