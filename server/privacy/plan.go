package privacy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/chromad/chromad/filter"
)

// Plan is what rules come to for one collection. It is immutable.
type Plan struct {
	rules    []*Rule
	document bool             // is dropped
	uri      bool             // is dropped
	detect   map[Kind]Storing // without what is kept
	tag      string           // "": nothing is tagged
	keyed    bool             // needs keys
}

// For is what the rules come to for a collection; nil: nothing holds there.
func (r *Rules) For(tenant, database, collection string) *Plan {
	p := &Plan{detect: map[Kind]Storing{}}
	for i := range r.Rules {
		rule := &r.Rules[i]
		if !rule.On.holds(tenant, database, collection) {
			continue
		}
		p.rules = append(p.rules, rule)
		p.document = p.document || rule.Document == Drop
		p.uri = p.uri || rule.URI == Drop
		for _, s := range rule.Keys {
			p.keyed = p.keyed || s == StoredHash || s == StoredPseudonym
		}
		for _, kind := range Kinds() {
			s, named := rule.Detect[kind]
			if !named {
				s = rule.Detect["*"]
			}
			if slices.Index(detections, s) > max(0, slices.Index(detections, p.detect[kind])) {
				p.detect[kind] = s
			}
			if s == Tag && p.tag == "" {
				p.tag = defaultTag
				if rule.Tag != "" {
					p.tag = rule.Tag
				}
			}
		}
	}
	if p.rules == nil {
		return nil
	}
	return p
}

// Keyed reports whether some key is hashed or made a pseudonym.
func (p *Plan) Keyed() bool { return p.keyed }

// Record is what a plan changes of a record.
type Record struct {
	Metadata      filter.Metadata // changed in place; null deletes
	Document, URI *string
}

// Refused says why a record may not be stored. It never has a value in it.
type Refused struct {
	Field string // "document", "uri", or a metadata key as it was sent
	Kind  Kind   // what was found; "": the key is not accepted
}

func (e *Refused) Error() string {
	if e.Kind == "" {
		return e.Field + ": is not accepted in this collection"
	}
	return fmt.Sprintf("%s: has personal data in it (%s), which this collection does not take", e.Field, e.Kind)
}

// Apply makes of a record what may be stored. keys may be nil when the plan is
// not Keyed; scope is the collection's id. The error is a *Refused, and the
// record must not be stored then.
//
// Doing it again changes nothing, so what was read can be written back.
func (p *Plan) Apply(keys *Keys, scope string, r *Record) error {
	found := map[Kind]bool{}
	if p.tag != "" {
		delete(r.Metadata, p.tag) // which is not the client's to say
	}
	for _, key := range slices.Sorted(maps.Keys(r.Metadata)) {
		if err := p.value(keys, scope, r.Metadata, key, found); err != nil {
			return err
		}
	}
	for _, x := range []struct {
		field string
		text  **string
		drop  bool
	}{{"document", &r.Document, p.document}, {"uri", &r.URI, p.uri}} {
		switch {
		case *x.text == nil:
		case x.drop:
			*x.text = nil
		default:
			text, err := p.inspect(x.field, **x.text, found)
			if err != nil {
				return err
			}
			*x.text = &text
		}
	}
	if len(found) > 0 {
		if r.Metadata == nil {
			r.Metadata = filter.Metadata{}
		}
		var names []string
		for _, kind := range slices.Sorted(maps.Keys(found)) {
			names = append(names, string(kind))
		}
		r.Metadata[p.tag] = filter.String(strings.Join(names, ","))
	}
	return nil
}

// value does what the rules say about one key.
func (p *Plan) value(keys *Keys, scope string, m filter.Metadata, key string, found map[Kind]bool) error {
	v := m[key]
	if v.IsNull() {
		return nil // deleting is always allowed
	}
	s := p.storing(key)
	if s == Drop {
		delete(m, key)
		return nil
	}
	if accepted, others := p.accepts(key); !accepted {
		if others == Reject {
			return &Refused{Field: named(key)}
		}
		delete(m, key)
		return nil
	}
	var err error
	switch {
	case s == StoredHash:
		m[key], err = keys.replace(Hash, scope, key, v, true)
	case s == StoredPseudonym:
		m[key], err = keys.replace(Pseudonym, scope, key, v, true)
	case v.Kind() == filter.KindString:
		var text string
		text, err = p.inspect(named(key), v.AsString(), found)
		m[key] = filter.String(text)
	case v.Kind() == filter.KindStrings:
		texts := slices.Clone(v.AsStrings())
		for i := range texts {
			if texts[i], err = p.inspect(named(key), texts[i], found); err != nil {
				return err
			}
		}
		m[key] = filter.Strings(texts...)
	}
	return err
}

// storing is how values of a key are stored.
func (p *Plan) storing(key string) Storing {
	out := Keep
	for _, r := range p.rules {
		if s, is := pick(r.Keys, key); is && slices.Index(storings, s) > slices.Index(storings, out) {
			out = s
		}
	}
	return out
}

