package server

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"
	"strings"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/filter"
)

// What is said of embeddings that cannot be stored.
const (
	emptyID        = "Empty ID, ID must have at least one character"
	notFinite      = "Validation error: embeddings: Embeddings must not contain NaN or Infinity values"
	noDimensions   = "Validation error: embeddings: Each embedding must have at least 1 dimension"
	mixedLengths   = "Inconsistent dimensions in provided embeddings"
	unequalCounts  = "Inconsistent number of IDs, embeddings, documents, URIs and metadatas"
	noEmbeddings   = "data did not match any variant of untagged enum EmbeddingsPayload"
	noMetadata     = "data did not match any variant of untagged enum MetadataValue"
	sparseRefused  = "Unimplemented: Sparse vector is not supported for local chroma: "
	chunkOfVectors = 16 << 10 // floats that are allocated at a time
	pieceOfText    = 8 << 10  // bytes of texts
	pieceOfTexts   = 64       // texts that are pointed to
)

// writeBody is the body of add, upsert and update. Lists go straight into
// records, whichever list comes first.
type writeBody struct {
	records []engine.Record
	has     struct{ ids, embeddings bool }
	counts  []int // of every list that was given, beside ids
	ids     int
	// fault is the first value that has the right shape and cannot be stored.
	// It is reported after the checks that come before values.
	fault error
}

// recordReader reads a writeBody.
type recordReader struct {
	*scanner
	body   *writeBody
	limits *Limits
	update bool // embeddings and their elements may be null
	nulls  bool // metadata values may be null, which deletes them

	texts  strings.Builder // a piece of memory for many texts
	refs   []string        // and one for those that are pointed to
	keys   int             // of the metadata before
	vector []float32       // of the embedding that is being read
	raw64  []byte          // its bytes
	free   []float32       // a piece of memory for many embeddings
	used   int             // of it
	values int             // elements of metadata lists so far
}

// readWrite reads the body of a write.
func (c *call) readWrite(kind string, update, nulls bool) (*writeBody, error) {
	body := &writeBody{}
	var r *recordReader
	err := c.scan(kind, func(s *scanner, name string) {
		if r == nil {
			r = &recordReader{scanner: s, body: body, limits: &c.s.limits, update: update, nulls: nulls}
		}
		r.field(name)
	})
	if err != nil {
		return nil, err
	}
	if err := c.require(body.has.ids, "ids"); err != nil {
		return nil, err
	}
	return body, c.require(update || body.has.embeddings, "embeddings")
}

func (r *recordReader) field(name string) {
	switch name {
	case "ids":
		r.body.has.ids = true
		r.array(r.limits.Records, func(i int) {
			r.record(i).ID = r.kept()
			r.body.ids = i + 1
		})
	case "embeddings":
		r.body.has.embeddings = true
		r.embeddings()
	case "documents":
		r.list(func(i int) { r.record(i).Document = r.optional() })
	case "uris":
		r.list(func(i int) { r.record(i).URI = r.optional() })
	case "metadatas":
		r.list(func(i int) {
			if !r.null() {
				r.record(i).Metadata = r.metadata(i)
			} else {
				r.record(i)
			}
		})
	default:
		r.skip()
	}
}

// record is the i-th record, which may be new.
func (r *recordReader) record(i int) *engine.Record {
	for len(r.body.records) <= i {
		r.body.records = append(double(r.body.records), engine.Record{})
	}
	return &r.body.records[i]
}

// list reads one of the lists that must be as long as ids, or null.
func (r *recordReader) list(element func(i int)) {
	if r.null() {
		return
	}
	n := 0
	r.array(r.limits.Records, func(i int) {
		element(i)
		n = i + 1
	})
	r.body.counts = append(r.body.counts, n)
}

func (r *recordReader) optional() *string {
	if r.null() {
		return nil
	}
	t := r.kept()
	if len(r.refs) == cap(r.refs) {
		r.refs = make([]string, 0, pieceOfTexts)
	}
	r.refs = append(r.refs, t)
	return &r.refs[len(r.refs)-1]
}

