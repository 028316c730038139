package filter

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// rows is the data of the recorded conformance cases for filters, one record
// for every kind of value, by id.
var rows = map[string]record{
	"int":     {meta: Metadata{"n": Int(5), "s": String("apple"), "b": Bool(true)}},
	"float":   {meta: Metadata{"n": Float(5), "s": String("Apple"), "b": Bool(false)}},
	"half":    {meta: Metadata{"n": Float(5.5), "s": String(""), "b": Int(1)}},
	"six":     {meta: Metadata{"n": Int(6), "s": String("1")}, doc: text("red fox")},
	"big":     {meta: Metadata{"n": Int(1<<53 + 1), "s": Int(1)}, doc: text("")},
	"text":    {meta: Metadata{"n": String("5"), "s": Bool(true)}, doc: text("100% naïve fox 42")},
	"list":    {meta: Metadata{"n": Ints(1, 2), "s": Strings("x", "y"), "b": Bools(true)}},
	"floats":  {meta: Metadata{"n": Floats(2, 3.5), "s": Strings("")}},
	"nothing": {},
}

func text(s string) *string { return &s }

const (
	allRows = "big float floats half int list nothing six text"
	docRows = "big six text"
)

var whereCases = []struct{ where, want string }{
	{`null`, allRows},
	{`{"n":5}`, "float int"},
	{`{"n":5.0}`, "float int"},
	{`{"n":{"$eq":5.5}}`, "half"},
	{`{"n":{"$gte":5.5}}`, "big half six"},
	{`{"n":{"$gt":5}}`, "big half six"},
	{`{"n":{"$lt":5.5}}`, "float int"},
	{`{"n":{"$lte":5.5}}`, "float half int"},
	{`{"n":9007199254740993}`, "big"},
	{`{"n":9007199254740992}`, ""},
	{`{"n":9007199254740992.0}`, ""},
	{`{"n":{"$gt":9007199254740992.0}}`, "big"},
	{`{"n":{"$ne":5}}`, "big floats half list nothing six text"},
	{`{"n":"5"}`, "text"},
	{`{"n":{"$in":[5,6]}}`, "float int six"},
	{`{"n":{"$in":[5.5,6,7]}}`, "half six"},
	{`{"n":{"$nin":[5,6]}}`, "big floats half list nothing text"},
	{`{"n":{"$contains":2}}`, "list"},
	{`{"n":{"$contains":2.0}}`, "floats"},
	{`{"n":{"$not_contains":2}}`, "big float floats half int nothing six text"},
	{`{"s":"apple"}`, "int"},
	{`{"s":""}`, "half"},
	{`{"s":"1"}`, "six"},
	{`{"s":1}`, "big"},
	{`{"s":true}`, "text"},
	{`{"s":{"$contains":"x"}}`, "list"},
	{`{"s":{"$contains":""}}`, "floats"},
	{`{"s":{"$contains":"appl"}}`, ""},
	{`{"b":true}`, "int"},
	{`{"b":1}`, "half"},
	{`{"b":{"$contains":true}}`, "list"},
	{`{"b":{"$ne":false}}`, "big floats half int list nothing six text"},
	{`{"":1}`, ""},
	{`{"a.b c":{"$ne":1}}`, allRows},
	{`{"#id":"x"}`, ""},
	{`{"$and":[]}`, allRows},
	{`{"$or":[]}`, ""},
	{`{"$and":[{"n":{"$gte":5}},{"n":{"$lt":6}}]}`, "float half int"},
	{`{"$or":[{"n":6},{"$and":[{"s":"apple"},{"b":true}]}]}`, "int six"},
	{`{"$and":[{"$or":[]}]}`, ""},
	{`{"#document":{"$contains":"fox"}}`, "six text"},
	{`{"#document":{"$not_contains":"fox"}}`, "big float floats half int list nothing"},
	{`{"#document":{"$regex":"\\d+"}}`, "text"},
	{`{"$and":[{"#document":{"$not_regex":"^red"}},{"#document":{"$contains":""}}]}`, "big text"},
}

var documentCases = []struct{ where, want string }{
	{`null`, allRows},
	{`{"$contains":""}`, docRows},
	{`{"$not_contains":""}`, "float floats half int list nothing"},
	{`{"$contains":"0% n"}`, "text"},
	{`{"$contains":"0_ n"}`, ""},
	{`{"$regex":""}`, docRows},
	{`{"$regex":"na\\wve"}`, "text"},
	{`{"$regex":"(?i)FOX$"}`, "six"},
	{`{"$not_regex":"fox"}`, "big float floats half int list nothing"},
	{`{"$and":[{"$contains":"fox"},{"$not_contains":"red"}]}`, "text"},
	{`{"$or":[]}`, ""},
}

