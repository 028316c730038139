package strict

import (
	"strings"
	"testing"
)

type part struct {
	Name string `json:"name"`
}

type whole struct {
	part
	Parts []part          `json:"parts"`
	By    map[string]part `json:"by"`
	Any   any             `json:"any"`
	Never string          `json:"-"`
}

func TestDecode(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`{"name":"a","parts":[{"name":"b"}],"by":{"x":{"name":"c"},"Name":{}},"any":{"q":[1,{"r":null}]}}`, ""},
		{`{}`, ""},
		{`null`, ""},
		{`{"Name":"a"}`, `unknown field "Name"`},
		{`{"name":"a","name":"a"}`, `"name" twice`},
		{`{"parts":[{"name":"b"},{"nam":"b"}]}`, `unknown field "nam"`},
		{`{"by":{"x":{"NAME":"c"}}}`, `unknown field "NAME"`},
		{`{"by":{"x":{},"x":{}}}`, `"x" twice`},
		{`{"any":{"a":{"b":1,"b":2}}}`, `"b" twice`},
		{`{"Never":"a"}`, "unknown field"},
		{`{"-":"a"}`, "unknown field"},
		{`{"name":"a"} {}`, "after top-level value"},
		{`{"name":"` + "\xff" + `"}`, "UTF-8"},
		{`{"name":1}`, "cannot unmarshal"},
		{`{"any":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`, "depth"},
	} {
		var v whole
		if err := Decode([]byte(c.text), &v); c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%.60s: %v, and not %q", c.text, err, c.want)
		}
	}
	var v whole
	if err := DecodeRules([]byte(`{"by":{"x":null}}`), &v); err == nil || !strings.Contains(err.Error(), "by.x: nothing") {
		t.Errorf("a rule that is null: %v", err)
	}
}
