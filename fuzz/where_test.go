package fuzz

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/filter"
)

// FuzzWhere parses a where and a where_document clause. What is accepted must
// select through indexes of segments, bitmaps of dead rows and scans of memory
// what Match says row by row. tree is read as a clause by whereTree, so that
// deep and well-formed ones are common.
func FuzzWhere(f *testing.F) {
	c, want := whereStore(f)
	for _, seed := range []struct{ where, document string }{
		{`null`, `null`},
		{`{"i":1}`, `{"$contains":"fox"}`},
		{`{"i":{"$gt":-1}}`, `{"$not_contains":"fox"}`},
		{`{"n":{"$lte":9007199254740993}}`, `{"$regex":"qu[a-i]ck"}`},
		{`{"f":{"$in":[0.5,1.5,2.0]}}`, `{"$not_regex":"^the"}`},
		{`{"s":{"$nin":["a","b"]}}`, `{"$and":[{"$contains":"the"},{"$contains":"ü"}]}`},
		{`{"b":true}`, `{"$or":[{"$contains":"x"},{"$regex":"(?i)FOX$"}]}`},
		{`{"ls":{"$contains":"x"}}`, `{"$contains":""}`},
		{`{"lf":{"$not_contains":1.5}}`, `{"$regex":"f.x|.{3,5}"}`},
		{`{"$or":[{"i":{"$ne":2}},{"$and":[{"b":false},{"f":{"$gte":1e0}}]}]}`, `{"$regex":"\\bfox\\b"}`},
		{`{"#document":{"$contains":"fox"}}`, `{"$regex":"[^a-z]"}`},
		{`{"i":{"$eq":1.0}}`, `{"$contains":"\u0000"}`},
		{`{"n":{"$gt":9007199254740992.0}}`, `{"$regex":"a{2}|b*"}`},
		{`{"missing":{"$ne":1}}`, `{"$contains":"日本"}`},
	} {
		f.Add(seed.where, seed.document, []byte(seed.where))
	}
	for i := range uint64(60) {
		f.Add("null", "null", noise(i, 40))
	}
	f.Fuzz(func(t *testing.T, where, document string, tree []byte) {
		w, err := filter.ParseWhere([]byte(where))
		if err != nil {
			w = nil
		}
		d, err := filter.ParseWhereDocument([]byte(document))
		if err != nil {
			d = nil
		}
		made := (&whereTree{tree}).clause(4)
		m, err := filter.ParseWhere([]byte(made))
		if err != nil {
			t.Fatalf("%s: %v", made, err)
		}
		for _, e := range []*engine.Filter{w, d, m, filter.And(w, d, m), filter.Or(w, m, d)} {
			if err := checkWhere(c, &want, e); err != nil {
				t.Fatalf("%v\nwhere %s\ndocument %s\nmade %s", err, where, document, made)
			}
		}
	})
}

// checkWhere compares all ways in which a filter is asked.
func checkWhere(c *engine.Collection, want *model, e *engine.Filter) error {
	all := engine.Selection{Where: e}
	few := engine.Selection{Where: e, IDs: []string{"id-3", "id-17", "id-40", "id-59", "none"}}
	window := engine.Selection{Where: e, Offset: 3, Limit: 5}
	for _, sel := range []engine.Selection{all, few, window} {
		got, err := getIDs(c, sel)
		if err != nil {
			return err
		}
		var ids []string
		for _, r := range want.get(sel) {
			ids = append(ids, r.ID)
		}
		if d := differ(got, ids); d != "" {
			return fmt.Errorf("ids %d, offset %d: %s", len(sel.IDs), sel.Offset, d)
		}
	}
	q := []float32{1, -2}
	for _, exact := range []bool{true, false} {
		got, err := c.Query(ctx, q, 7, &engine.QueryOptions{Where: e, Exact: exact, Include: engine.IncludeAll})
		if err != nil {
			return err
		}
		if err := want.checkNearest(got, q, 7, all); err != nil {
			return fmt.Errorf("query, exact %v: %w", exact, err)
		}
	}
	got, err := c.Query(ctx, q, 1, &engine.QueryOptions{Where: e, EF: 1, Include: engine.IncludeAll})
	if err != nil {
		return err
	}
	return want.checkFound(got, q, 1, all)
}

// whereStore makes a collection whose rows stand in two segments, one with
// and one without a graph, and in memory, some of them dead.
func whereStore(f *testing.F) (*engine.Collection, model) {
	db := open(f, scratch(f), &engine.Options{GraphMin: 30, Workers: 1})
	c, err := db.Default().Create(ctx, "docs", engine.Spec{})
	must(f, err)
	var want model
	for i := range 90 {
		if i == 20 || i == 65 {
			must(f, db.Flush(ctx))
		}
		r := whereRecord(i)
		must(f, c.Add(ctx, r))
		want.add(r)
	}
	changed := engine.Record{ID: "id-17", Metadata: engine.Metadata{"i": filter.Null(), "s": filter.String("changed")}}
	must(f, c.Update(ctx, changed))
	want.update(changed)
	dead := engine.Selection{IDs: []string{"id-2", "id-30", "id-31", "id-80"}}
	_, err = c.Delete(ctx, dead)
	must(f, err)
	want.delete(dead)
	return c, want
}