func matching(e *Expr) string {
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(rows)) {
		if e.Match(rows[id].meta, rows[id].doc) {
			ids = append(ids, id)
		}
	}
	return strings.Join(ids, " ")
}

func TestWhere(t *testing.T) {
	for _, c := range whereCases {
		e, err := ParseWhere([]byte(c.where))
		if err != nil {
			t.Errorf("%s: %v", c.where, err)
		} else if got := matching(e); got != c.want {
			t.Errorf("%s matches %s, want %s", c.where, got, c.want)
		}
	}
	for _, c := range documentCases {
		e, err := ParseWhereDocument([]byte(c.where))
		if err != nil {
			t.Errorf("%s: %v", c.where, err)
		} else if got := matching(e); got != c.want {
			t.Errorf("%s matches %s, want %s", c.where, got, c.want)
		}
	}
}

var refusedWhere = []string{
	``, `{}`, `{"a":1,"b":2}`, `{"a":1,"a":1}`, `{"a":{"$gt":1,"$lt":3}}`, `{"a":{"$gt":1,"$gt":1}}`, `{"a":{}}`, `{"a":{"$like":"x"}}`,
	`{"a":{"eq":1}}`, `{"a":null}`, `{"a":{"$eq":null}}`, `{"a":{"$eq":{"x":1}}}`, `{"a":[1]}`, `{"a":{"$eq":[1]}}`, `"a=1"`, `5`, `[{"a":1}]`,
	`true`, `{"$eq":1}`, `{"a":{"$gt":"x"}}`, `{"a":{"$lt":true}}`, `{"a":{"$gte":null}}`, `{"a":{"$regex":"x"}}`, `{"a":{"$exists":true}}`,
	`{"$foo":{"$eq":1}}`, `{"a":{"$in":[]}}`, `{"a":{"$nin":[]}}`, `{"a":{"$in":["a",1]}}`, `{"a":{"$in":[1,2.5]}}`, `{"a":{"$in":[true,1]}}`,
	`{"a":{"$in":[null]}}`, `{"a":{"$in":"red"}}`, `{"a":{"$in":{}}}`, `{"a":{"$in":[["red"]]}}`, `{"a":{"$contains":["x"]}}`,
	`{"a":{"$contains":null}}`, `{"a":{"$contains":{}}}`, `{"$and":{"x":1}}`, `{"$and":1}`, `{"$and":[1]}`, `{"$and":[{}]}`,
	`{"$and":[{"x":1}],"y":1}`, `{"$xor":[]}`, `{"$not":{"x":1}}`, `{"$and":null}`, `{"#document":{"$contains":5}}`, `{"#document":{"$like":"x"}}`,
	`{"a":1e999}`, `{"a":1}}`, `{"a":1} {"b":2}`, `{"a":`, "{\"a\":\"\x01\"}",
}

var refusedDocument = []string{
	``, `{}`, `{"$contains":"a","$not_contains":"b"}`, `{"$contains":1}`, `{"$contains":null}`, `{"$contains":["a"]}`, `{"$like":"a"}`,
	`{"k":"v"}`, `"fox"`, `{"$eq":"fox"}`, `{"$and":{"$contains":"a"}}`, `{"$or":[{}]}`, `{"$regex":1}`, `{"#document":{"$contains":"a"}}`,
}

func TestRefused(t *testing.T) {
	for _, where := range refusedWhere {
		if _, err := ParseWhere([]byte(where)); !errors.Is(err, ErrWhere) || !strings.HasPrefix(err.Error(), "Invalid where clause") {
			t.Errorf("%s: %v", where, err)
		}
	}
	for _, where := range refusedDocument {
		_, err := ParseWhereDocument([]byte(where))
		if !errors.Is(err, ErrWhereDocument) || !strings.HasPrefix(err.Error(), "Invalid where document clause") {
			t.Errorf("%s: %v", where, err)
		}
	}
	want := "Regex syntax errror: regex parse error:\n    (abc\n    ^\nerror: unclosed group"
	for _, f := range []func() error{
		func() error { _, err := ParseWhereDocument([]byte(`{"$not_regex":"(abc"}`)); return err },
		func() error { _, err := ParseWhere([]byte(`{"#document":{"$regex":"(abc"}}`)); return err },
	} {
		if err := f(); !errors.Is(err, ErrRegex) || err.Error() != want {
			t.Errorf("bad pattern: %v", err)
		}
	}
	for _, where := range []string{`{"#document":"x"}`, `{"#document":{"$eq":"x"}}`, `{"#document":{"$in":["x"]}}`} {
		_, err := ParseWhere([]byte(where))
		if err == nil || err.Error() != "Cannot filter using metadata key '#document' with type 'Str' because indexing is disabled" {
			t.Errorf("%s: %v", where, err)
		}
	}
}

