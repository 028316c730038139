package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strconv"
	"strings"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
)

// Receipts are files like all others, under the store's key: one section with
// the text of the receipt. The generation of that key is in the name, so that
// a receipt is put under a newer key without ever being gone. They stay for as
// long as the store lives.

const (
	receiptDir     = "receipts"
	receiptSuffix  = ".receipt"
	receiptSection = 1
	receiptBlock   = 4096
	// maxReceipt bounds what is read of one: a reset of a million collections.
	maxReceipt = 1 << 30
)

func receiptName(number uint64, generation uint32) string {
	return fmt.Sprintf("%s/%016x-%08x%s", receiptDir, number, generation, receiptSuffix)
}

// receiptFile is what the name of a receipt says.
type receiptFile struct {
	number     uint64
	generation uint32
	size       int64
}

func (f receiptFile) name() string { return receiptName(f.number, f.generation) }

// parseReceiptName reads the last element of a receiptName. Other names are
// not ours.
func parseReceiptName(base string) (f receiptFile, ours bool) {
	name, ok := strings.CutSuffix(base, receiptSuffix)
	if !ok || len(name) != 16+1+8 || name[16] != '-' || strings.ToLower(name) != name {
		return f, false
	}
	number, err1 := strconv.ParseUint(name[:16], 16, 64)
	generation, err2 := strconv.ParseUint(name[17:], 16, 32)
	return receiptFile{number: number, generation: uint32(generation)}, err1 == nil && err2 == nil && number > 0
}

// receiptFiles lists the files of receipts, ascending; of one under two keys
// both are there.
func receiptFiles(db *DB) ([]receiptFile, error) {
	infos, err := db.fs.List(receiptDir)
	if err != nil {
		if isNotExist(err) {
			return nil, nil
		}
		return nil, err
	}
	var out []receiptFile
	for _, i := range infos { // by name
		if f, ours := parseReceiptName(i.Name); ours && i.Regular {
			f.size = i.Size
			out = append(out, f)
		}
	}
	return out, nil
}

func (db *DB) lastReceipt() (uint64, error) {
	files, err := receiptFiles(db)
	if err != nil || len(files) == 0 {
		return 0, err
	}
	return files[len(files)-1].number, nil
}

// putReceipt writes a file, durable when it returns.
func (db *DB) putReceipt(name string, number uint64, text []byte) error {
	h := disk.Header{Kind: seal.KindReceipt, Version: disk.Version, Store: db.store, File: newFileID(), Number: number}
	if err := db.fs.Mkdir(receiptDir); err != nil {
		return err
	}
	// Nobody else syncs the root, and a directory that a crash takes away
	// takes what is in it.
	if err := db.fs.SyncDir("."); err != nil {
		return db.fail(err)
	}
	_, err := disk.WriteFile(db.fs, name, h, db.keys, func(w *disk.Writer) error {
		if err := w.Section(receiptSection, receiptBlock); err != nil {
			return err
		}
		_, err := w.Write(text)
		return err
	})
	return db.diskError(db.written(name, err))
}

// readReceipt reads the text of a receipt.
func (db *DB) readReceipt(file receiptFile) ([]byte, error) {
	h, err := disk.ReadHeader(db.fs, file.name())
	if err != nil {
		return nil, err
	}
	want := disk.Header{Kind: seal.KindReceipt, Version: disk.Version, Store: db.store, File: h.File, Number: file.number}
	text, _, err := disk.ReadSection(db.fs, file.name(), want, db.keys, receiptSection, maxReceipt)
	return text, err
}

// Receipts yields the receipts of the store, oldest first. An error is about
// one of them (ErrCorrupt, ErrKey), and the iteration goes on behind it, or
// the first and last thing that is yielded: ErrKey, a plain store has none.
func (db *DB) Receipts(ctx context.Context) iter.Seq2[*Receipt, error] {
	return func(yield func(*Receipt, error) bool) {
		if err := db.enter(ctx); err != nil {
			yield(nil, err)
			return
		}
		defer db.leave()
		if db.ring == nil {
			yield(nil, errPlainReceipts)
			return
		}
		files, err := receiptFiles(db)
		if err != nil {
			yield(nil, err)
			return
		}
		for i, f := range files {
			if i+1 < len(files) && files[i+1].number == f.number {
				continue // it is under a newer key too
			}
			text, err := db.readReceipt(f)
			if errors.Is(err, fs.ErrNotExist) { // it was put under a newer key meanwhile
				f.generation = db.newestKeys()[seal.ID{}]
				text, err = db.readReceipt(f)
			}
			var r *Receipt
			if err == nil {
				r, err = ParseReceipt(text)
			}
			if err != nil {
				err = fmt.Errorf("%s: %w", f.name(), err)
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// resealReceipts puts receipts under the store's newest key.
func (db *DB) resealReceipts(ctx context.Context) error {
	if err := db.erasure.run.lock(ctx); err != nil { // who holds it writes receipts
		return err
	}
	defer db.erasure.run.Unlock()
	files, err := receiptFiles(db)
	if err != nil {
		return err
	}
	newest := db.newestKeys()[seal.ID{}]
	removed := false
	for i, f := range files {
		if f.generation == newest {
			continue
		}
		if i+1 == len(files) || files[i+1].number != f.number {
			text, err := db.readReceipt(f)
			if err == nil {
				err = db.putReceipt(receiptName(f.number, newest), f.number, text)
			}
			if err != nil && !contained(err) {
				return err
			}
			if err != nil { // a damaged one stays as it is, under a key that goes
				db.report("rotate keys", fmt.Errorf("receipt %d: %w", f.number, err), false)
				continue
			}
		}
		if err := db.fs.Remove(f.name()); err != nil && !isNotExist(err) {
			return err
		}
		removed = true
	}
	if !removed {
		return nil
	}
	if err := db.fs.SyncDir(receiptDir); err != nil {
		return db.fail(err)
	}
	return nil
}
