package server

import (
	"math"
	"slices"
	"strings"

	"github.com/chromad/chromad/filter"
)

const (
	maxSearches   = 1000
	searchRefused = "Error executing plan: Not implemented: Search operation is not implemented for local executor"
)

// searchPayload is one search of a request, as far as it is checked. Chroma's
// single node checks a search completely and then refuses it; so do we.
type searchPayload struct {
	filter  *filter.Expr
	ranked  bool
	group   group
	sparse  []string // keys of sparse queries
	dense   []int    // dimensions of dense queries
	ranks   []string // keys that both are about
	problem string   // of a sparse vector
}

// group is a group_by.
type group struct {
	hasKeys, hasAggregate bool
	keys, sortBy          []string
	k                     uint32
}

func (s *Server) search(c *call) error {
	payloads, err := c.readSearch()
	if err != nil {
		return err
	}
	from, err := c.collection()
	if err != nil {
		return err
	}
	info := from.Info()
	sc := s.schemaOf(&info)
	for i, p := range payloads {
		if reason := p.check(); reason != "" {
			return invalid("Validation error: searches[%d].%s", i, reason)
		}
	}
	for _, p := range payloads {
		if err := c.mayAsk(p); err != nil {
			return err
		}
		if p.filter != nil {
			if err := sc.allows(p.filter); err != nil {
				return err
			}
		}
		for _, key := range p.sparse {
			if !sc.indexFor(key, filter.KindSparse).enabled {
				return &filter.DisabledError{Key: key, Kind: filter.KindSparse}
			}
		}
	}
	return unimplemented(searchRefused)
}

// check finds what the single parts do not show.
func (p *searchPayload) check() string {
	const notFields = " must be metadata fields (cannot use #score, #document, #embedding, or #metadata)"
	g := &p.group
	special := func(key string) bool {
		return key == documentKey || key == embeddingKey || key == "#metadata"
	}
	switch {
	case p.problem != "":
		return "rank: Invalid sparse vector in KNN query: " + p.problem
	case (len(g.keys) > 0) != g.hasAggregate:
		return "group_by: group_by keys and aggregate must both be specified or both be omitted"
	case !g.hasAggregate:
		return ""
	case slices.ContainsFunc(g.keys, func(key string) bool { return special(key) || key == "#score" }):
		return "group_by: group_by keys" + notFields
	case g.k == 0:
		return "group_by: aggregate k must be greater than 0"
	case len(g.sortBy) == 0:
		return "group_by: aggregate keys must not be empty"
	case slices.ContainsFunc(g.sortBy, special):
		return "group_by: aggregate keys must be metadata fields or #score (cannot use #document, #embedding, or #metadata)"
	case !p.ranked:
		return "__all__: group_by requires rank expression to be specified"
	}
	return ""
}

// readSearch reads the body of a search.
func (c *call) readSearch() ([]*searchPayload, error) {
	var payloads []*searchPayload
	present, nullLevel := false, false
	err := c.scan("SearchRequestPayload", func(s *scanner, name string) {
		switch name {
		case "searches":
			present = true
			s.array(maxSearches, func(int) { payloads = append(payloads, readPayload(s, &c.s.limits)) })
		case "read_level":
			if s.null() {
				nullLevel = true
				return
			}
			if level := s.text(); s.err == nil && !readLevel(level) {
				s.shape("unknown variant `" + clip(level) + "`, expected one of `index_and_wal`, `index_only`, `index_and_bounded_wal`")
			}
		default:
			s.skip()
		}
	})
	if err != nil {
		return nil, err
	}
	if nullLevel {
		return nil, invalid("Failed to parse the request body as JSON: read_level: expected value")
	}
	return payloads, c.require(present, "searches")
}

func readPayload(s *scanner, limits *Limits) *searchPayload {
	p := &searchPayload{}
	s.object("struct SearchPayload", func(name string) {
		switch name {
		case "filter":
			p.readFilter(s)
		case "rank":
			if !s.null() {
				p.ranked = true
				p.readRank(s, limits)
			}
		case "group_by":
			p.group.read(s)
		case "limit":
			s.object("struct Limit", func(name string) {
				switch {
				case name == "offset":
					s.u32()
				case name == "limit" && !s.null():
					s.u32()
				case name != "limit":
					s.skip()
				}
			})
		case "select":
			s.object("struct Select", func(name string) {
				if name == "keys" {
					readTexts(s)
				} else {
					s.skip()
				}
			})
		default:
			s.skip()
		}
	})
	return p
}