// Large clauses are parsed in linear time or refused by name, never worse.
func TestClauseLimits(t *testing.T) {
	nested := func(n int) string {
		return strings.Repeat(`{"$and":[`, n) + `{"a":1}` + strings.Repeat(`]}`, n)
	}
	list := func(n int) string { return `{"a":{"$in":[0` + strings.Repeat(`,1`, n-1) + `]}}` }
	branches := func(n int) string { return `{"$or":[{"a":1}` + strings.Repeat(`,{"a":{"$gt":2}}`, n-1) + `]}` }
	for name, where := range map[string]string{"deep": nested(MaxDepth - 1), "list": list(100_000), "branches": branches(10_000)} {
		if _, err := ParseWhere([]byte(where)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, where := range map[string]string{
		"deep": nested(1000), "one too deep": nested(MaxDepth), "deeper than JSON allows": nested(20_000), "list": list(200_000), "branches": branches(200_000),
	} {
		if _, err := ParseWhere([]byte(where)); !errors.Is(err, ErrWhere) || name != "deeper than JSON allows" && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var wide []record
	for i := range 5000 {
		wide = append(wide, record{meta: Metadata{"a": Int(int64(i))}})
	}
	ix := open(t, build(t, wide), len(wide))
	for _, where := range []string{list(100_000), branches(10_000), nested(60)} {
		e, err := ParseWhere([]byte(where))
		if err != nil {
			t.Fatal(err)
		}
		compareModel(t, ix, e, wide)
	}
}

func TestOperands(t *testing.T) {
	e, err := ParseWhere([]byte(`{"$and":[{"a":1},{"b":{"$in":[1.5,2]}},{"$or":[{"c":{"$contains":"x"}},{"#document":{"$regex":"x"}}]},{"d":{"$ne":true}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for key, kind := range e.Operands() {
		got = append(got, fmt.Sprintf("%s:%s", key, kind))
	}
	if want := "a:Int b:Float c:Str #document:Str d:Bool"; strings.Join(got, " ") != want {
		t.Errorf("operands %s, want %s", strings.Join(got, " "), want)
	}
	for range e.Operands() {
		break // stopping early must not go on yielding
	}
}

func TestAndOrOfNil(t *testing.T) {
	if And() != nil || And(nil, nil) != nil || Or(Eq("a", Int(1)), nil) != nil {
		t.Error("everything is not nil")
	}
	if e := Or(); e.Match(nil, nil) {
		t.Error("the empty Or matches")
	}
	if e := And(nil, Eq("a", Int(1))); !e.Match(Metadata{"a": Int(1)}, nil) || e.Match(nil, nil) {
		t.Error("a nil in And changes it")
	}
}

func FuzzParseWhere(f *testing.F) {
	for _, c := range whereCases {
		f.Add(c.where)
	}
	for _, where := range refusedWhere {
		f.Add(where)
	}
	f.Fuzz(func(t *testing.T, where string) {
		e, err := ParseWhere([]byte(where))
		if err != nil {
			var disabled *DisabledError
			if !errors.Is(err, ErrWhere) && !errors.Is(err, ErrRegex) && !errors.As(err, &disabled) {
				t.Fatalf("error %v", err)
			}
			return
		}
		compareRows(t, e)
	})
}

func FuzzParseWhereDocument(f *testing.F) {
	for _, c := range documentCases {
		f.Add(c.where)
	}
	for _, where := range refusedDocument {
		f.Add(where)
	}
	f.Fuzz(func(t *testing.T, where string) {
		if e, err := ParseWhereDocument([]byte(where)); err == nil {
			compareRows(t, e)
		} else if !errors.Is(err, ErrWhereDocument) && !errors.Is(err, ErrRegex) {
			t.Fatalf("error %v", err)
		}
	})
}

// compareRows holds an index over the sample rows against Match.
func compareRows(t *testing.T, e *Expr) {
	t.Helper()
	var list []record
	for _, id := range slices.Sorted(maps.Keys(rows)) {
		list = append(list, rows[id])
	}
	compareModel(t, open(t, build(t, list), len(list)), e, list)
}

func open(t testing.TB, data []byte, rows int) *Index {
	t.Helper()
	ix, err := OpenIndex(memory(data), uint32(rows))
	if err != nil {
		t.Fatal(err)
	}
	return ix
}