// kept reads a string into memory that it shares with others of the request:
// they live in the same memtable, and one allocation serves many. Pieces are
// small, so that little is held by a text that outlives the others.
func (r *recordReader) kept() string {
	b := r.span("a string")
	if len(b) > pieceOfText/8 {
		return string(b)
	}
	if len(b) > r.texts.Cap()-r.texts.Len() {
		r.texts = strings.Builder{}
		r.texts.Grow(max(len(b), min(pieceOfText, len(r.data)/8)))
	}
	from := r.texts.Len()
	r.texts.Write(b)
	return r.texts.String()[from:]
}

func (r *recordReader) fault(format string, args ...any) {
	if r.body.fault == nil {
		r.body.fault = invalid(format, args...)
	}
}

// embeddings reads a list of number lists or a list of base64 texts.
func (r *recordReader) embeddings() {
	if r.update && r.null() {
		return
	}
	if r.err == nil && r.peek() != '[' {
		r.wrong(noEmbeddings)
		return
	}
	var numbers, texts bool
	n := 0
	r.array(r.limits.Records, func(i int) {
		n = i + 1
		rec := r.record(i)
		switch c := r.peek(); {
		case c == '[':
			numbers = true
			rec.Embedding = r.numbers(i)
		case c == '"':
			texts = true
			rec.Embedding = r.base64(i)
		case c == 'n' && r.update:
			r.null()
		default:
			r.wrong(noEmbeddings)
		}
		if numbers && texts {
			r.shape(noEmbeddings)
		}
	})
	r.body.counts = append(r.body.counts, n)
}

// wrong reports a value of the wrong type, unless it is not even JSON.
func (r *scanner) wrong(text string) {
	r.skip()
	r.shape(text)
}

// numbers reads one embedding.
func (r *recordReader) numbers(i int) []float32 {
	finite := r.floats(&r.vector, r.limits.Dimension, noEmbeddings)
	if !finite {
		r.fault(notFinite)
	}
	return r.keep(r.vector)
}

// floats reads an array of numbers into *dst and reports whether all are
// within the range of float32. Numbers nearer to zero than that become zero.
func (s *scanner) floats(dst *[]float32, limit int, wrong string) bool {
	*dst = (*dst)[:0]
	if s.err != nil || s.peek() != '[' {
		s.mismatch("a sequence")
		return true
	}
	if !s.enter() {
		return true
	}
	finite := true
	for i := 0; s.next(']', i == 0); i++ {
		if s.quickFloats(dst, limit); len(*dst) > i {
			i = len(*dst) - 1
			continue
		}
		c := s.peek()
		if c != '-' && (c < '0' || c > '9') {
			if wrong != "" && c != 0 {
				s.wrong(wrong)
			} else {
				s.mismatch("f32")
			}
		}
		if i == limit {
			s.shape("more than " + strconv.Itoa(limit) + " dimensions")
		}
		n := s.number()
		if s.err != nil {
			s.err.within("[" + strconv.Itoa(i) + "]")
			return true
		}
		f := n.float32()
		finite = finite && !math.IsInf(float64(f), 0)
		*dst = append(double(*dst), f)
	}
	return finite
}

// keep copies v into memory of the request, many embeddings to a piece.
func (r *recordReader) keep(v []float32) []float32 {
	if len(v) == 0 {
		return []float32{} // given, unlike nil
	}
	out := r.room(len(v))
	copy(out, v)
	return out
}

// room is memory of the request for n numbers, which the body has.
func (r *recordReader) room(n int) []float32 {
	if n > len(r.free)-r.used {
		r.free, r.used = make([]float32, max(n, min(chunkOfVectors, len(r.data)/4))), 0
	}
	r.used += n
	return r.free[r.used-n : r.used : r.used]
}

// giveBack takes back the last n numbers of room.
func (r *recordReader) giveBack(n int) { r.used -= n }

