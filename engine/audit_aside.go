package engine

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
)

// Damaged files of the audit log are put aside as they are: they may prove
// something. One that is not encrypted must not stay so in an encrypted store,
// so there it is kept as a section of a file under the store's key, whose
// generation is in the name, as of closed files. Of one that is encrypted the
// key goes with the next change of keys; what could be read of it is elsewhere.
const (
	asideSuffix  = ".aside"
	asideSection = 3
)

// parseAsideName reads the last element of the name of a file that was put
// aside: its number, the name that it had, and the generation of the store's
// key, 0 for one that is as it was.
func parseAsideName(base string) (number uint64, name string, generation uint32) {
	digits, name, _ := strings.Cut(base, "-")
	number, _ = strconv.ParseUint(digits, 10, 32)
	if plain, ok := strings.CutSuffix(name, asideSuffix); ok && len(plain) > 9 && plain[len(plain)-9] == '-' {
		if g, err := strconv.ParseUint(plain[len(plain)-8:], 16, 32); err == nil {
			return number, plain[:len(plain)-9], uint32(g)
		}
	}
	return number, name, 0
}

// moveAside moves files of a directory to the damaged ones.
func (db *DB) moveAside(dir string, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	if err := db.fs.Mkdir(auditDamagedDir); err != nil {
		return err
	}
	if err := db.fs.SyncDir(auditDir); err != nil {
		return err
	}
	there, err := db.fs.List(auditDamagedDir)
	if err != nil {
		return err
	}
	next := uint64(0)
	for _, i := range there {
		number, _, _ := parseAsideName(i.Name)
		next = max(next, number+1)
	}
	for n, name := range names {
		to := fmt.Sprintf("%s/%06d-%s", auditDamagedDir, next+uint64(n), name)
		if err := db.fs.Rename(dir+"/"+name, to); err != nil {
			return err
		}
	}
	return errors.Join(db.fs.SyncDir(auditDamagedDir), db.fs.SyncDir(dir))
}

// resealAside puts what was put aside under the store's newest key, unless it
// is encrypted already and was so when it was put there.
func (a *auditLog) resealAside(ctx context.Context, newest uint32) error {
	db := a.db
	infos, err := db.fs.List(auditDamagedDir)
	if err != nil {
		if isNotExist(err) {
			err = nil
		}
		return err
	}
	for _, i := range infos {
		if !i.Regular || i.Size == 0 {
			continue
		}
		err := a.holding(ctx, func() error { return db.resealOneAside(i.Name, newest) })
		if errors.Is(err, ErrCorrupt) { // it stays, under a key that goes
			db.report("rotate keys", auditError(err), false)
		} else if err != nil {
			return err
		}
	}
	return db.fs.SyncDir(auditDamagedDir)
}

func (db *DB) resealOneAside(base string, newest uint32) error {
	number, was, generation := parseAsideName(base)
	name := path.Join(auditDamagedDir, base)
	h, err := disk.ReadHeader(db.fs, name)
	if generation == newest || generation == 0 && err == nil && h.KeyID != 0 {
		return nil
	}
	content := db.rawBytes
	if generation != 0 {
		if err != nil {
			return err
		}
		content = func(name string) ([]byte, error) {
			want := disk.Header{Kind: seal.KindAudit, Version: disk.Version, Store: db.store, File: h.File, Number: number}
			b, _, err := disk.ReadSection(db.fs, name, want, auditKeys{db}, asideSection, maxAuditFile)
			return b, err
		}
	}
	b, err := content(name)
	if err != nil {
		return err
	}
	to := fmt.Sprintf("%s/%06d-%s-%08x%s", auditDamagedDir, number, was, newest, asideSuffix)
	if err := db.fs.Remove(to); err != nil && !isNotExist(err) { // of an attempt that did not end
		return err
	}
	id := disk.Header{Kind: seal.KindAudit, Version: disk.Version, Store: db.store, File: newFileID(), Number: number}
	if _, err = disk.WriteFile(db.fs, to, id, db.keys, func(w *disk.Writer) error {
		if err := w.Section(asideSection, auditBlock); err != nil {
			return err
		}
		_, err := w.Write(b)
		return err
	}); err != nil {
		return err
	}
	return db.fs.Remove(name)
}

// rawBytes reads a file as it is.
func (db *DB) rawBytes(name string) ([]byte, error) {
	return disk.ReadWhole(db.fs, name, func(size int64) error {
		if size > maxAuditFile {
			return fmt.Errorf("%s has %d bytes: %w", name, size, ErrTooLarge)
		}
		return nil
	})
}
