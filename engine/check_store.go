package engine

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/keys"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/segment"
	"github.com/chromad/chromad/wal"
)

// store checks everything: checkpoint, log, segments, the directory.
func (k *checkup) store() error {
	db := k.db
	if k.locked != "" {
		k.note("LOCK", "the lock was not taken (%s): make sure that nobody has the store open", k.locked)
	}
	if err := k.measure(); err != nil {
		return err
	}
	if err := k.load(); err != nil {
		return err
	}
	k.report.Encrypted = k.encrypted
	if k.broken != nil {
		k.tell(Damage, nil, "", "", k.broken)
	} else {
		k.report.Store, k.report.Checkpoint = db.store.String(), db.checkpoint.number
	}
	if k.encrypted && db.ring == nil {
		return k.directory() // the files of the keys are not encrypted themselves
	}
	if err := k.checkpoints(); err != nil {
		return err
	}
	if err := k.logFiles(); err != nil {
		return err
	}
	if err := k.audit(); err != nil {
		return err
	}
	if k.found {
		for _, c := range db.byName() {
			if err := k.collection(c); err != nil {
				return err
			}
		}
	}
	return k.directory()
}

// listed are the entries of a directory of the store; a missing one has none.
func (k *checkup) listed(dir string) ([]vfs.Info, error) {
	infos, err := k.db.fs.List(dir)
	if isNotExist(err) {
		return nil, nil
	}
	return infos, err
}

// measure counts the files that will be read.
func (k *checkup) measure() error {
	for dir, suffix := range map[string]string{checkpointDir: checkpointSuffix, "log": ".wal", segmentDir: segmentSuffix, keys.Dir: "", auditDir: auditSuffix, auditLogDir: ".wal"} {
		infos, err := k.listed(dir)
		if err != nil {
			return err
		}
		for _, i := range infos {
			if i.Regular && strings.HasSuffix(i.Name, suffix) {
				k.report.Files++
				k.total += i.Size
			}
		}
	}
	return nil
}

// checkpoints reads the blocks of every checkpoint. Only the newest one counts.
func (k *checkup) checkpoints() error {
	numbers, err := numberedFiles(k.db.fs, checkpointDir, checkpointSuffix)
	if err != nil {
		return err
	}
	for i, n := range numbers {
		severity := Damage
		if i < len(numbers)-1 {
			severity = Note
			k.note(checkpointName(n), "an older checkpoint, which the next one removes")
		}
		if err := k.wholeFile(checkpointName(n), severity, k.db.keys); err != nil {
			return err
		}
	}
	return nil
}

// wholeFile reads every block of a file that nobody says anything about.
func (k *checkup) wholeFile(name string, severity Severity, keys seal.Keys) error {
	h, err := disk.ReadHeader(k.db.fs, name)
	var f *disk.File
	if err == nil {
		f, err = disk.OpenFile(k.db.fs, name, h, disk.Info{}, keys)
	}
	if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrFormat) {
		k.tell(severity, nil, name, "", err)
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Check(k.ctx, k.step, func(d disk.Damage) { k.tell(severity, nil, name, "", d.Err) })
}

// logFiles reads every frame that the checkpoint needs, and tells of the other
// files.
func (k *checkup) logFiles() error {
	o, from := k.logOptions(), k.db.checkpoint.from
	if !k.found {
		from = wal.Position{Seq: 1}
	}
	if k.log != nil {
		k.tell(Damage, nil, "log", "", k.log)
	}
	needed := map[string]bool{}
	var last wal.FileInfo
	for f, err := range wal.Files(k.db.fs, o) {
		if last.Name != "" && f.Begin.Seq > 0 {
			needed[last.Name] = f.Begin.Seq > from.Seq
		}
		needed[f.Name], last = true, f
		k.step(f.Size)
		if errors.Is(err, ErrKey) {
			return err
		}
		if err != nil {
			defer k.tell(k.ofLog(needed, f.Name), nil, f.Name, "", err)
		}
	}
	for name, is := range needed {
		if !is {
			k.note(name, "nothing in it is needed any more: the checkpoint covers it")
		}
	}
	for e, err := range wal.Salvage(k.db.fs, from, o) {
		if k.ctx.Err() != nil {
			return k.ctx.Err()
		}
		torn, isTorn := errors.AsType[*wal.TornTail](err)
		switch {
		case err == nil:
			if err := k.decodable(e.Payload); err != nil {
				k.tell(Damage, nil, "log", "", fmt.Errorf("entry %s: %w", e.Position, err))
			}
		case isTorn && k.log == nil:
			k.note(torn.File, "the last %d bytes, at %d, are no whole frame: what a power cut leaves of writes that nobody acknowledged, "+
				"or damage in the last ones (%v)", torn.Bytes, torn.Offset, torn.Err)
		case errors.Is(err, ErrCorrupt):
			c, ok := errors.AsType[*disk.CorruptError](err)
			severity := Damage
			if ok {
				severity = k.ofLog(needed, c.File)
			}
			k.tell(severity, nil, "log", "", err)
		default:
			return err
		}
	}
	return nil
}

// ofLog is what damage in a file of the log means.
func (k *checkup) ofLog(needed map[string]bool, name string) Severity {
	if is, known := needed[name]; known && !is {
		return Note
	}
	return Damage
}

