package engine

import (
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/internal/kernel"
)

// What importers of engine need of the packages below it.
type (
	// Metadata are a record's (or a collection's) typed values by key:
	// Metadata{"year": filter.Int(1843)}, or filter.ParseMetadata for JSON.
	Metadata = filter.Metadata
	// Value is one metadata value, made with filter.String, Int, Float, Bool,
	// Strings and so on. filter.Null in an update removes the key.
	Value = filter.Value
	// Filter is a checked condition on metadata and document; nil matches
	// everything. Made with filter.Eq, Gte, In, DocumentContains, And and so
	// on, or from Chroma's JSON with filter.ParseWhere and ParseWhereDocument.
	Filter = filter.Expr
	// Metric is how distance is measured: smaller is nearer, always.
	Metric = kernel.Metric
)

// The metrics. L2 is the squared Euclidean distance, Cosine is 1 − cos
// (1 when either vector is zero), IP is 1 − the inner product.
const (
	L2     = kernel.L2
	Cosine = kernel.Cosine
	IP     = kernel.IP
)

// Record is what a collection stores under an ID.
type Record struct {
	ID        string    // not empty, valid UTF-8, compared byte for byte
	Embedding []float32 // finite, of the collection's dimension
	Metadata  Metadata  // nil: none
	Document  *string   // nil: none
	URI       *string   // nil: none
}

// Match is a record found by a query. Which fields are filled is the
// query's Include.
type Match struct {
	Record
	Distance float32 // the greatest or least float32 where it leaves their range
}

// Include says which fields of a record a read fills beside its ID. Fields
// that are not included are not read from disk.
type Include uint8

// The fields, to be joined with |. Zero is the ID alone.
const (
	IncludeEmbedding Include = 1 << iota
	IncludeMetadata
	IncludeDocument
	IncludeURI

	IncludeAll = IncludeEmbedding | IncludeMetadata | IncludeDocument | IncludeURI
)

// KindSet is a set of value kinds.
type KindSet uint32

// Has tells whether k is in the set.
func (s KindSet) Has(k filter.Kind) bool { return s&(1<<k) != 0 }

func (s KindSet) with(k filter.Kind) KindSet { return s | 1<<k }

// Optional makes a pointer to v: Record{Document: engine.Optional("text")}.
func Optional[T any](v T) *T { return &v }

// writeKind is what a write does with ids that exist and with those that do not.
type writeKind uint8

const (
	writeAdd    writeKind = 1 // known: left as it is; unknown: inserted
	writeUpsert writeKind = 2 // known: merged; unknown: inserted
	writeUpdate writeKind = 3 // known: merged; unknown: skipped
)

// checkRecords validates a call's records and returns the dimension of their
// embeddings (0: none has one) and a bound of their encoded size.
func checkRecords(recs []Record, kind writeKind, lim *Limits) (dim, size int, err error) {
	if len(recs) > lim.BatchRecords {
		return 0, 0, fmt.Errorf("%w: %d records in one call, at most %d are allowed", ErrTooLarge, len(recs), lim.BatchRecords)
	}
	size = 64
	for i := range recs {
		r := &recs[i]
		if err := checkID(r.ID, i, lim); err != nil {
			return 0, 0, err
		}
		if r.Embedding == nil {
			if kind != writeUpdate {
				return 0, 0, &InvalidError{Field: "embedding", Index: i, Reason: "missing"}
			}
		} else {
			if err := checkEmbedding(r.Embedding, i, lim); err != nil {
				return 0, 0, err
			}
			if dim == 0 {
				dim = len(r.Embedding)
			} else if dim != len(r.Embedding) {
				return 0, 0, &InvalidError{Field: "embedding", Index: i, Reason: fmt.Sprintf("%d dimensions, the records before have %d", len(r.Embedding), dim)}
			}
		}
		n, err := checkMetadata(r.Metadata, i, lim)
		if err != nil {
			return 0, 0, err
		}
		for _, t := range []struct {
			field string
			text  *string
		}{{"document", r.Document}, {"uri", r.URI}} {
			if t.text == nil {
				continue
			}
			if len(*t.text) > lim.DocumentBytes {
				return 0, 0, fmt.Errorf("%w: record %d: %s of %d bytes, at most %d are allowed", ErrTooLarge, i, t.field, len(*t.text), lim.DocumentBytes)
			}
			if !utf8.ValidString(*t.text) {
				return 0, 0, &InvalidError{Field: t.field, Index: i, Reason: "not valid UTF-8"}
			}
			n += len(*t.text) + 5
		}
		size += len(r.ID) + 4*len(r.Embedding) + n + 16
	}
	if size > lim.BatchBytes {
		return 0, 0, fmt.Errorf("%w: a call of about %d bytes, at most %d are allowed; send smaller batches", ErrTooLarge, size, lim.BatchBytes)
	}
	return dim, size, nil
}