func (p *Plan) accepts(key string) (accepted bool, others Storing) {
	accepted, others = true, Drop
	for _, r := range p.rules {
		if r.Accept == nil || slices.ContainsFunc(r.Accept, func(pattern string) bool { return key == pattern || stands(pattern, key) }) {
			continue
		}
		accepted = false
		if r.Others != Drop {
			others = Reject
		}
	}
	return accepted, others
}

// stands reports whether a pattern that ends in a star stands for key.
func stands(pattern, key string) bool {
	prefix, star := strings.CutSuffix(pattern, "*")
	return star && strings.HasPrefix(key, prefix)
}

// inspect is a text as it may be stored; what is to be tagged goes into found.
func (p *Plan) inspect(field, text string, found map[Kind]bool) (string, error) {
	if len(p.detect) == 0 {
		return text, nil
	}
	var b strings.Builder
	at := 0
	for _, f := range Find(text) {
		switch p.detect[f.Kind] {
		case Reject:
			return "", &Refused{field, f.Kind}
		case Tag:
			found[f.Kind] = true
		case StoredMask:
			b.WriteString(text[at:f.From])
			b.WriteString("[" + string(f.Kind) + "]")
			at = f.To
		}
	}
	if at == 0 {
		return text, nil
	}
	b.WriteString(text[at:])
	return b.String(), nil
}

// Where is a condition as it is to be asked of what is stored: an equality with
// a value of a hashed key, or of one of pseudonyms, holds for the value, which
// may be there from before the rule, and for what the rule makes of it.
func (p *Plan) Where(keys *Keys, scope string, e *filter.Expr) (*filter.Expr, error) {
	if !p.keyed {
		return e, nil
	}
	parts := 0
	return e.Rewrite(func(c filter.Condition, it *filter.Expr) (*filter.Expr, error) {
		t := Hash
		switch p.storing(c.Key) {
		case StoredPseudonym:
			t = Pseudonym
		case StoredHash:
		default:
			return it, nil
		}
		if !equality(c) {
			return it, nil
		}
		if parts += len(c.Values) * keys.Len(); parts > filter.MaxParts {
			return nil, fmt.Errorf("%w: %w: more than %d values of keys that are stored as %s", filter.ErrWhere, filter.ErrTooLarge, filter.MaxParts/keys.Len(), t)
		}
		return stored(keys, scope, c, t)
	})
}

// RuleWhere is a rule about records as it is asked of what is stored: an
// equality with a value holds for the value and for each hash and pseudonym of
// it, whatever is stored so today. Rules about storing come and go, and go by
// names that change; a rule by which records are hidden must not show those of
// before then. keys may be nil: the store has none, and so no hash either.
func RuleWhere(keys *Keys, scope string, e *filter.Expr) (*filter.Expr, error) {
	if keys == nil {
		return e, nil
	}
	parts := 0
	return e.Rewrite(func(c filter.Condition, it *filter.Expr) (*filter.Expr, error) {
		if !equality(c) {
			return it, nil
		}
		if parts += 2 * len(c.Values) * keys.Len(); parts > filter.MaxParts {
			return nil, fmt.Errorf("%w: a rule about records with more than %d values", filter.ErrTooLarge, filter.MaxParts/(2*keys.Len()))
		}
		return stored(keys, scope, c, Hash, Pseudonym)
	})
}

// equality reports whether a condition compares metadata with whole values.
func equality(c filter.Condition) bool {
	return c.Key != filter.DocumentKey && slices.Contains([]string{"$eq", "$ne", "$in", "$nin", "$contains", "$not_contains"}, c.Operator)
}

// stored is an equality with what the values of a condition may be stored as.
func stored(keys *Keys, scope string, c filter.Condition, as ...Treatment) (*filter.Expr, error) {
	var texts []filter.Value
	for _, v := range c.Values {
		for _, t := range as {
			if v.Kind() == filter.KindString && keys.own(t, scope, c.Key, v.AsString()) {
				continue // asks for what was read
			}
			made, err := keys.every(t, scope, c.Key, v)
			if err != nil {
				return nil, err
			}
			for _, text := range made {
				texts = append(texts, filter.String(text))
			}
		}
	}
	switch c.Operator {
	case "$contains", "$not_contains":
		var each []*filter.Expr
		for _, v := range slices.Concat(c.Values, texts) {
			if c.Operator == "$contains" {
				each = append(each, filter.Contains(c.Key, v))
			} else {
				each = append(each, filter.NotContains(c.Key, v))
			}
		}
		if c.Operator == "$contains" {
			return filter.Or(each...), nil
		}
		return filter.And(each...), nil
	}
	return oneOf(c.Key, slices.Concat(c.Values, texts), c.Operator == "$ne" || c.Operator == "$nin"), nil
}
