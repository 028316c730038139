package server

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// checkName says what is wrong with the name of a database or collection, ""
// when nothing is.
func checkName(name string) string {
	ends := len(name) > 0 && alphanumeric(name[0]) && alphanumeric(name[len(name)-1])
	for i := 0; ends && i < len(name); i++ {
		ends = alphanumeric(name[i]) || strings.IndexByte("._-", name[i]) >= 0
	}
	switch {
	case !ends || len(name) < 3 || len(name) > 512:
		return "Expected a name containing 3-512 characters from [a-zA-Z0-9._-], starting and ending with a character in [a-zA-Z0-9]. Got: " + clipName(name)
	case strings.Contains(name, ".."):
		return "Expected a name that does not contains two consecutive periods (..). Got " + name
	case isIPv4(name):
		return "Expected a name that is not a valid ip address. Got " + name
	}
	return ""
}

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func isIPv4(name string) bool {
	groups := strings.Split(name, ".")
	if len(groups) != 4 {
		return false
	}
	for _, g := range groups {
		if n, err := strconv.ParseUint(g, 10, 16); err != nil || n > 255 || len(g) > 3 {
			return false
		}
	}
	return true
}

// clipName repeats a name in a message, but not a whole body of it.
func clipName(name string) string {
	if len(name) <= 1024 {
		return name
	}
	return strings.ToValidUTF8(name[:1024], "") + "…"
}

// checkDatabaseName is checkName, with Chroma's "topology+name" beside it.
func checkDatabaseName(name string) string {
	if topology, local, ok := strings.Cut(name, "+"); ok && checkName(topology) == "" {
		return checkName(local)
	}
	return checkName(name)
}

// checkFreeName checks the name of a tenant or resource, which is any text of
// at least 3 characters.
func checkFreeName(field, name string) error {
	if n := utf8.RuneCountInString(name); n < 3 {
		return invalid("Validation error: %s: Validation error: length [{\"min\": Number(3), \"value\": String(%s)}]", field, strconv.Quote(name))
	}
	if len(name) > maxNameBytes {
		return invalid("Validation error: %s: %d bytes, at most %d are allowed", field, len(name), maxNameBytes)
	}
	return nil
}

func parseQuery(raw string) (url.Values, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, invalid("Failed to deserialize query string: %v", err)
	}
	for name, list := range values {
		for _, v := range list {
			if !utf8.ValidString(name) || !utf8.ValidString(v) {
				return nil, invalid("Failed to deserialize query string: invalid utf-8")
			}
		}
	}
	return values, nil
}

// multiRegion refuses what Chroma refuses in databases of the form "topology+name".
func multiRegion(at string, what string) error {
	if strings.Contains(at, "+") {
		return invalid("%s", fmt.Sprintf("multi-region databases do not support %s", what))
	}
	return nil
}
