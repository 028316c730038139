package access

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/chromad/chromad/filter"
)

// Where is a rule about records: a where clause of Chroma, a condition on
// metadata, in which values of the principal may stand for texts:
//
//	${user.name}        his name
//	${attributes.NAME}  of a user of the policy
//	${claims.NAME}      of a token, as far as the configuration of its issuer names the claim
//
// Where one text is asked for, he must have exactly one; $in and $nin take all
// that he has. A rule with a value that he has not matches nothing.
type Where map[string]any

const (
	maxWhere      = 16 << 10
	maxWhereDepth = 32      // leaves room for what joins rules
	maxExact      = 1 << 53 // beyond it a number may have changed between JSON and YAML
)

// UnmarshalJSON refuses null, which would be no rule where one was meant.
func (w *Where) UnmarshalJSON(b []byte) error {
	if b = bytes.TrimSpace(b); len(b) == 0 || b[0] != '{' {
		return errors.New("where: not an object; leave it out for no rule")
	}
	var m map[string]any
	err := json.Unmarshal(b, &m)
	*w = m
	return err
}

// check tells what is wrong with a rule that is not nil.
func (w Where) check() error {
	if len(w) == 0 {
		return errors.New("where: empty; leave it out for no rule")
	}
	b, err := json.Marshal(w)
	if err != nil {
		return fmt.Errorf("where: %w", err)
	}
	if len(b) > maxWhere {
		return fmt.Errorf("where: %d bytes, at most %d", len(b), maxWhere)
	}
	if err := checkOperand(map[string]any(w), 0); err != nil {
		return fmt.Errorf("where: %w", err)
	}
	e, err := w.parse(func(string) []string { return []string{"x"} })
	if err != nil {
		return fmt.Errorf("where: %w", err)
	}
	for key := range e.Operands() {
		if key == filter.DocumentKey {
			return errors.New("where: a rule is about metadata, not about documents")
		}
	}
	return nil
}

// checkOperand looks at what parsing does not see.
func checkOperand(v any, depth int) error {
	if depth > 4*maxWhereDepth {
		return fmt.Errorf("nested deeper than %d", maxWhereDepth)
	}
	switch v := v.(type) {
	case map[string]any:
		for key, operand := range v {
			if strings.Contains(key, "${") {
				return fmt.Errorf("%q: a value of the principal cannot be a key", key)
			}
			if err := checkOperand(operand, depth+1); err != nil {
				return err
			}
		}
	case []any:
		for _, e := range v {
			if err := checkOperand(e, depth+1); err != nil {
				return err
			}
		}
	case float64:
		if math.Abs(v) >= maxExact {
			return fmt.Errorf("%v: numbers of a rule are below 2^53", v)
		}
	case string:
		if _, is := reference(v); !is && strings.Contains(v, "${") {
			return fmt.Errorf("%q: a text is ${user.name}, ${attributes.NAME} or ${claims.NAME} as a whole, or has no ${ in it", v)
		}
	}
	return nil
}

// reference is what a text refers to, such as user.name.
func reference(text string) (name string, is bool) {
	name, begins := strings.CutPrefix(text, "${")
	name, ends := strings.CutSuffix(name, "}")
	kind, of, _ := strings.Cut(name, ".")
	known := name == "user.name" || (kind == "attributes" || kind == "claims") && of != ""
	return name, begins && ends && known && !strings.ContainsAny(of, "{}")
}

// bind is the rule for somebody who has the values.
func (w Where) bind(values func(reference string) []string) *filter.Expr {
	e, err := w.parse(values)
	if err != nil || e == nil {
		return filter.Or() // nothing
	}
	return e
}

var errNoValue = errors.New("a value that the principal has not")

func (w Where) parse(values func(reference string) []string) (*filter.Expr, error) {
	whole, ok := substitute(map[string]any(w), values)
	if !ok {
		return nil, errNoValue
	}
	b, err := json.Marshal(whole)
	if err != nil {
		return nil, err
	}
	return filter.ParseWhere(b)
}

// substitute copies v with the values in the place of references.
func substitute(v any, values func(reference string) []string) (any, bool) {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, operand := range v {
			if _, is := textReference(operand); is && (key == "$in" || key == "$nin") {
				operand = []any{operand} // which takes all values
			}
			var ok bool
			if out[key], ok = substitute(operand, values); !ok {
				return nil, false
			}
		}
		return out, true
	case []any:
		out := make([]any, 0, len(v))
		for _, e := range v {
			if name, is := textReference(e); is {
				have := values(name)
				for _, x := range have {
					out = append(out, x)
				}
				if len(have) == 0 {
					return nil, false
				}
				continue
			}
			x, ok := substitute(e, values)
			if !ok {
				return nil, false
			}
			out = append(out, x)
		}
		return out, true
	}
	name, is := textReference(v)
	if !is {
		return v, true
	}
	have := values(name)
	if len(have) != 1 {
		return nil, false
	}
	return have[0], true
}

func textReference(v any) (string, bool) {
	text, is := v.(string)
	if !is {
		return "", false
	}
	return reference(text)
}

// Attributes are what is known of a user, lists of texts by name.
type Attributes map[string][]string

const (
	maxAttributes = 100
	maxValues     = 1000 // of an attribute
	maxValue      = 256  // bytes
)

func (a Attributes) check() error {
	if len(a) > maxAttributes {
		return fmt.Errorf("%d attributes, at most %d", len(a), maxAttributes)
	}
	for name, values := range a {
		if err := checkName("attribute", name); err != nil {
			return err
		}
		if len(values) > maxValues {
			return fmt.Errorf("attribute %s: %d values, at most %d", name, len(values), maxValues)
		}
		for _, v := range values {
			if v == "" || len(v) > maxValue || !utf8.ValidString(v) {
				return fmt.Errorf("attribute %s: a value has 1 to %d bytes of UTF-8", name, maxValue)
			}
		}
	}
	return nil
}

// valuesOf are the values of a principal, by reference.
func valuesOf(name string, attributes, claims map[string][]string) func(string) []string {
	return func(reference string) []string {
		kind, of, _ := strings.Cut(reference, ".")
		switch {
		case reference == "user.name" && name != "":
			return []string{name}
		case kind == "attributes":
			return attributes[of]
		case kind == "claims":
			return claims[of]
		}
		return nil
	}
}
