package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/keys"
	"github.com/chromad/chromad/wal"
)

// AuditReport is what VerifyAudit has found.
type AuditReport struct {
	Encrypted bool           `json:"encrypted"` // else nothing is signed: who can write to the files can make another chain
	Files     int            `json:"files"`     // closed ones
	Records   uint64         `json:"records"`   // that could be read
	First     uint64         `json:"first"`     // of those, 0: none
	Last      uint64         `json:"last"`
	Hash      string         `json:"hash"` // of the last one: whoever keeps number and hash elsewhere can ask for them later
	Signed    uint64         `json:"signed"`
	SignedAt  time.Time      `json:"signed_at,omitzero"`
	Findings  []AuditFinding `json:"findings"`
}

// AuditFinding is something that is wrong with the audit log.
type AuditFinding struct {
	Seq  uint64 `json:"seq"` // of the record where it shows
	File string `json:"file,omitempty"`
	Text string `json:"text"`
}

// AuditExpect is what whoever verifies knows from elsewhere. All may be empty.
type AuditExpect struct {
	Public []byte // the store's public key (DB.PublicKey); nil: as the store says itself
	Seq    uint64 // a record that was there
	Hash   string // and its hash, hexadecimal
}

// VerifyAudit reads the whole audit log and tells what was altered, removed,
// put in another order or cut off, and up to where it is signed. The error says
// why nothing could be verified. A log that is added to meanwhile may be
// verified; what is added is not looked at.
func (db *DB) VerifyAudit(ctx context.Context, expect AuditExpect) (*AuditReport, error) {
	if err := db.enter(ctx); err != nil {
		return nil, err
	}
	defer db.leave()
	return db.verifyAudit(ctx, expect)
}

func (db *DB) verifyAudit(ctx context.Context, expect AuditExpect) (*AuditReport, error) {
	v := &auditVerifier{db: db, ctx: ctx, expect: expect, read: map[uint64]bool{}, report: &AuditReport{Encrypted: db.ring != nil, Findings: []AuditFinding{}}}
	if v.public = expect.Public; v.public == nil && db.ring != nil {
		var err error
		if v.public, err = db.ring.Public(); err != nil {
			return nil, err
		}
	}
	if err := v.run(); err != nil {
		return nil, auditError(err)
	}
	return v.report, nil
}

type auditVerifier struct {
	db     *DB
	ctx    context.Context
	expect AuditExpect
	public []byte
	report *AuditReport

	read    map[uint64]bool // closed files, by their first records
	last    uint64
	hash    auditHash
	broken  bool // the record before could not be read, so its hash is not known
	first   *auditRecord
	leaps   []AuditFinding // records that are missing before these
	removed AuditRemoval
	met     bool // the record that is expected
}

func (v *auditVerifier) tell(seq uint64, file, format string, args ...any) {
	v.report.Findings = append(v.report.Findings, AuditFinding{Seq: seq, File: file, Text: fmt.Sprintf(format, args...)})
}

func (v *auditVerifier) run() error {
	files, err := v.closedFiles()
	if err != nil {
		return err
	}
	if !v.db.opts.ReadOnly { // so that no file is closed while the rest is read, which is short
		if err := v.db.audit.work.lock(v.ctx); err != nil {
			return err
		}
		defer v.db.audit.work.Unlock()
		if files, err = v.closedFiles(); err != nil {
			return err
		}
	}
	v.report.Files = len(files)
	if err := v.open(files); err != nil {
		return err
	}
	v.beginning()
	v.end()
	if infos, err := v.db.fs.List(auditDamagedDir); err == nil && len(infos) > 0 {
		v.tell(0, auditDamagedDir, "%d files were damaged and put aside; what is missing for it, or a record of a gap, is told above", len(infos))
	}
	return nil
}

// closedFiles reads those that were not read yet. One that is removed
// meanwhile, or put under another key, has them listed again.
func (v *auditVerifier) closedFiles() (files []auditFile, err error) {
	for range auditTries {
		if files, err = v.db.auditFiles(); err != nil {
			return nil, err
		}
		for _, f := range files {
			if !v.read[f.first] && err == nil {
				err = v.closed(f)
				v.read[f.first] = err == nil
			}
		}
		if !isNotExist(err) {
			break
		}
	}
	return files, err
}

// closed reads a closed file.
func (v *auditVerifier) closed(f auditFile) error {
	err := f.bad
	if err == nil {
		err = v.db.readAudit(f, func(about auditSummary, records *disk.Section) error {
			b, err := records.Bytes(0, records.Len())
			if err != nil {
				return err
			}
			if err := v.records(f.name, b); err != nil {
				return err
			}
			if !v.broken && (v.last != about.last || v.hash != about.hash) {
				v.tell(v.last, f.name, "the file says that it ends with record %d, it ends with another", about.last)
			}
			return nil
		})
	}
	if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrFormat) || errors.Is(err, ErrKey) {
		v.tell(f.first, f.name, "records from %d on cannot be read: %v", f.first, err)
		v.broken = true
		if f.bad == nil {
			v.last = f.about.last
		} else {
			v.last = max(v.last, f.first)
		}
		return nil
	}
	return err
}

