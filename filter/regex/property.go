package regex

import (
	"strings"
	"unicode"
)

// normalName reduces a property name as UAX 44, rule LM3: case, spaces,
// hyphens, underscores and a leading "is" do not count.
func normalName(s string) string {
	is := len(s) >= 2 && strings.EqualFold(s[:2], "is")
	if is {
		s = s[2:]
	}
	var b strings.Builder
	for _, r := range s {
		if r != ' ' && r != '_' && r != '-' && r < 0x80 {
			b.WriteRune(unicode.ToLower(r))
		}
	}
	if is && b.String() == "c" {
		return "isc" // the abbreviation of ISO_Comment, not "is" and "c"
	}
	return b.String()
}

// alias looks a normalised name up in one of the lists of names.go.
func alias(list, name string) (string, bool) {
	_, rest, found := strings.Cut(list, " "+name+":")
	if !found || name == "" {
		return "", false
	}
	full, _, _ := strings.Cut(rest, " ")
	return full, true
}

// property is the set of \p{query}, where query is "name", "name=value",
// "name:value" or "name!=value"; the last
// means the complement, but other cases are added before that is taken, so it
// is left to the caller. err is one of the parser's texts.
func property(query string) (s set, err string) {
	name, value, byValue := query, "", false
	for _, op := range []string{"!=", ":", "="} {
		if n, v, found := strings.Cut(query, op); found {
			name, value, byValue = n, v, true
			break
		}
	}
	if !byValue {
		return named(normalName(name))
	}
	full, _ := alias(propertyAliases, normalName(name))
	switch full {
	case "General_Category":
		s, err = category(normalName(value))
	case "Script":
		s, err = script(normalName(value))
	default:
		return nil, errProperty
	}
	if err != "" {
		err = "Unicode property value not found"
	}
	return s, err
}

// unequal reports whether a query is of the form "name!=value".
func unequal(query string) bool { return strings.Contains(query, "!=") }

const errProperty = "Unicode property not found, or not supported by this server"

// named is the set of a bare name: a property, a category or a script.
func named(name string) (set, string) {
	if name != "cf" && name != "sc" && name != "lc" { // categories come first for these
		if full, found := alias(propertyAliases, name); found {
			return boolean(full)
		}
		if strings.Contains(otherProperties, " "+name+" ") {
			return nil, errProperty
		}
	}
	if s, err := category(name); err == "" {
		return s, ""
	}
	return script(name)
}

// boolean is the set of a property that a character has or has not.
func boolean(full string) (set, string) {
	switch full {
	case "Alphabetic":
		return alphabetic(), ""
	case "Lowercase":
		return fromTable(unicode.Ll, unicode.Other_Lowercase), ""
	case "Uppercase":
		return fromTable(unicode.Lu, unicode.Other_Uppercase), ""
	case "Cased":
		return fromTable(unicode.Ll, unicode.Other_Lowercase, unicode.Lu, unicode.Other_Uppercase, unicode.Lt), ""
	case "Math":
		return fromTable(unicode.Sm, unicode.Other_Math), ""
	}
	if t := unicode.Properties[full]; t != nil && !strings.HasPrefix(full, "Other_") {
		return fromTable(t), ""
	}
	return nil, errProperty
}

// category is the set of a general category.
func category(name string) (set, string) {
	switch name {
	case "any":
		return set(nil).negate(unicode.MaxRune), ""
	case "ascii":
		return set{{0, 0x7F}}, ""
	case "assigned":
		return fromTable(unicode.Categories["Cn"]).negate(unicode.MaxRune), ""
	case "cs", "surrogate":
		return nil, errProperty // no text has one
	}
	for long, short := range unicode.CategoryAliases {
		if normalName(long) == name {
			name = strings.ToLower(short)
			break
		}
	}
	for short, t := range unicode.Categories {
		if strings.ToLower(short) == name {
			return fromTable(t), ""
		}
	}
	return nil, errProperty
}

// script is the set of a script, by its long or its four-letter name.
func script(name string) (set, string) {
	if full, found := alias(scriptAliases, name); found {
		return fromTable(unicode.Scripts[full]), ""
	}
	for full, t := range unicode.Scripts {
		if normalName(full) == name {
			return fromTable(t), ""
		}
	}
	return nil, errProperty
}

func alphabetic() set {
	return fromTable(unicode.L, unicode.Nl, unicode.Other_Alphabetic)
}

// Sets of the Perl classes, Unicode and ASCII (UTS 18, annex C).

func wordSet() set {
	return union(alphabetic(), fromTable(unicode.M, unicode.Nd, unicode.Pc, unicode.Join_Control))
}

func asciiWordSet() set { return set{{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}} }

func asciiSpaceSet() set { return set{{'\t', '\r'}, {' ', ' '}} }

// asciiClass is the set of [:name:], nil for an unknown name.
func asciiClass(name string) set {
	switch name {
	case "alnum":
		return set{{'0', '9'}, {'A', 'Z'}, {'a', 'z'}}
	case "alpha":
		return set{{'A', 'Z'}, {'a', 'z'}}
	case "ascii":
		return set{{0, 0x7F}}
	case "blank":
		return set{{'\t', '\t'}, {' ', ' '}}
	case "cntrl":
		return set{{0, 0x1F}, {0x7F, 0x7F}}
	case "digit":
		return set{{'0', '9'}}
	case "graph":
		return set{{'!', '~'}}
	case "lower":
		return set{{'a', 'z'}}
	case "print":
		return set{{' ', '~'}}
	case "punct":
		return set{{'!', '/'}, {':', '@'}, {'[', '`'}, {'{', '~'}}
	case "space":
		return asciiSpaceSet()
	case "upper":
		return set{{'A', 'Z'}}
	case "word":
		return asciiWordSet()
	case "xdigit":
		return set{{'0', '9'}, {'A', 'F'}, {'a', 'f'}}
	}
	return nil
}
