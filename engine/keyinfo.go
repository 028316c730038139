package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
)

// KeyInfo describes the keys of an encrypted store. Nothing in it is secret.
type KeyInfo struct {
	URI        string // of the operator's key
	Keyset     []KeysetKey
	Store      []uint32 // generations of the store's own key, ascending
	Converting bool     // files without a key are accepted: the store is being encrypted
	// Collections have keys, by id. A damaged store may have collections that
	// have none.
	Collections []CollectionKeys
	// OldFiles and OldBytes are not under the newest keys: a change of keys is
	// under way, or was interrupted.
	OldFiles int
	OldBytes int64
}

// KeysetKey is a key of the keyset. The primary one wraps new data keys.
type KeysetKey struct {
	ID      uint32
	Primary bool
}

// CollectionKeys are the generations of a collection's key, ascending; the
// last is in use.
type CollectionKeys struct {
	Collection  ID
	Generations []uint32
}

// KeyInfo reads the headers of all files. ErrKey: the store is plain.
func (db *DB) KeyInfo(ctx context.Context) (KeyInfo, error) {
	if err := db.enter(ctx); err != nil {
		return KeyInfo{}, err
	}
	defer db.leave()
	if db.ring == nil {
		return KeyInfo{}, fmt.Errorf("keys: the store is not encrypted: %w", ErrKey)
	}
	set := db.ring.Keyset()
	info := KeyInfo{URI: set.URI, Converting: set.Converting}
	for _, id := range set.Keys {
		info.Keyset = append(info.Keyset, KeysetKey{id, id == set.Primary})
	}
	stale, err := db.ring.Stale(seal.ID{})
	if err != nil {
		return KeyInfo{}, err
	}
	for _, k := range stale {
		info.Store = append(info.Store, k.Generation)
	}
	newest := db.newestKeys()
	info.Store = append(info.Store, newest[seal.ID{}])
	for id, generations := range db.ring.Collections() {
		info.Collections = append(info.Collections, CollectionKeys{ID(id), generations})
	}
	files, err := db.keyFiles()
	if err != nil {
		return KeyInfo{}, err
	}
	for _, f := range files {
		if f.old(newest) {
			info.OldFiles++
			info.OldBytes += f.size
		}
	}
	return info, nil
}

// newestKeys returns the newest generation of each key, the store's under the
// zero id.
func (db *DB) newestKeys() map[seal.ID]uint32 {
	newest := map[seal.ID]uint32{}
	for id, generations := range db.ring.Collections() {
		newest[id] = generations[len(generations)-1]
	}
	if s, err := db.ring.Writer(seal.Address{Store: db.store}); err == nil {
		newest[seal.ID{}] = s.KeyID()
	}
	return newest
}

// keyFile is a file and the key that its header names, 0 for none.
type keyFile struct {
	kind       seal.Kind
	collection seal.ID
	key        uint32
	size       int64
}

// old tells that the file is not under the newest key. One of a collection
// that was deleted is under none that there is, unless it is plain.
func (f keyFile) old(newest map[seal.ID]uint32) bool {
	now := newest[f.collection]
	return f.key == 0 || now != 0 && f.key != now
}

// keyFiles reads the headers of all files. One that is damaged keeps no key.
func (db *DB) keyFiles() (out []keyFile, err error) {
	numbered := func(suffix string) func(string) bool {
		return func(base string) bool {
			_, ours := disk.Number(base, suffix)
			return ours
		}
	}
	closed := func(base string) bool {
		_, ours := parseAuditName(base)
		return ours
	}
	for _, dir := range []struct {
		name string
		ours func(base string) bool
	}{
		{segmentDir, numbered(segmentSuffix)}, {checkpointDir, numbered(checkpointSuffix)}, {"log", numbered(".wal")}, {auditDir, closed},
	} {
		infos, err := db.fs.List(dir.name)
		if err != nil && !isNotExist(err) {
			return nil, err
		}
		for _, i := range infos {
			if !dir.ours(i.Name) || !i.Regular {
				continue
			}
			h, err := disk.ReadHeader(db.fs, dir.name+"/"+i.Name)
			switch {
			case err == nil:
				out = append(out, keyFile{h.Kind, h.Collection, h.KeyID, i.Size})
			case isNotExist(err), errors.Is(err, ErrCorrupt), errors.Is(err, ErrFormat):
			default:
				return nil, err
			}
		}
	}
	return out, nil
}