// decodable tells whether an entry says something. One whose key is gone was
// of a collection that is, or concerns that collection.
func (k *checkup) decodable(payload []byte) (err error) {
	if len(payload) == 0 {
		return fmt.Errorf("%w: empty", ErrCorrupt)
	}
	switch o := op(payload[0]).plain(); o {
	case opWrite, opWriteUnder, opWriteOn, opDelete, opExpire, opEdit:
		payload, err = k.db.openEntry(nil, payload)
		if _, refused := errors.AsType[*refusedError](err); refused {
			return nil
		}
		switch {
		case err != nil:
		case o.isWrite():
			_, err = decodeWriteEntry(payload)
		case o == opDelete:
			_, err = decodeDeleteEntry(payload)
		case o == opExpire:
			_, err = decodeExpireEntry(payload)
		default:
			_, _, err = decodeEdit(payload)
		}
	default:
		_, err = decodeCatalogEntry(payload)
	}
	return err
}

// directory tells of files that nobody names, and reads those that only this
// program knows: segments of a store without a catalog, and keys.
func (k *checkup) directory() error {
	named := k.db.named()
	for _, dir := range []string{".", "log", segmentDir, checkpointDir, disk.TmpDir, keys.Dir, receiptDir, auditDir, auditLogDir} {
		infos, err := k.listed(dir)
		if err != nil {
			return err
		}
		for _, i := range infos {
			if err := k.entry(dir, i, named); err != nil {
				return err
			}
		}
	}
	return nil
}

// keptFor reports whether segment n was replaced after the newest checkpoint
// and is kept because its collection is encrypted, as tidy says.
func (k *checkup) keptFor(n uint64) bool {
	c := k.checkpointed[n]
	return c != nil && k.db.ring != nil && k.db.catalog.collections[c.id] != nil
}

// entry judges an entry of a directory.
func (k *checkup) entry(dir string, i vfs.Info, named map[uint64]*Collection) error {
	name := dir + "/" + i.Name
	number := func(suffix string) uint64 {
		n, ours := disk.Number(i.Name, suffix)
		if !ours || !i.Regular {
			return 0
		}
		return n
	}
	switch dir {
	case ".":
		known := []string{"LOCK", reserveNames[forCheckpoint], reserveNames[forEntries], "log", segmentDir, checkpointDir, disk.TmpDir, keys.Dir, receiptDir, auditDir}
		for _, n := range known {
			if i.Name == n {
				return nil
			}
		}
		name = i.Name
	case disk.TmpDir:
		k.note(name, "unfinished; the next start removes it")
		return nil
	case keys.Dir:
		if i.Regular {
			return k.wholeFile(name, Damage, seal.Plain())
		}
	case receiptDir:
		if f, ours := parseReceiptName(i.Name); ours && i.Regular {
			if k.db.ring == nil { // nothing of it can be told without the key
				return nil
			}
			return k.wholeFile(f.name(), Damage, k.db.keys)
		}
	case checkpointDir:
		if number(checkpointSuffix) > 0 {
			return nil
		}
	case auditDir:
		if first, ours := parseAuditName(i.Name); ours && i.Regular && first > 0 || name == auditLogDir || name == auditDamagedDir || name == auditReserve {
			return nil
		}
	case "log", auditLogDir:
		if cmp.Or(number(".wal"), number(".newest")) > 0 {
			return nil
		}
		if strings.HasSuffix(i.Name, ".tmp") {
			k.note(name, "unfinished; the next start removes it")
			return nil
		}
	case segmentDir:
		n := number(segmentSuffix)
		switch {
		case named[n] != nil:
			return nil
		case k.keptFor(n):
			k.note(name, "the newest checkpoint names it, and what came after has replaced it; the next checkpoint removes it")
			return k.loneSegment(n, Note)
		case n > 0 && k.found:
			k.note(name, "a segment of no collection, left over from work that did not end; the next start removes it")
			return k.loneSegment(n, Note)
		case n > 0 && (k.db.ring != nil || !k.encrypted):
			return k.loneSegment(n, Damage)
		case n > 0:
			return nil
		}
	}
	k.note(name, "not a file of a store; it is left alone")
	return nil
}

// loneSegment checks a segment that no catalog names. What damage in it means
// is at most what the caller says.
func (k *checkup) loneSegment(number uint64, most Severity) error {
	name := segment.Name(number)
	h, err := disk.ReadHeader(k.db.fs, name)
	var r *segment.Reader
	if err == nil {
		spec := segment.Spec{Store: h.Store, Collection: h.Collection, Number: number, File: h.File}
		r, err = segment.Open(k.db.fs, k.db.keys, spec, segment.Info{})
	}
	switch {
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrFormat), errors.Is(err, ErrKey) && most == Note:
		k.tell(most, nil, name, "", err)
		return nil
	case err != nil:
		return err
	}
	defer r.Close()
	if most != Note {
		k.report.Segments++
	}
	return r.Check(k.ctx, k.step, func(f segment.Finding) {
		severity := severityOf(f)
		if most == Note {
			severity = Note
		}
		k.tell(severity, nil, name, sectionOf(f), f.Err)
	})
}

func severityOf(f segment.Finding) Severity {
	if f.Index {
		return Repairable
	}
	return Damage
}

func sectionOf(f segment.Finding) string {
	if f.Section == 0 {
		return ""
	}
	return segment.SectionName(f.Section)
}
