package engine

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/segment"
)

// receipts writes what can be said now that the files are gone for good: one
// receipt for each deletion in the catalog, and one for all records.
func (r *erasing) receipts(ctx context.Context) error {
	db := r.db
	if db.ring == nil {
		r.told = true
		return nil
	}
	if err := r.destroy(); err != nil {
		return err
	}
	n, err := db.lastReceipt()
	if err != nil {
		return err
	}
	var all []Statement
	for _, g := range r.gone {
		all = append(all, r.ofGone(g))
	}
	if len(r.records) > 0 {
		all = append(all, r.ofRecords())
	}
	for i := range all {
		if err := ctx.Err(); err != nil {
			return err
		}
		n++
		all[i].Number = n
		if err := db.writeReceipt(&all[i]); err != nil {
			return err
		}
	}
	r.told = true
	return nil
}

// destroy destroys the keys of collections that were deleted when that did not
// succeed at once.
func (r *erasing) destroy() error {
	for _, g := range r.gone {
		for _, c := range g.collections {
			if id := seal.ID(c.id); r.db.ring.Has(id) {
				gone, err := r.db.ring.Destroy(id)
				r.db.destroyed(gone)
				if err != nil {
					return r.db.keyError(err)
				}
			}
		}
	}
	return nil
}

// statement is what all statements of a run share.
func (r *erasing) statement(kind string) Statement {
	set := r.db.ring.Keyset()
	return Statement{
		Format: ReceiptFormat, Store: r.db.store.String(), Kind: kind,
		Collections: []ErasedCollection{}, Keys: []ErasedKey{}, Files: []ErasedFile{}, KeysetKeys: []uint32{},
		RemovedAt: showTime(now()), LogFrom: r.log.Begin.Seq, LogFile: r.log.Number, Checkpoint: r.checkpoint,
		OperatorKey: strings.ToValidUTF8(set.URI, "\uFFFD"), Keyset: set.Number,
	}
}

// ofGone describes collections that were deleted.
func (r *erasing) ofGone(g *gone) Statement {
	s := r.statement(map[goneKind]string{goneCollections: "collection", goneDatabase: "database", goneEverything: "reset"}[g.kind])
	if g.kind != goneEverything {
		s.Tenant, s.DatabaseName = g.tenant.String(), g.databaseName.String()
		s.Database = g.database.String()
	}
	s.DeletedFirst, s.DeletedLast = showTime(g.at), showTime(g.at)
	destroyed := int64(0)
	for _, c := range g.collections {
		destroyed = max(destroyed, c.destroyed)
		s.Collections = append(s.Collections, ErasedCollection{ID: c.id.String(), Name: c.name.String(), Rows: c.rows})
		for _, k := range c.keys {
			s.Keys = append(s.Keys, ErasedKey{Collection: ID(k.Collection).String(), Generation: k.Generation, File: k.File.String(), KeysetKey: k.Wrapped})
			if !slices.Contains(s.KeysetKeys, k.Wrapped) {
				s.KeysetKeys = append(s.KeysetKeys, k.Wrapped)
			}
		}
		for _, f := range c.files {
			s.Files = append(s.Files, erasedFile(f))
		}
	}
	s.DestroyedAt = showTime(destroyed)
	return s
}

// ofRecords describes records of collections that are still there.
func (r *erasing) ofRecords() Statement {
	s := r.statement("records")
	first := r.since
	if first == 0 {
		first = r.began
	}
	s.DeletedFirst, s.DeletedLast = showTime(first), showTime(max(first, r.began))
	for _, x := range r.records {
		x.c.db.mu.RLock()
		name := x.c.name
		x.c.db.mu.RUnlock()
		s.Collections = append(s.Collections, ErasedCollection{ID: x.c.id.String(), Name: r.db.hashName(name).String(), Rows: x.rows})
		for _, f := range x.files {
			s.Files = append(s.Files, erasedFile(f))
		}
	}
	return s
}

func erasedFile(f segment.Info) ErasedFile {
	return ErasedFile{Name: segment.Name(f.Number), File: f.File.String(), Length: f.Length, Root: fmt.Sprintf("%016x", f.Root)}
}

func (h nameHash) String() string { return hex.EncodeToString(h[:]) }

// writeReceipt signs and keeps a statement; it is durable when it returns.
func (db *DB) writeReceipt(s *Statement) error {
	msg, err := s.Bytes()
	if err != nil {
		return err
	}
	r := &Receipt{Statement: *s}
	if r.Signature, err = db.ring.Sign(msg); err != nil {
		return err
	}
	text, err := r.Bytes()
	if err != nil {
		return err
	}
	w, err := db.keys.Writer(seal.Address{Store: db.store, Kind: seal.KindReceipt})
	if err != nil {
		return err
	}
	return db.putReceipt(receiptName(s.Number, w.KeyID()), s.Number, text)
}
