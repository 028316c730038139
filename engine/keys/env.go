package keys

import (
	"encoding/base64"
	"os"
	"strings"
)

// GenerateEnv makes the value of an environment variable for OpenEnv: base64 of
// what Generate makes. It is the secret.
func GenerateEnv() (string, error) {
	text, err := Generate()
	if err != nil {
		return "", err
	}
	defer clear(text)
	return base64.StdEncoding.EncodeToString(text), nil
}

// OpenEnv opens the key in an environment variable: base64 of the JSON of a key
// file. White space, as of lines that a tool has broken, does not count.
func OpenEnv(name string) (Operator, error) {
	uri := "env://" + name
	bad := func(detail, check string) error {
		return &Error{URI: uri, Op: "open", Kind: ErrConfig, Detail: detail, Check: check}
	}
	if name == "" || strings.ContainsAny(name, "=/\x00") {
		return nil, bad("that is no name of a variable", "write env://NAME")
	}
	value, set := os.LookupEnv(name)
	value = strings.Join(strings.Fields(value), "")
	const create = "chromad keys create --env"
	const make = "make a value with: " + create
	switch {
	case !set:
		return nil, bad("variable "+name+" is not set", "set it in the environment of the process")
	case value == "":
		return nil, bad("variable "+name+" is empty", make)
	case len(value) > 2*maxKeyset:
		return nil, bad("variable "+name+" is too long for a keyset", make)
	case value[0] == '{':
		return nil, bad("variable "+name+" holds JSON, and base64 of it is wanted", "encode it: base64 < FILE")
	}
	text, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return nil, bad("variable "+name+" is not base64", make)
	}
	return newLocal(uri, "check that "+name+" holds the key that the store was made with", create, text)
}
