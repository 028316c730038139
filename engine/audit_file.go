package engine

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
)

// The directory of the audit log:
//
//	audit/log/*                      what was added since the newest closed file, a log of package wal
//	audit/<first>-<generation>.audit closed files, under the store's key of a generation
//	audit/damaged/*                  files that could not be read, put aside
const (
	auditDir        = "audit"
	auditLogDir     = auditDir + "/log"
	auditDamagedDir = auditDir + "/damaged"
	auditSuffix     = ".audit"

	auditAbout   = 1 // section: the summary
	auditRecords = 2 // section: the records, one behind the other
	auditBlock   = 16 << 10
	maxAuditFile = 1 << 30
)

// auditFS is the directory audit as a file system of its own, in which package
// wal finds its directory log.
type auditFS struct{ vfs.FS }

func (auditFS) in(name string) string {
	if name == "." {
		return auditDir
	}
	return auditDir + "/" + name
}

func (f auditFS) Create(name string) (vfs.File, error)    { return f.FS.Create(f.in(name)) }
func (f auditFS) Open(name string) (vfs.File, error)      { return f.FS.Open(f.in(name)) }
func (f auditFS) OpenWrite(name string) (vfs.File, error) { return f.FS.OpenWrite(f.in(name)) }
func (f auditFS) Rename(a, b string) error                { return f.FS.Rename(f.in(a), f.in(b)) }
func (f auditFS) Remove(name string) error                { return f.FS.Remove(f.in(name)) }
func (f auditFS) List(dir string) ([]vfs.Info, error)     { return f.FS.List(f.in(dir)) }
func (f auditFS) Stat(name string) (vfs.Info, error)      { return f.FS.Stat(f.in(name)) }
func (f auditFS) Mkdir(dir string) error                  { return f.FS.Mkdir(f.in(dir)) }
func (f auditFS) SyncDir(dir string) error                { return f.FS.SyncDir(f.in(dir)) }
func (f auditFS) Map(name string, n int64) (vfs.Mapping, error) {
	return f.FS.Map(f.in(name), n)
}

// auditError names files of audit/log as they are below the store's directory.
func auditError(err error) error {
	if c, ok := errors.AsType[*disk.CorruptError](err); ok && !strings.HasPrefix(c.File, auditDir+"/") {
		c.File = auditDir + "/" + c.File
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("audit log: %w", err)
}

// auditFile is a closed file.
type auditFile struct {
	name  string
	first uint64
	size  int64
	about auditSummary
	bad   error // why its summary cannot be read
}

func auditName(first uint64, generation uint32) string {
	return fmt.Sprintf("%s/%016x-%08x%s", auditDir, first, generation, auditSuffix)
}

// parseAuditName reads the last element of an auditName.
func parseAuditName(base string) (first uint64, ours bool) {
	name, ok := strings.CutSuffix(base, auditSuffix)
	if !ok || len(name) != 16+1+8 || name[16] != '-' || strings.ToLower(name) != name {
		return 0, false
	}
	first, err := strconv.ParseUint(name[:16], 16, 64)
	_, err2 := strconv.ParseUint(name[17:], 16, 32)
	return first, err == nil && err2 == nil && first > 0
}

// auditFiles lists the closed files, ascending, with their summaries. Of one
// under two keys, which a change of keys has not finished, the newer counts.
func (db *DB) auditFiles() (out []auditFile, err error) {
	for range auditTries {
		out, err = db.listAudit()
		if !isNotExist(err) {
			break
		}
	}
	return out, err
}

// auditTries is how often files are listed that are removed, or put under
// another key, while they are looked at.
const auditTries = 100

func (db *DB) listAudit() (out []auditFile, err error) {
	infos, err := db.fs.List(auditDir)
	if err != nil {
		if isNotExist(err) {
			err = nil
		}
		return nil, err
	}
	for _, i := range infos { // by name
		first, ours := parseAuditName(i.Name)
		if !ours || !i.Regular {
			continue
		}
		f := auditFile{name: auditDir + "/" + i.Name, first: first, size: i.Size}
		err := db.readAudit(f, func(about auditSummary, _ *disk.Section) error {
			f.about = about
			return nil
		})
		switch {
		case err == nil:
		case errors.Is(err, ErrCorrupt), errors.Is(err, ErrFormat), errors.Is(err, ErrKey):
			f.bad = err
		default:
			return nil, err
		}
		if n := len(out); n > 0 && out[n-1].first == first {
			out = out[:n-1]
		}
		out = append(out, f)
	}
	return out, nil
}

// removeAudit removes a closed file, under whatever keys it is there.
func (db *DB) removeAudit(first uint64) error {
	infos, err := db.fs.List(auditDir)
	if err != nil {
		return err
	}
	for _, i := range infos {
		if n, ours := parseAuditName(i.Name); !ours || n != first {
			continue
		}
		if err := db.fs.Remove(auditDir + "/" + i.Name); err != nil && !isNotExist(err) {
			return err
		}
	}
	return nil
}

// readAudit opens a closed file. What do is given is valid until it returns.
func (db *DB) readAudit(file auditFile, do func(about auditSummary, records *disk.Section) error) error {
	h, err := disk.ReadHeader(db.fs, file.name)
	if err != nil {
		return err
	}
	want := disk.Header{Kind: seal.KindAudit, Version: disk.Version, Store: db.store, File: h.File, Number: file.first}
	f, err := disk.OpenFile(db.fs, file.name, want, disk.Info{}, auditKeys{db})
	if err != nil {
		if _, gone := db.fs.Stat(file.name); isNotExist(gone) { // and its key with it
			return gone
		}
		return err
	}
	err = f.Faults(func() error {
		about, ok := f.Section(auditAbout)
		records, ok2 := f.Section(auditRecords)
		if !ok || !ok2 || about.Len() != auditSummarySize || records.Len() > maxAuditFile {
			return &disk.CorruptError{File: file.name, Err: errors.New("sections are not those of the audit log")}
		}
		b, err := about.Bytes(0, auditSummarySize)
		if err != nil {
			return err
		}
		s, err := decodeAuditSummary(b)
		if err == nil && s.first != file.first {
			err = fmt.Errorf("%w: begins with record %d", ErrCorrupt, s.first)
		}
		if err != nil {
			return &disk.CorruptError{File: file.name, Err: err}
		}
		return do(s, records)
	})
	return errors.Join(err, f.Close())
}

// putAudit writes a closed file, durable when it returns.
func (db *DB) putAudit(about auditSummary, records func(write func([]byte) error) error) (auditFile, error) {
	at := seal.Address{Store: db.store, Kind: seal.KindAudit}
	w, err := db.keys.Writer(at)
	if err != nil {
		return auditFile{}, err
	}
	f := auditFile{name: auditName(about.first, w.KeyID()), first: about.first, about: about}
	if _, err := db.fs.Stat(f.name); err == nil { // of an attempt that did not end: what is in it is elsewhere too
		if err := db.fs.Remove(f.name); err != nil {
			return auditFile{}, err
		}
	}
	h := disk.Header{Kind: seal.KindAudit, Version: disk.Version, Store: db.store, File: newFileID(), Number: about.first}
	info, err := disk.WriteFile(db.fs, f.name, h, db.keys, func(w *disk.Writer) error {
		if err := w.Section(auditAbout, auditBlock); err != nil {
			return err
		}
		if _, err := w.Write(about.append(nil)); err != nil {
			return err
		}
		if err := w.Section(auditRecords, auditBlock); err != nil {
			return err
		}
		return records(func(b []byte) error {
			_, err := w.Write(b)
			return err
		})
	})
	f.size = info.Length
	return f, err
}