// base64 reads one embedding as the base64 of little-endian float32.
func (r *recordReader) base64(i int) []float32 {
	if v, ok := r.quickBase64(r.limits.Dimension); ok {
		return v
	}
	t := r.span("a string")
	if r.err != nil {
		return nil
	}
	if len(t) > (r.limits.Dimension*4+2)/3*4+4 {
		r.shape("more than " + strconv.Itoa(r.limits.Dimension) + " dimensions")
		return nil
	}
	// The decoder steps over line breaks, which would make two texts mean one vector.
	if at := bytes.IndexAny(t, "\r\n"); at >= 0 {
		r.fault("Invalid base64 string: Invalid symbol %d, offset %d.", t[at], at)
		return []float32{}
	}
	raw, err := strict64.AppendDecode(r.raw64[:0], t)
	r.raw64 = raw
	switch {
	case err != nil:
		r.fault("Invalid base64 string: %v", err)
		return []float32{}
	case len(raw)%4 != 0:
		r.fault("Invalid byte length: %d bytes cannot be converted to f32 values (must be divisible by 4)", len(raw))
		return []float32{}
	}
	r.vector = r.vector[:0]
	for at := 0; at < len(raw); at += 4 {
		f := math.Float32frombits(binary.LittleEndian.Uint32(raw[at:]))
		if math.Float32bits(f)&0x7f800000 == 0x7f800000 {
			r.fault("Non-finite float value at embedding index %d: %s", at/4, rustFloat(f))
		}
		r.vector = append(r.vector, f)
	}
	return r.keep(r.vector)
}

// rustFloat names a float that is not finite as Chroma does.
func rustFloat(f float32) string {
	switch {
	case math.IsInf(float64(f), 1):
		return "inf"
	case math.IsInf(float64(f), -1):
		return "-inf"
	}
	return "NaN"
}

// metadata reads the metadata of record i.
func (r *recordReader) metadata(i int) filter.Metadata {
	var m filter.Metadata
	r.object("a map", func(key string) {
		if !filter.ValidKey(key) {
			r.fault("Validation error: metadatas: Invalid metadata at index %d", i)
		}
		v, keep := r.value(i, key)
		if !keep || r.err != nil {
			return
		}
		if m == nil {
			m = make(filter.Metadata, min(r.keys, fewFields))
		}
		m[key] = v
	})
	r.keys = len(m) // the next one's are probably the same
	return m
}

// value reads one metadata value; keep is false for an empty list.
func (r *recordReader) value(i int, key string) (v filter.Value, keep bool) {
	switch c := r.peek(); {
	case c == '"':
		return filter.String(r.kept()), true
	case c == 't' || c == 'f':
		return filter.Bool(r.boolean()), true
	case c == '-' || c >= '0' && c <= '9':
		return r.metadataNumber(), true
	case c == '[':
		return r.metadataList()
	case c == '{' && i >= 0:
		r.sparse(i, key)
		return filter.Value{}, false
	case c == 'n' && r.nulls:
		r.null()
		return filter.Null(), true
	}
	r.wrong(noMetadata)
	return filter.Value{}, false
}

func (r *recordReader) metadataNumber() filter.Value {
	n := r.number()
	if i, ok := n.int64(); ok {
		return filter.Int(i)
	}
	f, ok := n.float64()
	if !ok {
		r.syntax("number out of range")
	}
	return filter.Float(f)
}