// open reads what is in no closed file.
func (v *auditVerifier) open(files []auditFile) error {
	name := auditLogDir
	damaged := func(err error) {
		if c, ok := errors.AsType[*disk.CorruptError](err); ok {
			name = auditDir + "/" + strings.TrimPrefix(c.File, auditDir+"/")
		}
		v.tell(v.last+1, name, "records behind %d cannot be read: %v", v.last, err)
		v.broken = true
	}
	there := false
	for _, err := range wal.Files(auditFS{v.db.fs}, v.db.auditWAL()) {
		if errors.Is(err, ErrKey) {
			return err
		}
		there = true
	}
	if !there && (len(files) > 0 || v.db.auditAnchor().Seq > 0) {
		damaged(&disk.CorruptError{File: "log", Err: errors.New("there is no file, but there was a log")})
	}
	closed := v.last
	for e, err := range wal.Salvage(auditFS{v.db.fs}, wal.Position{Seq: auditLogFrom(files)}, v.db.auditWAL()) {
		if _, torn := errors.AsType[*wal.TornTail](err); torn {
			continue
		}
		if err == nil {
			err = v.behind(name, e.Payload, closed)
		}
		if errors.Is(err, ErrCorrupt) {
			damaged(err)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// behind passes over what a closed file holds too: the process ended before it
// could be released.
func (v *auditVerifier) behind(name string, payload []byte, closed uint64) error {
	r, _, _, err := cutAuditRecord(payload)
	if err != nil || r.seq <= closed {
		return err
	}
	return v.records(name, payload)
}

func (v *auditVerifier) records(file string, b []byte) error {
	for len(b) > 0 {
		if v.ctx.Err() != nil {
			return context.Cause(v.ctx)
		}
		r, stored, rest, err := cutAuditRecord(b)
		if err != nil {
			return err
		}
		v.record(file, &r, hashAudit(v.db.store, stored))
		b = rest
	}
	return nil
}

// record compares a record with the one before.
func (v *auditVerifier) record(file string, r *auditRecord, hash auditHash) {
	switch {
	case v.first == nil && v.last == 0:
		keep := *r
		keep.body = nil
		v.first = &keep
	case r.seq <= v.last:
		v.tell(r.seq, file, "record %d comes behind record %d", r.seq, v.last)
	case r.seq > v.last+1 && r.kind != AuditGap && !v.broken:
		v.leaps = append(v.leaps, AuditFinding{r.seq, file, fmt.Sprintf("records %d to %d are missing", v.last+1, r.seq-1)})
	case r.prev != v.hash && !v.broken:
		v.tell(r.seq, file, "record %d or the one before it was altered: it names another as the one before", r.seq)
	}
	v.broken = false
	v.report.Records++
	v.last, v.hash = r.seq, hash
	v.body(file, r)
	if r.seq == v.expect.Seq {
		if v.met = true; !strings.EqualFold(hash.String(), v.expect.Hash) {
			v.tell(r.seq, file, "record %d has the hash %s, expected was %s: it, or one before it, is another", r.seq, hash, v.expect.Hash)
		}
	}
	if anchor := v.db.auditAnchor(); r.seq == anchor.Seq && hash.String() != anchor.Hash {
		v.tell(r.seq, file, "record %d is not the one that the store knows: it, or one before it, is another", r.seq)
	}
}

// body looks at what the engine's own records say.
func (v *auditVerifier) body(file string, r *auditRecord) {
	switch r.kind {
	case AuditSigned:
		if v.public == nil {
			v.tell(r.seq, file, "a signature, which a store that is not encrypted does not make")
			return
		}
		if err := keys.Verify(v.public, auditMessage(v.db.store, r.seq-1, r.prev), r.body); err != nil {
			v.tell(r.seq, file, "the signature of record %d is not that of this store's key: %v", r.seq-1, err)
			return
		}
		v.report.Signed, v.report.SignedAt = r.seq-1, time.Unix(r.time, 0).UTC()
	case AuditRemoved:
		if err := decodeAuditNote(r.body, &v.removed); err != nil {
			v.tell(r.seq, file, "%v", err)
		}
	case AuditGap:
		var loss AuditLoss
		if err := decodeAuditNote(r.body, &loss); err != nil {
			v.tell(r.seq, file, "%v", err)
			return
		}
		v.tell(r.seq, file, "the log was damaged when it was opened on %s, and goes on here; the record before is %d, and it is known that there were %d: %s",
			time.Unix(r.time, 0).UTC().Format(time.DateTime), loss.After, loss.Known, loss.Reason)
	}
}

// beginning compares the first record with what the log says it has removed.
func (v *auditVerifier) beginning() {
	for _, l := range v.leaps { // files are removed one by one, and a crash may bring some back
		if l.Seq-1 > v.removed.Through {
			v.report.Findings = append(v.report.Findings, l)
		}
	}
	if v.first == nil || v.first.seq == 1 && v.first.prev == (auditHash{}) || v.first.kind == AuditGap {
		return
	}
	switch before := v.first.seq - 1; {
	case v.removed.Through < before:
		v.tell(v.first.seq, "", "the log begins with record %d, and says that it has removed those up to %d: the others are missing", v.first.seq, v.removed.Through)
	case v.removed.Through == before && v.removed.Hash != v.first.prev.String():
		v.tell(v.first.seq, "", "record %d does not follow the one that was removed before it", v.first.seq)
	}
}

// end compares the last record with what is known to have been.
func (v *auditVerifier) end() {
	if v.first != nil {
		v.report.First = v.first.seq
		v.report.Last, v.report.Hash = v.last, v.hash.String()
	}
	if anchor := v.db.auditAnchor(); anchor.Seq > v.last {
		v.tell(v.last, "", "records %d to %d are missing from the end: the store knows of them", v.last+1, anchor.Seq)
	}
	if v.expect.Public != nil && v.report.Signed == 0 {
		v.tell(v.last, "", "nothing is signed with the public key that was given, so it proves nothing")
	}
	switch {
	case v.expect.Seq == 0 || v.met:
	case v.expect.Seq > v.last:
		v.tell(v.last, "", "record %d is missing from the end", v.expect.Seq)
	case v.report.First > v.expect.Seq:
		v.tell(v.report.First, "", "record %d was removed, nothing can be told of it", v.expect.Seq)
	}
}
