package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/keys"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
)

// Search is what FindErased found.
type Search struct {
	Files       int    // of the store that were looked at
	Damaged     int    // files whose header cannot be read, of which nothing can be told
	OperatorKey string // URI, of the newest keyset that is there; empty: there is none
	Remnants    []Remnant
}

// Remnant is a file that a receipt says was removed, or one that is older than
// that.
type Remnant struct {
	Name string // in the directory
	What string // it is
	// Readable tells that who has the operator's key can read it with what is
	// in the directory.
	Readable bool
}

// FindErased looks in a directory, the store or an older copy of it, for what
// was erased according to s. It reads headers of files and names, needs no
// key, and writes nothing. What is in other files than those of a store, and
// in the free blocks of the disk, it does not see. ErrNotFound: there is no
// file of the store.
func FindErased(ctx context.Context, dir string, s *Statement) (*Search, error) {
	root, err := vfs.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("find what was erased: %w", err)
	}
	found, err := findErased(ctx, root, s)
	if err = errors.Join(err, root.Close()); err != nil {
		return nil, fmt.Errorf("find what was erased: %w", err)
	}
	return found, nil
}

func findErased(ctx context.Context, fs vfs.FS, s *Statement) (*Search, error) {
	f := &finder{ctx: ctx, fs: fs, s: s, found: &Search{}, keyed: map[string]bool{}}
	if err := f.walk("."); err != nil {
		return nil, err
	}
	if f.found.Files == 0 {
		return nil, fmt.Errorf("no file of store %s here: %w", s.Store, ErrNotFound)
	}
	if set, err := keys.Inspect(fs); err == nil && set.Store.String() == s.Store {
		f.found.OperatorKey = set.URI
	} else if err != nil && !errors.Is(err, ErrKey) && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
		return nil, err
	}
	for _, r := range f.of {
		r.Readable = f.found.OperatorKey != "" && (r.needs == "" || f.keyed[r.needs])
		f.found.Remnants = append(f.found.Remnants, r.Remnant)
	}
	return f.found, nil
}

type finder struct {
	ctx   context.Context
	fs    vfs.FS
	s     *Statement
	found *Search
	of    []remnant
	keyed map[string]bool // collections whose keys are there
}

type remnant struct {
	Remnant
	needs string // the key of this collection; empty: the store's
}

func (f *finder) walk(dir string) error {
	infos, err := f.fs.List(dir)
	if err != nil {
		return err
	}
	for _, i := range infos {
		if err := f.ctx.Err(); err != nil {
			return err
		}
		name := i.Name
		if dir != "." {
			name = dir + "/" + i.Name
		}
		switch {
		case i.Dir:
			err = f.walk(name)
		case i.Regular && i.Size >= disk.HeaderSize && dir != "." && name != auditReserve: // which is filler
			err = f.file(name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *finder) file(name string) error {
	h, err := disk.ReadHeader(f.fs, name)
	switch {
	case isNotExist(err):
		return nil // the store is in use
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrFormat):
		f.found.Damaged++
		return nil
	case err != nil:
		return err
	case h.Store.String() != f.s.Store:
		return nil
	}
	f.found.Files++
	collection := h.Collection.String()
	deleted := f.s.Kind != "records" && slices.ContainsFunc(f.s.Collections, func(c ErasedCollection) bool { return sameID(c.ID, h.Collection) })
	add := func(what, needs string) {
		f.of = append(f.of, remnant{Remnant{Name: name, What: what}, needs})
	}
	switch h.Kind {
	case seal.KindSegment:
		listed := slices.ContainsFunc(f.s.Files, func(e ErasedFile) bool { return e.File == h.File.String() })
		if deleted || listed {
			add("records of collection "+ID(h.Collection).String(), collection)
		}
	case seal.KindKey:
		f.keyed[collection] = true
		if deleted {
			add("key of collection "+ID(h.Collection).String(), "")
		}
	case seal.KindLog:
		if h.Number < f.s.LogFile {
			add("log from before", "")
		}
	case seal.KindCheckpoint:
		if h.Number < f.s.Checkpoint {
			add("checkpoint from before", "")
		}
	}
	return nil
}

func sameID(text string, id seal.ID) bool { return text == ID(id).String() }
