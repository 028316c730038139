// Package strict reads JSON that can be understood in one way only: every field
// is known, by its exact name, and is there once; the text is UTF-8 and ends
// with its value. encoding/json alone takes a field in any case, and the last of
// two, so that whoever looks at a text may see another rule than the program does.
package strict

import (
	"bytes"
	"cmp"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"
)

// Decode reads b into v, a pointer. Of types that read JSON by themselves only
// what is common to all objects is looked at: no field is there twice.
func Decode(b []byte, v any) error { return decode(b, v, false) }

// DecodeRules is Decode for what begins no rule without giving one: null is an error.
func DecodeRules(b []byte, v any) error { return decode(b, v, true) }

func decode(b []byte, v any, noNull bool) error {
	if !utf8.Valid(b) {
		return errors.New("not UTF-8")
	}
	if err := json.Unmarshal(b, v); err != nil { // which bounds the nesting
		return err
	}
	r := reader{json.NewDecoder(bytes.NewReader(b)), noNull}
	return r.value(reflect.TypeOf(v), "")
}

type reader struct {
	*json.Decoder
	noNull bool
}

// value reads one value that is meant for t; nil: for anything.
func (r *reader) value(t reflect.Type, at string) error {
	token, err := r.Token()
	if err != nil {
		return err
	}
	switch token {
	case json.Delim('['):
		for r.More() {
			if err := r.value(elementOf(t), at+"[]"); err != nil {
				return err
			}
		}
	case json.Delim('{'):
		if err := r.fields(t, at); err != nil {
			return err
		}
	case nil:
		if r.noNull {
			return fmt.Errorf("%s: nothing behind it; leave it out for no rule", strings.TrimPrefix(at, "."))
		}
		return nil
	default:
		return nil
	}
	_, err = r.Token()
	return err
}

func (r *reader) fields(t reflect.Type, at string) error {
	fields := fieldsOf(t)
	seen := map[string]bool{}
	for r.More() {
		token, err := r.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string)
		if seen[name] {
			return fmt.Errorf("field %.80q twice", name)
		}
		seen[name] = true
		in, known := fields[name]
		if fields == nil {
			in, known = elementOf(t), true
		}
		if !known {
			return fmt.Errorf("unknown field %.80q", name)
		}
		if err := r.value(in, at+"."+name); err != nil {
			return err
		}
	}
	return nil
}

// fieldsOf are the fields of a structure, by their names in JSON; nil: t is
// none, or reads JSON by itself.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	t = pointed(t)
	if t == nil || t.Kind() != reflect.Struct || readsItself(t) {
		return nil
	}
	out := map[string]reflect.Type{}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			for inner, of := range fieldsOf(f.Type) {
				out[inner] = of
			}
		case f.IsExported() && name != "-":
			out[cmp.Or(name, f.Name)] = f.Type
		}
	}
	return out
}

func readsItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func elementOf(t reflect.Type) reflect.Type {
	t = pointed(t)
	if t == nil || readsItself(t) {
		return nil
	}
	switch t.Kind() {
	case reflect.Slice, reflect.Map, reflect.Array:
		return t.Elem()
	}
	return nil
}

func pointed(t reflect.Type) reflect.Type {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}