func readTexts(s *scanner) []string {
	out := []string{}
	s.array(maxFields, func(int) { out = append(out, s.text()) })
	return out
}

func (p *searchPayload) readFilter(s *scanner) {
	raw := s.raw()
	if s.err != nil || strings.Trim(string(raw), " \t\r\n{}") == "" {
		return // {} and null are no filter here
	}
	e, err := filter.ParseWhere(raw)
	if err != nil {
		s.shape(toAPI(err).message)
		return
	}
	p.filter = e
}

const rankOperators = "`$abs`, `$div`, `$exp`, `$knn`, `$log`, `$max`, `$min`, `$mul`, `$sub`, `$sum`, `$val`"

// readRank reads a rank expression: an object with exactly one operator.
func (p *searchPayload) readRank(s *scanner, limits *Limits) {
	n := 0
	s.object("a rank expression", func(op string) {
		if n++; n > 1 {
			s.syntax("expected one operator in a rank expression")
			return
		}
		switch op {
		case "$val":
			s.float("f32")
		case "$abs", "$exp", "$log":
			p.readRank(s, limits)
		case "$sum", "$mul", "$max", "$min":
			s.array(maxFields, func(int) { p.readRank(s, limits) })
		case "$sub", "$div":
			var left, right bool
			s.object("an operation", func(side string) {
				switch side {
				case "left":
					left = true
					p.readRank(s, limits)
				case "right":
					right = true
					p.readRank(s, limits)
				default:
					s.skip()
				}
			})
			switch {
			case s.err != nil:
			case !left:
				s.shape("missing field `left`")
			case !right:
				s.shape("missing field `right`")
			}
		case "$knn":
			p.readKNN(s, limits)
		default:
			s.shape("unknown variant `" + clip(op) + "`, expected one of " + rankOperators)
		}
	})
	if s.err == nil && n == 0 {
		s.shape("expected a rank expression with one operator of " + rankOperators)
	}
}

// readKNN reads a nearest-neighbour query, dense or sparse.
func (p *searchPayload) readKNN(s *scanner, limits *Limits) {
	const noQuery = "data did not match any variant of untagged enum QueryVector"
	key, present, sparse, dense := embeddingKey, false, false, []float32(nil)
	s.object("struct Knn", func(name string) {
		switch name {
		case "query":
			present = true
			switch s.peek() {
			case '[':
				if !s.floats(&dense, limits.Dimension, noQuery) {
					s.shape(noQuery)
				}
			case '{':
				sparse = true
				ok, problem := readSparse(s)
				if !ok {
					s.shape(noQuery)
				}
				if p.problem == "" {
					p.problem = problem
				}
			default:
				s.wrong(noQuery)
			}
		case "key":
			key = s.text()
		case "limit":
			s.u32()
		case "default":
			if !s.null() {
				s.float("f32")
			}
		case "return_rank":
			s.boolean()
		default:
			s.skip()
		}
	})
	p.ranks = append(p.ranks, key)
	switch {
	case s.err != nil:
	case !present:
		s.shape("missing field `query`")
	case sparse:
		p.sparse = append(p.sparse, key)
	default:
		p.dense = append(p.dense, len(dense))
	}
}

func (g *group) read(s *scanner) {
	s.object("struct GroupBy", func(name string) {
		switch name {
		case "keys":
			g.hasKeys = true
			g.keys = readTexts(s)
		case "aggregate":
			if s.null() {
				return
			}
			g.hasAggregate = true
			g.readAggregate(s)
		default:
			s.skip()
		}
	})
}

func (g *group) readAggregate(s *scanner) {
	n := 0
	s.object("enum Aggregate", func(op string) {
		if n++; n > 1 || op != "$min_k" && op != "$max_k" {
			s.shape("unknown variant `" + clip(op) + "`, expected `$min_k` or `$max_k`")
			return
		}
		var hasKeys, hasK bool
		s.object("struct Aggregate", func(name string) {
			switch name {
			case "keys":
				hasKeys = true
				g.sortBy = readTexts(s)
			case "k":
				hasK = true
				g.k = uint32(s.uint(math.MaxUint32, "u32"))
			default:
				s.skip()
			}
		})
		switch {
		case s.err != nil:
		case !hasKeys:
			s.shape("missing field `keys`")
		case !hasK:
			s.shape("missing field `k`")
		}
	})
}
