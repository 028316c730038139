package segment

import (
	"context"
	"errors"
	iofs "io/fs"
	"iter"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
)

// Loss says what of a row cannot be read. A row without vector, id or
// metadata is no row any more; one without the others is kept.
type Loss uint8

// The parts of a row.
const (
	LostVector Loss = 1 << iota
	LostID
	LostMetadata
	LostOrder // its place among the records
	LostDocument
	LostURI

	lostRow = LostVector | LostID | LostMetadata
)

// Row tells whether the row as a whole is lost.
func (l Loss) Row() bool { return l&lostRow != 0 }

// lossNames are the words for the parts.
var lossNames = []struct {
	part Loss
	name string
}{
	{LostVector, "vector"}, {LostID, "id"}, {LostMetadata, "metadata"},
	{LostOrder, "order"}, {LostDocument, "document"}, {LostURI, "uri"},
}

// Parts names what is lost.
func (l Loss) Parts() (names []string) {
	for _, n := range lossNames {
		if l&n.part != 0 {
			names = append(names, n.name)
		}
	}
	return names
}

// Salvaged is a row as far as it can be read.
type Salvaged struct {
	Row    // fields that are lost are empty
	Number uint32
	Lost   Loss
}

// File is length and root of the file as it was opened.
func (r *Reader) File() disk.Info { return r.file.Info() }

// Parts are the sections of the file, for those who show them.
func (r *Reader) Parts() []disk.Part { return r.file.Parts() }

// Salvage yields every row of a damaged segment in the order of the file, with
// what of it is lost. Nothing is yielded that a checksum does not prove. The
// error is the context's, or that of the disk; it comes last.
func (r *Reader) Salvage(ctx context.Context) iter.Seq2[Salvaged, error] {
	return func(yield func(Salvaged, error) bool) {
		for row := range r.rows {
			if row%checkEvery == 0 && ctx.Err() != nil {
				yield(Salvaged{}, ctx.Err())
				return
			}
			s := Salvaged{Number: row}
			err := r.guard(func() error { return r.salvage(row, &s) })
			if !yield(s, err) || err != nil {
				return
			}
		}
	}
}

func (r *Reader) salvage(row uint32, s *Salvaged) error {
	var failed error
	try := func(part Loss, err error) {
		switch {
		case err == nil:
		case errors.Is(err, disk.ErrCorrupt):
			s.Lost |= part
		default:
			failed = errors.Join(failed, err)
		}
	}
	id, err := r.ids.at(row)
	s.ID = string(id)
	try(LostID, err)
	v, err := r.vector(row)
	s.Vector = append([]float32(nil), v...)
	try(LostVector, err)
	s.Metadata, err = r.decodeMetadata(row)
	try(LostMetadata, err)
	s.Order, err = r.order(row)
	try(LostOrder, err)
	s.Document, err = r.documents.pointer(row)
	try(LostDocument, err)
	s.URI, err = r.uris.pointer(row)
	try(LostURI, err)
	return failed
}

// OpenDamaged opens a segment as far as that is possible: with a header, table
// or properties that are damaged too. want may be without Length, and spec
// without Dim, when nothing is known but the name; then the file must say it.
// damage is what stood in the way of Open; r is nil when nothing can be read.
func OpenDamaged(fs vfs.FS, keys seal.Keys, spec Spec, want Info) (r *Reader, damage, err error) {
	r, err = Open(fs, keys, spec, want)
	if err == nil || !errors.Is(err, disk.ErrCorrupt) {
		return r, nil, err
	}
	damage = err
	h := spec.header()
	mended, _, info, err := disk.Mend(fs, Name(spec.Number), &h, want.Info)
	if errors.Is(err, disk.ErrCorrupt) || errors.Is(err, iofs.ErrNotExist) {
		return nil, damage, nil
	}
	if err != nil {
		return nil, damage, err
	}
	want.Info = info
	if r, err = openKnown(mended, keys, spec, want); errors.Is(err, disk.ErrCorrupt) {
		return nil, damage, nil
	}
	return r, damage, err
}

// OpenMended is OpenDamaged for a file with damaged blocks: it looks for the bit
// of each that was flipped, and n says for how many it was found. What is read
// then is proven by the checksums, as ever. It holds the file in memory, and
// takes seconds for a block.
func OpenMended(ctx context.Context, fs vfs.FS, keys seal.Keys, spec Spec, want Info) (r *Reader, n int, err error) {
	h := spec.header()
	mended, _, info, err := disk.Mend(fs, Name(spec.Number), &h, want.Info)
	if err != nil {
		return nil, 0, err
	}
	f, err := disk.OpenFile(mended, Name(spec.Number), h, info, keys)
	if err != nil {
		return nil, 0, err
	}
	n, err = f.MendBlocks(ctx)
	if err = joinClose(err, f); err != nil {
		return nil, n, err
	}
	want.Info = info
	r, err = openKnown(mended, keys, spec, want)
	return r, n, err
}

// openKnown is Open with the properties taken from spec and want where the
// file's own are damaged.
func openKnown(fs vfs.FS, keys seal.Keys, spec Spec, want Info) (*Reader, error) {
	r, err := Open(fs, keys, spec, want)
	if err == nil || !errors.Is(err, disk.ErrCorrupt) || want.Rows == 0 || spec.Dim == 0 {
		return r, err
	}
	file, e := disk.OpenFile(fs, Name(spec.Number), spec.header(), want.Info, keys)
	if e != nil {
		return nil, e
	}
	file.Share(spec.Memory, evictable...)
	p := properties{
		dim: spec.Dim, metric: spec.Metric, rows: want.Rows, minOrder: want.MinOrder, maxOrder: want.MaxOrder,
	}
	r = &Reader{name: Name(spec.Number), number: spec.Number, file: file, seed: hashSeed(spec.File), properties: p, stride: stride(p.dim)}
	// The lengths of the texts follow from where the last one ends.
	for _, t := range []struct {
		ends uint16
		size *uint64
	}{{sectionDocumentEnds, &r.properties.documents}, {sectionURIEnds, &r.properties.uris}} {
		if s, ok := file.Section(t.ends); ok && s.Len() == int(p.rows)*8 {
			if size, e := textEnd(s, p.rows); e == nil {
				*t.size = size
			}
		}
	}
	r.documents.file = spec.File
	if e := r.sections(); e != nil {
		return nil, errors.Join(err, file.Close())
	}
	return r, nil
}
