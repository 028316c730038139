package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/hnsw"
	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
)

// Reader is an open segment. Its methods may be called concurrently, Close
// included, which waits for the calls that run. What they return does not alias
// the file.
type Reader struct {
	mu     sync.RWMutex // held for reading by every call, for writing by Close
	closed bool

	name   string
	number uint64
	seed   uint64 // of the id hash
	properties
	stride int

	file      *disk.File
	vectors   *disk.Section
	bytes     *disk.Section // the same in bytes, see badBytes; nil: there are none
	norms     *disk.Section // cosine only
	orders    *disk.Section
	ids       column
	table     *disk.Section
	metadata  column
	documents text
	uris      text

	touch      func(rows []uint32) error // vectors.Touch
	fetchEnds  func(rows []uint32)       // ids.fetch
	touchBytes func(rows []uint32) error
	copied     lazy[hnsw.Vectors] // where memory cannot be used as it is
	index      lazy[*filter.Index]
	graph      lazy[hot]

	badFilter, badTable, badBytes damageMet
	badCopy                       damageMet      // of what else can be made again
	ownTable                      lazy[[]uint32] // in the place of a damaged id table

	scratch  sync.Pool // of *scratch
	decoders sync.Pool // of *zstd.Decoder
}

// Open opens a segment. It reads the header, the table, the footer and one
// block that says what the others hold; want and the identity in spec decide
// whether this is the file that is meant. A spec without Dim takes dimension
// and metric from the file, a want without Length takes what it finds.
func Open(fs vfs.FS, keys seal.Keys, spec Spec, want Info) (*Reader, error) {
	name := Name(spec.Number)
	if want.Length != 0 && (want.Number != spec.Number || want.File != spec.File) {
		return nil, fmt.Errorf("%s: wanted as number %d, file %v, but known as number %d, file %v",
			name, spec.Number, spec.File, want.Number, want.File)
	}
	file, err := disk.OpenFile(fs, name, spec.header(), want.Info, keys)
	if err != nil {
		return nil, err
	}
	file.Share(spec.Memory, evictable...)
	r := &Reader{name: name, number: spec.Number, file: file, seed: hashSeed(spec.File)}
	if err := r.named(file.Faults(func() error { return r.open(spec, want) })); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return r, nil
}

func (r *Reader) open(spec Spec, want Info) error {
	s, ok := r.file.Section(sectionProperties)
	if !ok || s.Len() != propertiesSize {
		return &disk.CorruptError{Err: errors.New("no section of properties")}
	}
	b, err := s.Bytes(0, propertiesSize)
	if err != nil {
		return err
	}
	if r.properties, err = decodeProperties(b); err != nil {
		return damaged(s, 0, "properties: %w", err)
	}
	if want.Length != 0 && (want.Rows != r.rows || want.MinOrder != r.minOrder || want.MaxOrder != r.maxOrder) {
		return damaged(s, 0, "%d rows with orders %d to %d instead of %d with %d to %d",
			r.rows, r.minOrder, r.maxOrder, want.Rows, want.MinOrder, want.MaxOrder)
	}
	if spec.Dim != 0 && (spec.Dim != r.dim || spec.Metric != r.metric) {
		return damaged(s, 0, "dimension %d, metric %v instead of %d, %v", r.dim, r.metric, spec.Dim, spec.Metric)
	}
	r.stride = stride(r.dim)
	r.documents.shared, r.documents.file = spec.Cache, spec.File
	return r.sections()
}

// sections finds the sections and checks that they have the length that the
// number of rows asks for, so that no later read has to.
func (r *Reader) sections() error {
	rows := int(r.rows)
	type part struct {
		kind uint16
		size int // -1: any
		into **disk.Section
	}
	parts := []part{
		{sectionVectors, rows * r.stride * 4, &r.vectors},
		{sectionOrders, rows * 8, &r.orders},
		{sectionIDEnds, rows * 8, &r.ids.ends},
		{sectionIDs, -1, &r.ids.data},
		{sectionIDTable, slotCount(r.rows) * 4, &r.table},
		{sectionMetadataEnds, rows * 8, &r.metadata.ends},
		{sectionMetadata, -1, &r.metadata.data},
	}
	if r.metric == kernel.Cosine {
		parts = append(parts, part{sectionNorms, rows * 4, &r.norms})
	}
	if _, ok := r.file.Section(sectionDocumentEnds); ok {
		r.documents.size, r.documents.decoders = r.properties.documents, &r.decoders
		parts = append(parts, part{sectionDocumentEnds, rows * 8, &r.documents.ends},
			part{sectionDocumentBlocks, int(textBlocks(r.documents.size)) * 8, &r.documents.blocks},
			part{sectionDocuments, -1, &r.documents.stored})
	}
	if _, ok := r.file.Section(sectionURIEnds); ok {
		r.uris.size, r.uris.decoders = r.properties.uris, &r.decoders
		parts = append(parts, part{sectionURIEnds, rows * 8, &r.uris.ends},
			part{sectionURIBlocks, int(textBlocks(r.uris.size)) * 8, &r.uris.blocks},
			part{sectionURIs, -1, &r.uris.stored})
	}
	for _, p := range parts {
		s, ok := r.file.Section(p.kind)
		if !ok {
			return &disk.CorruptError{Err: fmt.Errorf("no section %d", p.kind)}
		}
		if p.size >= 0 && s.Len() != p.size {
			return damaged(s, 0, "section %d has %d bytes, not %d", p.kind, s.Len(), p.size)
		}
		*p.into = s
	}
	r.touch = func(rows []uint32) error { return r.vectors.Touch(rows, r.stride*4) }
	r.fetchEnds = r.ids.fetch
	r.openBytes()
	return nil
}

