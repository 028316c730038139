package server

import (
	"math"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/filter"
)

// selection is what the bodies of get, query and delete have in common.
type selection struct {
	ids           []string // nil: any
	where         []byte   // JSON, nil: none
	whereDocument []byte
	limit         int // -1: none
	offset        int
}

// field reads one field of the selection and reports whether it is one.
func (sel *selection) field(s *scanner, name string, limits *Limits) bool {
	switch name {
	case "ids":
		sel.ids = readIDs(s, limits)
	case "where":
		sel.where = s.raw()
	case "where_document":
		sel.whereDocument = s.raw()
	default:
		return false
	}
	return true
}

// readIDs reads a list of ids, or null; an empty list is not nil.
func readIDs(s *scanner, limits *Limits) []string {
	if s.null() {
		return nil
	}
	ids := []string{}
	s.array(limits.IDs, func(int) { ids = append(double(ids), s.text()) })
	return ids
}

// page reads limit and offset, where a body has them.
func (sel *selection) page(s *scanner, name string) bool {
	to := &sel.limit
	switch name {
	case "limit":
	case "offset":
		to = &sel.offset
	default:
		return false
	}
	if !s.null() {
		*to = int(s.u32())
	}
	return true
}

// filter parses both conditions.
func (sel *selection) filter() (where *filter.Expr, err error) {
	var document *filter.Expr
	if sel.where != nil {
		if where, err = filter.ParseWhere(sel.where); err != nil {
			return nil, err
		}
	}
	if sel.whereDocument != nil {
		if document, err = filter.ParseWhereDocument(sel.whereDocument); err != nil {
			return nil, err
		}
	}
	return filter.And(where, document), nil
}

// include is the list of fields that an answer has, as it was asked for.
type include struct {
	names                                             []string
	embeddings, metadatas, documents, uris, distances bool
}

const maxIncludes = 64

func readInclude(s *scanner) (inc include) {
	s.array(maxIncludes, func(int) {
		name := s.text()
		switch name {
		case "embeddings":
			inc.embeddings = true
		case "metadatas":
			inc.metadatas = true
		case "documents":
			inc.documents = true
		case "uris":
			inc.uris = true
		case "distances":
			inc.distances = true
		default:
			if s.err == nil {
				s.shape("unknown variant `" + clip(name) + "`, expected one of `distances`, `documents`, `embeddings`, `metadatas`, `uris`")
			}
		}
		inc.names = append(inc.names, name)
	})
	return inc
}

func (inc *include) fields() (out engine.Include) {
	for _, f := range []struct {
		on    bool
		field engine.Include
	}{
		{inc.embeddings, engine.IncludeEmbedding}, {inc.metadatas, engine.IncludeMetadata},
		{inc.documents, engine.IncludeDocument}, {inc.uris || inc.metadatas, engine.IncludeURI}, // see appendMetadata
	} {
		if f.on {
			out |= f.field
		}
	}
	return out
}

// getBody is the body of get.
type getBody struct {
	selection
	include include
}

func (c *call) readGet() (*getBody, error) {
	b := &getBody{selection: selection{limit: -1},
		include: include{names: []string{"documents", "metadatas"}, documents: true, metadatas: true}}
	err := c.scan("GetRequestPayload", func(s *scanner, name string) {
		switch {
		case b.field(s, name, &c.s.limits), b.page(s, name):
		case name == "include":
			b.include = readInclude(s)
		default:
			s.skip()
		}
	})
	return b, err
}

// queryBody is the body of query.
type queryBody struct {
	selection
	include include
	vectors [][]float32
	results int
	finite  bool
}

func (c *call) readQuery() (*queryBody, error) {
	b := &queryBody{results: 10, finite: true,
		include: include{names: []string{"documents", "metadatas", "distances"}, documents: true, metadatas: true, distances: true}}
	present := false
	err := c.scan("QueryRequestPayload", func(s *scanner, name string) {
		switch {
		case b.field(s, name, &c.s.limits):
		case name == "include":
			b.include = readInclude(s)
		case name == "n_results":
			if !s.null() {
				b.results = int(min(s.u32(), math.MaxInt32)) // int has 32 bits somewhere
			}
		case name == "query_embeddings":
			present = true
			c.lent = c.s.vectors.get()
			r := &recordReader{scanner: s, vector: c.lent.one, free: c.lent.all}
			s.array(c.s.limits.Queries, func(int) {
				b.finite = s.floats(&r.vector, c.s.limits.Dimension, "") && b.finite
				b.vectors = append(double(b.vectors), r.keep(r.vector))
			})
			c.lent.one, c.lent.all = r.vector, r.free
		default:
			s.skip()
		}
	})
	if err != nil {
		return nil, err
	}
	return b, c.require(present, "query_embeddings")
}

// check finds what is wrong with the vectors of a query.
func (b *queryBody) check(dimension int) error {
	if !b.finite {
		return invalid("Validation error: query_embeddings: Embeddings must not contain NaN or Infinity values")
	}
	for _, v := range b.vectors {
		if len(v) != len(b.vectors[0]) {
			return invalid(mixedLengths)
		}
	}
	if len(b.vectors) > 0 && dimension > 0 && len(b.vectors[0]) != dimension {
		return wrongDimension(dimension, len(b.vectors[0]), nil)
	}
	return nil
}

// readDelete reads the body of delete.
func (c *call) readDelete() (*selection, error) {
	b := &selection{limit: -1}
	err := c.scan("DeleteCollectionRecordsPayload", func(s *scanner, name string) {
		switch {
		case b.field(s, name, &c.s.limits):
		case name == "limit" && b.page(s, name):
		default:
			s.skip()
		}
	})
	return b, err
}
