package privacy

import (
	"fmt"
	"unicode/utf8"

	"github.com/chromad/chromad/filter"
)

// View is a Sight of one collection, for one request: it is not safe for
// concurrent use.
type View struct {
	sight *Sight
	keys  *Keys
	scope string
	known map[string]Treatment // of the fields that were asked about
}

// NewView makes the view that sight gives on a collection. keys may be nil when
// the sight is not Keyed. scope is the collection's id: a pseudonym outlives a
// new name.
func NewView(sight *Sight, keys *Keys, scope string) *View {
	return &View{sight, keys, scope, map[string]Treatment{}}
}

// FieldError says that a field is not shown as it is, and so cannot be asked
// about or written. It says the same of fields that no record has.
type FieldError struct {
	Field string // as it was named in the request
	Act   string // "filter by", …
}

func (e *FieldError) Error() string {
	return fmt.Sprintf("your roles do not let you %s %s", e.Act, e.Field)
}

func (v *View) of(field string) Treatment {
	t, known := v.known[field]
	if !known {
		t = v.sight.of(field)
		v.known[field] = t
	}
	return t
}

// Shows reports whether a metadata key, or the field that Chroma calls
// #document or #embedding, is visible.
func (v *View) Shows(key string) bool { return v.of(key) == Visible }

// Embedding reports whether embeddings are shown.
func (v *View) Embedding() bool { return v.of(embeddingField) == Visible }

// Metadata is m as it is shown, a map of its own.
func (v *View) Metadata(m filter.Metadata) (filter.Metadata, error) {
	if len(m) == 0 {
		return m, nil
	}
	out := make(filter.Metadata, len(m))
	for key, x := range m {
		y, keep, err := v.treat(key, x)
		if err != nil {
			return nil, err
		}
		if keep {
			out[key] = y
		}
	}
	return out, nil
}

// Document is a document as it is shown; nil: there is none to be seen.
func (v *View) Document(text *string) (*string, error) { return v.text(documentField, text) }

// URI is an uri as it is shown.
func (v *View) URI(text *string) (*string, error) { return v.text(uriField, text) }

func (v *View) text(field string, text *string) (*string, error) {
	if text == nil {
		return nil, nil
	}
	if v.of(field) == Mask {
		masked := maskText
		return &masked, nil
	}
	x, keep, err := v.treat(field, filter.String(*text))
	if err != nil || !keep {
		return nil, err
	}
	shown := x.AsString()
	return &shown, nil
}

// treat is a value as it is shown, if it is.
func (v *View) treat(field string, x filter.Value) (y filter.Value, keep bool, err error) {
	switch t := v.of(field); t {
	case Visible:
		return x, true, nil
	case Mask:
		return masked(x), true, nil
	case Hash, Pseudonym:
		y, err = v.keys.replace(t, v.scope, field, x, false)
		return y, err == nil, err
	}
	return filter.Value{}, false, nil
}

const maskText = "***"

// masked has the type of v: of a text of four characters or more the first
// one, no number, no more than one element of a list.
func masked(v filter.Value) filter.Value {
	switch v.Kind() {
	case filter.KindBool:
		return filter.Bool(false)
	case filter.KindInt:
		return filter.Int(0)
	case filter.KindFloat:
		return filter.Float(0)
	case filter.KindBools:
		return filter.Bools(false)
	case filter.KindInts:
		return filter.Ints(0)
	case filter.KindFloats:
		return filter.Floats(0)
	case filter.KindStrings:
		return filter.Strings(maskText)
	}
	if text := v.AsString(); utf8.RuneCountInString(text) >= 4 {
		_, n := utf8.DecodeRuneInString(text)
		return filter.String(text[:n] + maskText)
	}
	return filter.String(maskText)
}

// Where is a condition as it is to be asked, with the real values in the place
// of pseudonyms. What is no pseudonym of the field equals nothing. A
// *FieldError: it asks about what is not shown, or asks more of a pseudonym
// than which one it is.
func (v *View) Where(e *filter.Expr) (*filter.Expr, error) {
	return e.Rewrite(func(c filter.Condition, it *filter.Expr) (*filter.Expr, error) {
		switch t := v.of(c.Key); {
		case t == Visible:
			return it, nil
		case t != Pseudonym || c.Key == filter.DocumentKey:
			return nil, &FieldError{named(c.Key), "filter by"}
		}
		switch c.Operator {
		case "$eq", "$in":
			return oneOf(c.Key, v.revealed(c), false), nil
		case "$ne", "$nin":
			return oneOf(c.Key, v.revealed(c), true), nil
		}
		return nil, &FieldError{named(c.Key), "filter otherwise than by $eq, $ne, $in and $nin by"}
	})
}

func (v *View) revealed(c filter.Condition) (out []filter.Value) {
	for _, x := range c.Values {
		if x.Kind() != filter.KindString {
			continue
		}
		if real, ok := v.keys.reveal(v.scope, c.Key, x.AsString()); ok {
			out = append(out, real)
		}
	}
	return out
}

// oneOf is $in, or with not $nin, of values that may be of several kinds or none.
func oneOf(key string, values []filter.Value, not bool) *filter.Expr {
	kinds := map[filter.Kind][]filter.Value{}
	for _, x := range values {
		kinds[x.Kind()] = append(kinds[x.Kind()], x)
	}
	var each []*filter.Expr
	for kind := filter.KindBool; kind <= filter.KindString; kind++ {
		if len(kinds[kind]) == 0 {
			continue
		}
		if not {
			each = append(each, filter.Nin(key, kinds[kind]...))
		} else {
			each = append(each, filter.In(key, kinds[kind]...))
		}
	}
	if not {
		return filter.And(each...)
	}
	return filter.Or(each...)
}

// named is a field as errors name it: at most so much of what a client sent.
func named(field string) string {
	const most = 80
	if field == documentField {
		return "documents"
	}
	if len(field) > most {
		field = field[:most] + "…"
	}
	return fmt.Sprintf("the metadata key %q", field)
}

// Write refuses what would write a field that is not shown as it is, with a
// *FieldError: what somebody reads there is not what is stored, and must not
// get into its place.
func (v *View) Write(m filter.Metadata, document, uri *string) error {
	switch {
	case document != nil && v.of(documentField) != Visible:
		return &FieldError{"documents", "write"}
	case uri != nil && v.of(uriField) != Visible:
		return &FieldError{"uris", "write"}
	}
	for key := range m {
		if v.of(key) != Visible {
			return &FieldError{named(key), "write"}
		}
	}
	return nil
}

// Ask refuses to rank, group or sort by a key that is not shown as it is.
func (v *View) Ask(act, key string) error {
	if v.of(key) == Visible {
		return nil
	}
	return &FieldError{named(key), act}
}