// Close waits for the calls that run and unmaps the file. Closing again does
// nothing.
func (r *Reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	return r.file.Close()
}

// Rows is the number of rows, dead ones included.
func (r *Reader) Rows() int { return int(r.rows) }

// Dim is the number of floats of a vector.
func (r *Reader) Dim() int { return r.dim }

// Number stands in the file's name.
func (r *Reader) Number() uint64 { return r.number }

// Metric is what the graph was built for.
func (r *Reader) Metric() kernel.Metric { return r.metric }

// Orders is the order of the first and of the last row.
func (r *Reader) Orders() (first, last uint64) { return r.minOrder, r.maxOrder }

// Bytes is the length of the file.
func (r *Reader) Bytes() int64 { return r.file.Info().Length }

// at runs f under the guard if row is one of the segment's.
func (r *Reader) at(row uint32, f func() error) error {
	return r.guard(func() error {
		if row >= r.rows {
			return fmt.Errorf("row %d of %d", row, r.rows)
		}
		return f()
	})
}

// Lookup finds the row whose id is id.
func (r *Reader) Lookup(id string) (row uint32, found bool, err error) {
	err = r.guard(func() (err error) {
		row, found, err = r.lookup(id)
		return err
	})
	return row, found, err
}

// ID is the id of row.
func (r *Reader) ID(row uint32) (id string, err error) {
	err = r.at(row, func() error {
		b, err := r.ids.at(row)
		id = string(b)
		return err
	})
	return id, err
}

// together is how many bytes of ids share one allocation, all of which lives as
// long as one of them. Of a few ids, those of the next calls share a smaller one.
const (
	together    = 4 << 10
	togetherFew = 1 << 10
)

// IDs sets ids[i] to the id of rows[i].
func (r *Reader) IDs(rows []uint32, ids []string) error {
	return r.guard(func() error {
		s := r.takeScratch()
		defer r.scratch.Put(s)
		s.rows = append(s.rows[:0], rows...)
		return r.idsOf(s, ids)
	})
}

// idsOf is IDs of the rows in s, under the guard. Their ways from memory overlap:
// first where all of them are, then what.
func (r *Reader) idsOf(s *scratch, ids []string) error {
	if len(s.rows) > 0 && slices.Max(s.rows) >= r.rows {
		return fmt.Errorf("row %d of %d", slices.Max(s.rows), r.rows)
	}
	data, err := r.ids.data.Map()
	if err != nil {
		return err
	}
	total := 0
	if s.spans, total, err = r.ids.spans(s.spans[:0], s.rows, data); err != nil {
		return err
	}
	shared := total <= together
	if shared && s.text.Cap()-s.text.Len() < total {
		s.text.Reset() // which leaves what is there to its strings
		s.text.Grow(max(total, togetherFew))
	}
	whole := r.ids.data.Verified() // then its blocks need not be asked for
	for i, at := range s.spans {
		var b []byte
		if whole {
			b = data[at.from:][:at.n]
		} else if b, err = r.ids.data.Bytes(at.from, at.n); err != nil {
			return err
		}
		if !shared {
			ids[i] = string(b)
			continue
		}
		from := s.text.Len()
		s.text.Write(b)
		ids[i] = s.text.String()[from:]
	}
	return nil
}

// Order is the creation number of row's record.
func (r *Reader) Order(row uint32) (order uint64, err error) {
	err = r.at(row, func() (err error) {
		order, err = r.order(row)
		return err
	})
	return order, err
}

func (r *Reader) order(row uint32) (uint64, error) {
	b, err := r.orders.Bytes(int(row)*8, 8)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}

// FindOrder finds the first row whose order is order or more. found says
// that it is order itself. row is Rows when every order is smaller.
func (r *Reader) FindOrder(order uint64) (row uint32, found bool, err error) {
	err = r.guard(func() (err error) {
		if order > r.maxOrder {
			row = r.rows
			return nil
		}
		i := sort.Search(int(r.rows), func(i int) bool {
			at, e := r.order(uint32(i))
			err = errors.Join(err, e)
			return at >= order
		})
		if err != nil || i == int(r.rows) {
			row = uint32(i)
			return err
		}
		row = uint32(i)
		at, err := r.order(row)
		found = at == order
		return err
	})
	return row, found, err
}

// Vector is a copy of the embedding of row: outside the guard the file's memory
// may fault.
func (r *Reader) Vector(row uint32) (v []float32, err error) {
	err = r.at(row, func() error {
		mapped, err := r.vector(row)
		v = slices.Clone(mapped)
		return err
	})
	return v, err
}

// Metadata is the metadata of row.
func (r *Reader) Metadata(row uint32) (m filter.Metadata, err error) {
	err = r.at(row, func() (err error) {
		m, err = r.decodeMetadata(row)
		return err
	})
	return m, err
}

func (r *Reader) decodeMetadata(row uint32) (filter.Metadata, error) {
	b, err := r.metadata.at(row)
	if err != nil {
		return nil, err
	}
	m, err := filter.DecodeMetadata(b)
	if err != nil {
		return nil, damaged(r.metadata.ends, int(row)*8, "metadata of row %d: %w", row, err)
	}
	return m, nil
}

// Document is the document of row, and whether it has one.
func (r *Reader) Document(row uint32) (doc string, ok bool, err error) {
	err = r.at(row, func() (err error) {
		doc, ok, err = r.documents.again(row)
		return err
	})
	return doc, ok, err
}

// URI is the URI of row, and whether it has one.
func (r *Reader) URI(row uint32) (uri string, ok bool, err error) {
	err = r.at(row, func() (err error) {
		uri, ok, err = r.uris.at(row)
		return err
	})
	return uri, ok, err
}
