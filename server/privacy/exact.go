package privacy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// forms are the names of fields by the place of their objects; objects at
// other places may have any.
type forms map[string][]string

// exact refuses JSON that two readers could understand differently: a field
// twice, an unknown one, or one in another case, which encoding/json takes, text
// behind the end, broken UTF-8. And null, which would be no rule where one was
// begun.
func exact(b []byte, fields forms) error {
	if !utf8.Valid(b) {
		return errors.New("not UTF-8")
	}
	if !json.Valid(b) { // which bounds the nesting
		return errors.New("not JSON")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if err := fields.value(d, ""); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("text behind its end")
	}
	return nil
}

// value reads the value at a place.
func (f forms) value(d *json.Decoder, at string) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	switch token {
	case json.Delim('['):
		for d.More() {
			if err := f.value(d, at+"[]"); err != nil {
				return err
			}
		}
	case json.Delim('{'):
		seen := map[string]bool{}
		for d.More() {
			token, err := d.Token()
			if err != nil {
				return err
			}
			name, _ := token.(string)
			if seen[name] {
				return fmt.Errorf("field %.80q twice", name)
			}
			seen[name] = true
			if known := f[at]; known != nil && !slices.Contains(known, name) {
				return fmt.Errorf("unknown field %.80q", name)
			}
			if err := f.value(d, at+"."+name); err != nil {
				return err
			}
		}
	case nil:
		return fmt.Errorf("%s: nothing behind it; leave it out for no rule", strings.TrimPrefix(at, "."))
	default:
		return nil
	}
	_, err = d.Token()
	return err
}
