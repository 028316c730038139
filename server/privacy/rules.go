package privacy

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/chromad/chromad/internal/strict"
)

// Rules are what an operator decided about what may be stored. The stored form
// is JSON; unknown fields are errors, since one that a reader does not know may
// be the one that forbids.
type Rules struct {
	Version int    `json:"version"` // 1
	Rules   []Rule `json:"rules"`
}

// Rule is about the records of some collections. Of several rules about one
// collection all hold: about a field the strictest one.
type Rule struct {
	On Scope `json:"on,omitzero"`
	// Accept are the metadata keys that may be stored ("key", "prefix*"); nil: all; an empty list: none.
	Accept []string `json:"accept,omitzero"`
	// Others is what becomes of other keys: "reject" (also when empty) refuses
	// the request, "drop" leaves them out.
	Others Storing `json:"others,omitempty"`
	// Keys is how values are stored, by key or "prefix*".
	Keys     map[string]Storing `json:"keys,omitempty"`
	Document Storing            `json:"document,omitempty"` // drop, or empty
	URI      Storing            `json:"uri,omitempty"`      // drop, or empty
	// Detect is what becomes of personal data that Find recognises in documents,
	// uris and texts of metadata, by kind; "*" stands for the kinds that are not named.
	Detect map[Kind]Storing `json:"detect,omitempty"`
	// Tag is the metadata key that tells what was found, "pii" when empty.
	Tag string `json:"tag,omitempty"`
}

// Scope is where a rule holds. Each field is a pattern in which * stands for
// any text; an empty one is *.
type Scope struct {
	Tenant     string `json:"tenant,omitempty"`
	Database   string `json:"database,omitempty"`
	Collection string `json:"collection,omitempty"`
}

// Storing is what becomes of something before it is stored.
type Storing string

// What may become of it.
const (
	Keep            Storing = "keep"
	Tag             Storing = "tag"       // detected: named in the tag
	StoredPseudonym Storing = "pseudonym" // of keys
	StoredHash      Storing = "hash"      // of keys
	StoredMask      Storing = "mask"      // detected: [kind] stands in its place
	Drop            Storing = "drop"      // of keys, documents and uris
	Reject          Storing = "reject"    // detected, and keys that are not accepted: the request is refused
)

// From the most permissive to the strictest: of keys, and of what is detected.
var (
	storings   = []Storing{Keep, StoredPseudonym, StoredHash, Drop}
	detections = []Storing{Keep, Tag, StoredMask, Reject}
)

const (
	rulesVersion = 1
	maxRules     = 1000
	maxAccepted  = 1000
	maxPattern   = 1024    // bytes of a pattern of a scope
	maxEncoded   = 1 << 20 // bytes of all rules
	defaultTag   = "pii"
)

// Decode reads stored rules and checks them; nothing is no rules.
func Decode(b []byte) (*Rules, error) {
	r := &Rules{Version: rulesVersion, Rules: []Rule{}}
	if len(b) == 0 {
		return r, nil
	}
	if len(b) > maxEncoded {
		return nil, fmt.Errorf("privacy: rules of %d bytes, at most %d", len(b), maxEncoded)
	}
	r.Version = 0 // which has to be told
	if err := strict.DecodeRules(b, r); err != nil {
		return nil, fmt.Errorf("privacy: %w", err)
	}
	return r, r.Check()
}

// Encode is the stored form of rules that Check allows.
func (r *Rules) Encode() ([]byte, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	b, err := json.Marshal(&Rules{r.Version, append([]Rule{}, r.Rules...)}) // never null
	if err == nil && len(b) > maxEncoded {
		err = fmt.Errorf("privacy: rules of %d bytes, at most %d", len(b), maxEncoded)
	}
	return b, err
}

// Check tells what is wrong with rules: which, and why.
func (r *Rules) Check() error {
	switch {
	case r.Version != rulesVersion:
		return fmt.Errorf("privacy: version %d, and this program knows %d", r.Version, rulesVersion)
	case len(r.Rules) > maxRules:
		return fmt.Errorf("privacy: %d rules, at most %d", len(r.Rules), maxRules)
	}
	for i := range r.Rules {
		if err := r.Rules[i].check(); err != nil {
			return fmt.Errorf("privacy: rules[%d]: %w", i, err)
		}
	}
	return nil
}

func (r *Rule) check() error {
	for _, p := range []string{r.On.Tenant, r.On.Database, r.On.Collection} {
		if len(p) > maxPattern {
			return fmt.Errorf("on: a pattern of %d bytes, at most %d", len(p), maxPattern)
		}
	}
	if len(r.Accept) > maxAccepted {
		return fmt.Errorf("accept: %d keys, at most %d", len(r.Accept), maxAccepted)
	}
	for _, key := range r.Accept {
		if err := checkPattern(key); err != nil {
			return fmt.Errorf("accept: %w", err)
		}
	}
	if r.Others != "" && r.Accept == nil {
		return errors.New("others: without accept there are no other keys; accept: [] accepts none")
	}
	if r.Others != "" && r.Others != Drop && r.Others != Reject {
		return fmt.Errorf("others: %.40q, which is neither drop nor reject", string(r.Others))
	}
	if len(r.Keys) > maxKeyRules {
		return fmt.Errorf("keys: %d, at most %d", len(r.Keys), maxKeyRules)
	}
	for key, s := range r.Keys {
		if err := checkPattern(key); err != nil {
			return fmt.Errorf("keys: %w", err)
		}
		if !slices.Contains(storings, s) {
			return fmt.Errorf("keys: %q: %.40q, which is none of keep, pseudonym, hash, drop", key, string(s))
		}
	}
	for field, s := range map[string]Storing{"document": r.Document, "uri": r.URI} {
		if s != "" && s != Keep && s != Drop {
			return fmt.Errorf("%s: %.40q, which is neither keep nor drop", field, string(s))
		}
	}
	return r.checkDetect()
}

func (r *Rule) checkDetect() error {
	tags := false
	for kind, s := range r.Detect {
		if kind != "*" && !slices.Contains(Kinds(), kind) {
			return fmt.Errorf("detect: %.40q is no kind of personal data that is known: %v, and * for the rest", string(kind), Kinds())
		}
		if !slices.Contains(detections, s) {
			return fmt.Errorf("detect: %s: %.40q, which is none of keep, tag, mask, reject", kind, string(s))
		}
		tags = tags || s == Tag
	}
	if r.Tag == "" {
		return nil
	}
	if !tags {
		return errors.New("tag: nothing is tagged: write tag behind a kind in detect")
	}
	if err := checkPattern(r.Tag); err != nil || strings.HasSuffix(r.Tag, "*") {
		return fmt.Errorf("tag: %.40q is no key of metadata", r.Tag)
	}
	return nil
}

// holds reports whether a collection is inside of the scope.
func (s Scope) holds(tenant, database, collection string) bool {
	return wild(s.Tenant, tenant) && wild(s.Database, database) && wild(s.Collection, collection)
}

// wild reports whether name is what pattern stands for.
func wild(pattern, name string) bool {
	if pattern == "" {
		return true
	}
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == name
	}
	name, ok := strings.CutPrefix(name, first)
	if !ok {
		return false
	}
	for {
		part, behind, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(name, part)
		}
		_, name, ok = strings.Cut(name, part)
		if !ok {
			return false
		}
		rest = behind
	}
}