// metadataList reads a list of texts, booleans or numbers. The kinds are kept
// apart while reading, so that a list costs what its elements do.
func (r *recordReader) metadataList() (filter.Value, bool) {
	var texts []string
	var bools []bool
	var ints []int64
	var floats []float64
	kind := byte(0)
	r.array(r.limits.ListValues-r.values, func(int) {
		c := r.peek()
		switch {
		case c == 'f':
			c = 't'
		case c == '-' || c >= '0' && c <= '9':
			c = '0'
		case c != '"' && c != 't':
			r.wrong(noMetadata)
			return
		}
		if kind != 0 && kind != c {
			r.wrong(noMetadata)
			return
		}
		kind = c
		switch c {
		case '"':
			texts = append(double(texts), r.kept())
		case 't':
			bools = append(double(bools), r.boolean())
		default:
			v := r.metadataNumber()
			if v.Kind() == filter.KindInt && floats == nil {
				ints = append(double(ints), v.AsInt())
				return
			}
			for _, x := range ints {
				floats = append(double(floats), float64(x))
			}
			ints = nil
			if v.Kind() == filter.KindInt {
				floats = append(double(floats), float64(v.AsInt()))
			} else {
				floats = append(double(floats), v.AsFloat())
			}
		}
	})
	r.values += len(texts) + len(bools) + len(ints) + len(floats)
	switch {
	case texts != nil:
		return filter.Strings(texts...), true
	case bools != nil:
		return filter.Bools(bools...), true
	case ints != nil:
		return filter.Ints(ints...), true
	case floats != nil:
		return filter.Floats(floats...), true
	}
	return filter.Value{}, false
}

// sparse reads a sparse vector as a metadata value, which is refused after it
// has been found right.
func (r *recordReader) sparse(i int, key string) {
	ok, problem := readSparse(r.scanner)
	switch {
	case r.err != nil:
	case !ok:
		r.shape(noMetadata)
	case problem != "":
		r.fault("Validation error: metadatas: Invalid metadata at index %d", i)
	case r.body.fault == nil:
		r.body.fault = unimplemented(sparseRefused + clip(key))
	}
}

// readSparse reads a sparse vector. ok is false when the object is none,
// problem says what is wrong with one.
func readSparse(s *scanner) (ok bool, problem string) {
	const unordered = "Sparse vector indices must be sorted in strictly ascending order (no duplicates)"
	const unequal = "Sparse vector indices, values, and tokens (when present) must have the same length"
	ok = true
	indices, values, tokens, last := -1, -1, -1, int64(-1)
	element := func(c byte, read func()) {
		if n := s.peek(); n == c || c == '0' && (n == '-' || n >= '0' && n <= '9') {
			read()
			return
		}
		ok = false
		s.skip()
	}
	list := func(count *int, element func()) {
		if s.peek() != '[' {
			ok = false
			s.skip()
			return
		}
		*count = 0
		s.array(math.MaxInt, func(int) {
			*count++
			element()
		})
	}
	s.object("a map", func(name string) {
		switch name {
		case "#type":
			element('"', func() { ok = ok && s.text() == "sparse_vector" })
		case "indices":
			list(&indices, func() {
				element('0', func() {
					n, isInt := s.number().int64()
					ok = ok && isInt && n >= 0 && n <= math.MaxUint32
					if n <= last {
						problem = unordered
					}
					last = n
				})
			})
		case "values":
			list(&values, func() { element('0', func() { s.number() }) })
		case "tokens":
			if !s.null() {
				list(&tokens, func() { element('"', func() { s.span("") }) })
			}
		default:
			s.skip()
		}
	})
	if indices < 0 || values < 0 {
		ok = false
	}
	if indices != values || tokens >= 0 && tokens != indices {
		problem = unequal
	}
	return ok, problem
}

// check finds what is wrong with the values of a write.
func (b *writeBody) check() error {
	if b.fault != nil {
		return b.fault
	}
	for _, n := range b.counts {
		if n != b.ids {
			return invalid(unequalCounts)
		}
	}
	if len(b.records) != b.ids {
		return invalid(unequalCounts)
	}
	dimension := 0
	for i := range b.records {
		r := &b.records[i]
		if r.ID == "" {
			return invalid(emptyID)
		}
		if r.Embedding == nil {
			continue
		}
		switch {
		case len(r.Embedding) == 0:
			return invalid(noDimensions)
		case dimension == 0:
			dimension = len(r.Embedding)
		case dimension != len(r.Embedding):
			return invalid(mixedLengths)
		}
	}
	return nil
}