// whereRecord is row i: its keys come and go, so that no two conditions
// select the same rows.
func whereRecord(i int) engine.Record {
	words := []string{"the", "quick", "fox", "Fox", "füchse", "aab", "", "日本", "x\x00y", "the quick brown fox"}
	r := engine.Record{ID: fmt.Sprint("id-", i), Embedding: []float32{float32(i % 11), float32(i%7) - 3}, Metadata: engine.Metadata{}}
	for n, kv := range []struct {
		key   string
		value engine.Value
	}{
		{"i", filter.Int(int64(i%5) - 1)},
		{"f", filter.Float(float64(i%6)/2 - 0.5)},
		{"n", filter.Int(1<<53 + int64(i%4))},
		{"n", filter.Float(1 << 53)},
		{"n", filter.Int(math.MinInt64 + int64(i%2))},
		{"s", filter.String(string(rune('a' + i%4)))},
		{"s", filter.String(words[i%10])},
		{"b", filter.Bool(i%2 == 0)},
		{"i", filter.String("1")},
		{"ls", filter.Strings("x", words[i%10])},
		{"li", filter.Ints(1, int64(i%3))},
		{"lf", filter.Floats(1.5, float64(i%3))},
		{"lb", filter.Bools(i%3 == 0)},
	} {
		if (i+n)%3 == 0 || i%(n+2) == 0 {
			r.Metadata[kv.key] = kv.value
		}
	}
	if i%4 != 0 {
		r.Document = engine.Optional(strings.Join([]string{words[i%10], words[i/3%10], words[i/7%10]}, " "))
	}
	return r
}

// whereTree reads bytes as a where clause that must be accepted.
type whereTree struct{ data []byte }

func (w *whereTree) below(n int) int {
	if len(w.data) == 0 {
		return 0
	}
	b := int(w.data[0])
	w.data = w.data[1:]
	return b % n
}

func (w *whereTree) one(of ...string) string { return of[w.below(len(of))] }

func (w *whereTree) key() string {
	return strconv.Quote(w.one("i", "f", "n", "s", "b", "ls", "li", "lf", "lb", "none", "a key"))
}

func (w *whereTree) number() string {
	return w.one("0", "1", "-1", "2", "0.5", "1.5", "1.0", "-0.0", "9007199254740992", "9007199254740993", "9007199254740992.0",
		"9223372036854775807", "-9223372036854775808", "9223372036854775808", "1e-9", "3", "1e300")
}

func (w *whereTree) word() string {
	return w.one(`"a"`, `"b"`, `"1"`, `""`, `"fox"`, `"Fox"`, `"x"`, `"f\u00fc"`, `"日"`, `"the quick"`, `"x\u0000"`, `"ox t"`, `"changed"`)
}

func (w *whereTree) flag() string { return w.one("true", "false") }

func (w *whereTree) list() string {
	element := []func() string{w.integer, w.decimal, w.word, w.flag}[w.below(4)]
	values := []string{element()}
	for range w.below(4) {
		values = append(values, element())
	}
	return "[" + strings.Join(values, ",") + "]"
}

func (w *whereTree) integer() string { return w.one("0", "1", "-1", "2", "9007199254740993") }
func (w *whereTree) decimal() string { return w.one("0.5", "1.5", "1.0", "9007199254740992.0") }

func (w *whereTree) value() string {
	return []func() string{w.number, w.word, w.flag}[w.below(3)]()
}

func (w *whereTree) clause(depth int) string {
	n := w.below(10)
	if depth == 0 {
		n %= 7
	}
	switch n {
	case 0:
		return fmt.Sprintf(`{%s:%s}`, w.key(), w.value())
	case 1:
		return fmt.Sprintf(`{%s:{"%s":%s}}`, w.key(), w.one("$eq", "$ne"), w.value())
	case 2, 3:
		return fmt.Sprintf(`{%s:{"%s":%s}}`, w.key(), w.one("$gt", "$gte", "$lt", "$lte"), w.number())
	case 4:
		return fmt.Sprintf(`{%s:{"%s":%s}}`, w.key(), w.one("$in", "$nin"), w.list())
	case 5:
		return fmt.Sprintf(`{%s:{"%s":%s}}`, w.key(), w.one("$contains", "$not_contains"), w.value())
	case 6:
		if w.below(2) == 0 {
			return fmt.Sprintf(`{"#document":{"%s":%s}}`, w.one("$contains", "$not_contains"), w.word())
		}
		return fmt.Sprintf(`{"#document":{"%s":"%s"}}`, w.one("$regex", "$not_regex"),
			w.one("fox", "f.x", "^the", "x$", "a+b", "[^a-z ]", "(?i)fox", "", "a|ü", "(quick|brown) f", ".{9,}", "q[a-u]+k"))
	}
	parts := []string{w.clause(depth - 1), w.clause(depth - 1)}
	for range w.below(3) {
		parts = append(parts, w.clause(depth-1))
	}
	return fmt.Sprintf(`{"%s":[%s]}`, w.one("$and", "$or"), strings.Join(slices.Clip(parts), ","))
}
