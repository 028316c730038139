package privacy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/chromad/chromad/internal/strict"
)

// Treatment is what becomes of a field on its way to somebody.
type Treatment string

// The treatments, from the most permissive to the strictest one.
const (
	Visible   Treatment = "visible"   // as it is stored
	Pseudonym Treatment = "pseudonym" // the same text for the same value; who has the key can turn it back
	Hash      Treatment = "hash"      // the same text for the same value; nobody can turn it back
	Mask      Treatment = "mask"      // that there is a value, and of which type
	Hide      Treatment = "hide"      // as if it were not there
)

var treatments = []Treatment{Visible, Pseudonym, Hash, Mask, Hide}

// strictness orders treatments; what is not known is the strictest.
func (t Treatment) strictness() int {
	if i := slices.Index(treatments, t); i >= 0 {
		return i
	}
	return len(treatments)
}

func stricter(a, b Treatment) Treatment {
	if b.strictness() > a.strictness() {
		return b
	}
	return a
}

// Fields are rules about the fields of records. What they do not name is
// visible.
type Fields struct {
	Document  Treatment `json:"document,omitempty" yaml:"document,omitempty"`
	URI       Treatment `json:"uri,omitempty" yaml:"uri,omitempty"`
	Embedding Treatment `json:"embedding,omitempty" yaml:"embedding,omitempty"` // visible or hide
	// Metadata is by key: the key itself, else the longest "prefix*" that it
	// begins with, else "*".
	Metadata map[string]Treatment `json:"metadata,omitempty" yaml:"metadata,omitempty"`
}

const (
	maxKeyRules = 1000
	maxKeyRule  = 256 // bytes of a key or prefix
)

// Empty reports whether there are no rules.
func (f *Fields) Empty() bool {
	return f.Document == "" && f.URI == "" && f.Embedding == "" && len(f.Metadata) == 0
}

// UnmarshalJSON refuses null and an empty object, which would be no rule where
// one was meant, and fields that it does not know.
func (f *Fields) UnmarshalJSON(b []byte) error {
	type plain Fields
	if err := strict.DecodeRules(b, (*plain)(f)); err != nil {
		return fmt.Errorf("fields: %w", err)
	}
	if f.Empty() {
		return errors.New("fields: empty; leave it out for no rule")
	}
	return nil
}

// Check tells what is wrong with the rules.
func (f *Fields) Check() error {
	for _, x := range []struct {
		field string
		t     Treatment
	}{{"document", f.Document}, {"uri", f.URI}, {"embedding", f.Embedding}} {
		if x.t != "" && !slices.Contains(treatments, x.t) {
			return fmt.Errorf("fields: %s: %.40q, which is none of visible, pseudonym, hash, mask, hide", x.field, string(x.t))
		}
	}
	if f.Embedding != "" && f.Embedding != Visible && f.Embedding != Hide {
		return fmt.Errorf("fields: embedding: %s; an embedding is visible or hidden (hide)", f.Embedding)
	}
	if len(f.Metadata) > maxKeyRules {
		return fmt.Errorf("fields: metadata: %d keys, at most %d", len(f.Metadata), maxKeyRules)
	}
	for key, t := range f.Metadata {
		if err := checkPattern(key); err != nil {
			return fmt.Errorf("fields: metadata: %w", err)
		}
		if !slices.Contains(treatments, t) {
			return fmt.Errorf("fields: metadata: %q: %.40q, which is none of visible, pseudonym, hash, mask, hide", key, string(t))
		}
	}
	return nil
}

// checkPattern allows a key, "prefix*" and "*".
func checkPattern(key string) error {
	switch {
	case key == "" || len(key) > maxKeyRule:
		return fmt.Errorf("%.40q: a key has 1 to %d bytes", key, maxKeyRule)
	case strings.Contains(strings.TrimSuffix(key, "*"), "*"):
		return fmt.Errorf("%q: a star stands at the end only", key)
	case key[0] == '#' || key[0] == '$':
		return fmt.Errorf("%q: no key of metadata begins with %q", key, key[0])
	}
	return nil
}

// pick is the value under key, else under the longest "prefix*" of it.
func pick[V any](m map[string]V, key string) (v V, found bool) {
	if v, found = m[key]; found && !strings.HasSuffix(key, "*") {
		return v, true
	}
	longest := -1
	found = false
	for pattern, x := range m {
		prefix, star := strings.CutSuffix(pattern, "*")
		if star && len(prefix) > longest && strings.HasPrefix(key, prefix) {
			v, found, longest = x, true, len(prefix)
		}
	}
	return v, found
}

// of is the treatment of a field: a metadata key, or one of the names below.
func (f *Fields) of(field string) Treatment {
	var t Treatment
	switch field {
	case documentField:
		t = f.Document
	case uriField:
		t = f.URI
	case embeddingField:
		t = f.Embedding
	default:
		t, _ = pick(f.Metadata, field)
	}
	if t == "" {
		return Visible
	}
	return t
}

// Names of fields beside metadata keys, none of which begins with #.
const (
	documentField  = "#document"
	uriField       = "#uri"
	embeddingField = "#embedding"
)

// Sight is what somebody sees of the records of a collection; nil: everything.
type Sight struct {
	// grants are groups of rules. Within a group the most permissive rule about
	// a field counts, of several groups the strictest.
	grants [][]*Fields
}

// See is what grants come to that each let somebody do the same to records:
// anywhere are the rules of those that let him do it to all of them, some
// of those that let him do it to some; nil is a grant without rules.
//
// What one grant shows of all records it shows, whatever the others do not. One
// that shows more of some records counts for nothing beside it: which grant let
// a record through is not looked at. Without a grant about all records the
// strictest counts of those about some, for the same reason.
func See(anywhere, some []*Fields) *Sight {
	s := &Sight{}
	switch {
	case slices.Contains(anywhere, nil):
	case len(anywhere) > 0:
		s.grants = append(s.grants, anywhere)
	default:
		for _, f := range some {
			if f != nil {
				s.grants = append(s.grants, []*Fields{f})
			}
		}
	}
	if len(s.grants) == 0 {
		return nil
	}
	return s
}

// With is what both allow.
func (s *Sight) With(other *Sight) *Sight {
	switch {
	case s == nil:
		return other
	case other == nil:
		return s
	}
	return &Sight{slices.Concat(s.grants, other.grants)}
}

// of is the treatment of a field.
func (s *Sight) of(field string) Treatment {
	if s == nil {
		return Visible
	}
	out := Visible
	for _, group := range s.grants {
		best := Hide
		for _, f := range group {
			if t := f.of(field); t.strictness() < best.strictness() {
				best = t
			}
		}
		out = stricter(out, best)
	}
	return out
}

// Keyed reports whether some field is hashed or made a pseudonym.
func (s *Sight) Keyed() bool {
	keyed := func(t Treatment) bool { return t == Hash || t == Pseudonym }
	for _, group := range s.grants {
		for _, f := range group {
			if keyed(f.Document) || keyed(f.URI) {
				return true
			}
			for _, t := range f.Metadata {
				if keyed(t) {
					return true
				}
			}
		}
	}
	return false
}

// Shows reports whether a metadata key is visible.
func (s *Sight) Shows(key string) bool { return s.of(key) == Visible }