// reasonEmpty is InvalidError.Reason of an empty id or name.
const reasonEmpty = "empty"

func checkID(id string, i int, lim *Limits) error {
	switch {
	case id == "":
		return &InvalidError{Field: "id", Index: i, Reason: reasonEmpty}
	case len(id) > lim.IDBytes:
		return fmt.Errorf("%w: record %d: id of %d bytes, at most %d are allowed", ErrTooLarge, i, len(id), lim.IDBytes)
	case !utf8.ValidString(id):
		return &InvalidError{Field: "id", Index: i, Reason: "not valid UTF-8"}
	}
	return nil
}

func checkEmbedding(v []float32, i int, lim *Limits) error {
	if len(v) == 0 {
		return &InvalidError{Field: "embedding", Index: i, Reason: "has no dimensions"}
	}
	if len(v) > lim.Dimension {
		return &InvalidError{Field: "embedding", Index: i, Reason: fmt.Sprintf("%d dimensions, at most %d are allowed", len(v), lim.Dimension)}
	}
	if square := kernel.Dot(v, v); math.Abs(float64(square)) <= math.MaxFloat32 {
		return nil // so all numbers are finite
	}
	for j, x := range v {
		// All exponent bits set: an infinity or not a number.
		if math.Float32bits(x)&0x7f800000 == 0x7f800000 {
			return &InvalidError{Field: "embedding", Index: i, Reason: fmt.Sprintf("component %d is %v, only finite numbers are allowed", j, x)}
		}
	}
	return nil
}

// checkMetadata returns a bound of the encoded size.
func checkMetadata(m Metadata, i int, lim *Limits) (int, error) {
	if len(m) > lim.MetadataKeys {
		return 0, fmt.Errorf("%w: record %d: %d metadata keys, at most %d are allowed", ErrTooLarge, i, len(m), lim.MetadataKeys)
	}
	size := 5
	for k, v := range m {
		switch {
		case k == "":
			return 0, &InvalidError{Field: "metadata", Index: i, Reason: "empty key"}
		case k[0] == '#' || k[0] == '$':
			return 0, &InvalidError{Field: "metadata", Index: i, Reason: fmt.Sprintf("key %q begins with %q, which is reserved", k, k[0])}
		case !utf8.ValidString(k):
			return 0, &InvalidError{Field: "metadata", Index: i, Reason: fmt.Sprintf("key %q is not valid UTF-8", k)}
		}
		if err := v.Check(); err != nil {
			return 0, &InvalidError{Field: "metadata", Index: i, Reason: fmt.Sprintf("key %q: %v", k, err)}
		}
		size += len(k) + 10 + v.Size()
	}
	if size > lim.MetadataBytes {
		return 0, fmt.Errorf("%w: record %d: metadata of about %d bytes, at most %d are allowed", ErrTooLarge, i, size, lim.MetadataBytes)
	}
	return size, nil
}
