package privacy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/chromad/chromad/filter"
)

func drawn(t testing.TB) *Keys {
	t.Helper()
	k, err := NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A rule's own key wins over prefixes, a longer prefix over a shorter one.
func TestFieldsPick(t *testing.T) {
	f := Fields{Document: Mask, Metadata: map[string]Treatment{"a": Hash, "a*": Mask, "ab*": Visible, "*": Hide, "star*": Pseudonym}}
	for field, want := range map[string]Treatment{"a": Hash, "ax": Mask, "ab": Visible, "abc": Visible, "b": Hide, "": Hide, "star": Pseudonym, "star*": Pseudonym,
		"a*": Mask, documentField: Mask, uriField: Visible, embeddingField: Visible} {
		if got := f.of(field); got != want {
			t.Errorf("%q: %s, want %s", field, got, want)
		}
	}
}

func TestFieldsCheck(t *testing.T) {
	for text, want := range map[string]string{
		`{"document":"hide"}`: "", `{"metadata":{"*":"hash","a*":"visible"}}`: "", `{"embedding":"hide"}`: "",
		`null`: "nothing behind it", `{}`: "empty", `{"metadata":{}}`: "empty", `{"document":"hidden"}`: "none of", `{"embedding":"mask"}`: "visible or hidden", `{"metadata":{"a*b":"hide"}}`: "star",
		`{"metadata":{"":"hide"}}`: "1 to 256 bytes", `{"metadata":{"#document":"hide"}}`: "begins with", `{"metadata":{"a":null}}`: "metadata.a: nothing behind it", `{"metadata":{"a":"Hide"}}`: "none of", `{"documents":"hide"}`: "unknown field", `{"Document":"hide"}`: "unknown field",
		`{"metadata":{"Document":"hide"}}`: "", `{"metadata":{"a":"hide","a":"visible"}}`: "twice", `{"metadata":null}`: "nothing behind it", `[]`: "cannot unmarshal",
	} {
		var in struct{ Fields Fields }
		err := json.Unmarshal([]byte(`{"Fields":`+text+`}`), &in)
		if err == nil {
			err = in.Fields.Check()
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// Pseudonyms and hashes: bound to scope and field, the same for equal values,
// turned back, and all that across stored form and rotation.
func TestKeys(t *testing.T) {
	k := drawn(t)
	values := []filter.Value{filter.String(""), filter.String("x"), filter.String("5"), filter.Int(5), filter.Int(-1 << 63), filter.Float(1.5), filter.Float(1e300), filter.Bool(true), filter.Bool(false)}
	seen := map[string]bool{}
	for _, v := range values {
		p, err := k.pseudonym("c", "f", v)
		if err != nil {
			t.Fatal(err)
		}
		h, err := k.hash("c", "f", v)
		if err != nil {
			t.Fatal(err)
		}
		if back, ok := k.reveal("c", "f", p); !ok || !back.Equal(v) || !k.hashed("c", "f", h) {
			t.Errorf("%v: %v %v", v, back, ok)
		}
		for _, other := range [][2]string{{"d", "f"}, {"c", "g"}, {"c\x00f", ""}, {"", "c\x00f"}, {"cf", ""}, {"", "cf"}} {
			if _, ok := k.reveal(other[0], other[1], p); ok || k.hashed(other[0], other[1], h) {
				t.Errorf("%v: opens in %q", v, other)
			}
		}
		if seen[p] || seen[h] || strings.Contains(p, "=") || len(h) != 40 {
			t.Errorf("%v: %s %s", v, p, h)
		}
		seen[p], seen[h] = true, true
	}
	lengths := map[int]bool{}
	for _, v := range append(values[:len(values):len(values)], filter.String("fourteen bytes"), filter.String("x\x00\x00"), filter.String("x\x80")) {
		p, err := k.pseudonym("c", "f", v)
		if back, ok := k.reveal("c", "f", p); err != nil || !ok || !back.Equal(v) {
			t.Errorf("%v: %v %v %v", v, back, ok, err)
		}
		lengths[len(p)] = true
	}
	if len(lengths) != 1 {
		t.Errorf("pseudonyms of short values are %v long", lengths)
	}
	same, err := k.hash("c", "f", filter.Float(5))
	if five, e := k.hash("c", "f", filter.Int(5)); err != nil || e != nil || same != five {
		t.Error("5.0 equals 5, and their hashes differ")
	}
	old, err := k.pseudonym("c", "f", values[1])
	if err != nil {
		t.Fatal(err)
	}
	oldHash, err := k.hash("c", "f", values[1])
	if err != nil {
		t.Fatal(err)
	}
	for range maxKeyset - 1 {
		if k, err = k.Rotated(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := k.Rotated(); err == nil {
		t.Error("keys without end")
	}
	b, err := k.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if k, err = DecodeKeys(b); err != nil || k.Len() != maxKeyset {
		t.Fatal(err)
	}
	if back, ok := k.reveal("c", "f", old); !ok || !back.Equal(values[1]) || !k.hashed("c", "f", oldHash) {
		t.Error("new keys do not know what old ones made")
	}
	for treatment, was := range map[Treatment]string{Hash: oldHash, Pseudonym: old} {
		all, err := k.every(treatment, "c", "f", values[1])
		if err != nil || len(all) != maxKeyset || all[maxKeyset-1] != was || all[0] == was {
			t.Errorf("%s: %v %v", treatment, all, err)
		}
	}
	for _, x := range []any{k, *k, struct{ K *Keys }{k}} {
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
			if text := fmt.Sprintf(format, x); strings.Contains(text, "AesSiv") || len(text) > 4000 {
				t.Errorf("%s of %T shows %.200s", format, x, text)
			}
		}
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "keys", k)
	if strings.Contains(log.String(), "pseudonyms") {
		t.Errorf("a log shows %s", log.String())
	}
}

// A condition on stored hashes has an end, however many keys there are.
func TestPlanWhereBounded(t *testing.T) {
	k := drawn(t)
	for range 3 {
		var err error
		if k, err = k.Rotated(); err != nil {
			t.Fatal(err)
		}
	}
	plan := (&Rules{Rules: []Rule{{Keys: map[string]Storing{"h": StoredHash}}}}).For("t", "d", "c")
	values := make([]filter.Value, filter.MaxParts/8+1)
	for i := range values {
		values[i] = filter.Int(int64(i))
	}
	if _, err := plan.Where(k, "c", filter.Or(filter.In("h", values...), filter.In("other", values...))); err != nil {
		t.Errorf("half as many as may be: %v", err)
	}
	if _, err := plan.Where(k, "c", filter.Or(filter.In("h", values...), filter.Nin("h", values...))); !errors.Is(err, filter.ErrTooLarge) || !errors.Is(err, filter.ErrWhere) {
		t.Errorf("too many: %v", err)
	}
}

// kept is settings in memory, which fail when they are told to.
type kept struct {
	values map[string][]byte
	fail   error
}

func (k *kept) Setting(_ context.Context, name string) ([]byte, error) { return k.values[name], nil }

func (k *kept) ChangeSetting(_ context.Context, name string, change func([]byte) ([]byte, error)) error {
	if k.fail != nil {
		return k.fail
	}
	b, err := change(k.values[name])
	if err == nil {
		k.values[name] = b
	}
	return err
}

// What is in use is what is stored; keys are drawn once, and a store that
// cannot be written to hands out the keys that it has.
func TestKeeper(t *testing.T) {
	store := &kept{values: map[string][]byte{}}
	k, err := Open(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	holds := func() bool {
		some, err := k.Any()
		return some || err != nil
	}
	if holds() || k.Plan("t", "d", "c") != nil {
		t.Error("rules of an empty store")
	}
	rules := &Rules{Version: 1, Rules: []Rule{{On: Scope{Collection: "c*"}, Document: Drop}}}
	store.fail = errors.New("full")
	if err := k.SetRules(t.Context(), rules); !errors.Is(err, store.fail) || holds() {
		t.Errorf("rules that are not stored hold: %v", err)
	}
	if _, err := k.Keys(t.Context()); !errors.Is(err, store.fail) {
		t.Errorf("keys that are not stored are used: %v", err)
	}
	store.fail = nil
	if err := k.SetRules(t.Context(), rules); err != nil {
		t.Fatal(err)
	}
	rules.Rules[0].On.Collection = "x"
	for name, want := range map[string]bool{"c": true, "cx": true, "d": false, "": false} {
		for range 2 { // the second time from memory
			if got := k.Plan("t", "d", name) != nil; got != want {
				t.Errorf("%q: %v", name, got)
			}
		}
	}
	first, err := k.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if k, err = Open(t.Context(), store); err != nil || !holds() {
		t.Fatal("rules are gone", err)
	}
	store.fail = errors.New("read-only")
	again, err := k.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p, err := first.pseudonym("c", "f", filter.Int(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := again.reveal("c", "f", p); !ok {
		t.Error("other keys after opening again")
	}
	store.values[rulesSetting] = []byte(`{"version":1,"rules":[{"forbid":"all"}]}`)
	if _, err := Open(t.Context(), store); err == nil {
		t.Error("rules that cannot be read are none")
	}
	// A repair that found no settings: nobody knows the rules, until they are set.
	store = &kept{values: map[string][]byte{settingLost: []byte("by a repair")}}
	if k, err = Open(t.Context(), store); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Any(); !errors.Is(err, ErrLost) {
		t.Errorf("lost rules are none: %v", err)
	}
	for range 2 {
		if err := k.SetRules(t.Context(), &Rules{Version: 1}); err != nil || holds() {
			t.Errorf("no rules, set: %v", err)
		}
		if k, err = Open(t.Context(), store); err != nil || holds() {
			t.Errorf("no rules, set before: %v", err)
		}
	}
	var none *Keeper
	if some, err := none.Any(); some || err != nil || none.Plan("t", "d", "c") != nil {
		t.Error("rules of nobody")
	}
	if _, err := none.Keys(t.Context()); err == nil {
		t.Error("keys of nobody")
	}
}

func TestWild(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"", "x", true}, {"*", "", true}, {"a", "a", true}, {"a", "ab", false}, {"a*", "ab", true}, {"a*", "ba", false}, {"*b", "ab", true}, {"*b", "ba", false},
		{"a*c", "abc", true}, {"a*c", "ac", true}, {"a*a", "a", false}, {"a*b*c", "a1b2c", true}, {"a*b*c", "a1c2b", false}, {"*b*", "abc", true}, {"**", "x", true}, {"a**b", "ab", true},
		{"*ab", "aab", true}, {"*aab*b", "aaabb", true}, {"x*", "", false},
	} {
		if got := wild(c.pattern, c.name); got != c.want {
			t.Errorf("%q %q: %v", c.pattern, c.name, got)
		}
	}
}

// Applying a plan twice is applying it once, whatever the record holds; and an
// error has nothing of a value in it.
func FuzzApply(f *testing.F) {
	f.Add("mail ada@example.com", "k", "4111111111111111", uint8(0))
	f.Add("", "pii", "x", uint8(3))
	f.Add("+49 30 1234567 [email]", "secret", "DE89370400440532013000", uint8(7))
	keys, err := NewKeys()
	if err != nil {
		f.Fatal(err)
	}
	rules := []Rule{{Detect: map[Kind]Storing{"*": StoredMask}}, {Detect: map[Kind]Storing{Card: Reject, "*": Tag}}, {Keys: map[string]Storing{"k*": StoredHash, "secret": StoredPseudonym, "d*": Drop}},
		{Accept: []string{"a*", "k*", "pii"}, Others: Drop}}
	f.Fuzz(func(t *testing.T, document, key, value string, which uint8) {
		if len(document)+len(value) > 1<<14 {
			return
		}
		r := &Rules{Version: rulesVersion}
		for i := range rules {
			if which&(1<<i) != 0 {
				r.Rules = append(r.Rules, rules[i])
			}
		}
		plan := r.For("t", "d", "c")
		if plan == nil {
			return
		}
		record := Record{Metadata: filter.Metadata{key: filter.String(value), "kl": filter.Strings(value, "x"), "n": filter.Int(1)}, Document: &document}
		if err := plan.Apply(keys, "c", &record); err != nil {
			if len(value) > 8 && !strings.Contains(key, value) && strings.Contains(err.Error(), value) {
				t.Fatalf("the error tells: %v", err)
			}
			return
		}
		once, text := record.Metadata.String(), *record.Document
		if err := plan.Apply(keys, "c", &record); err != nil {
			t.Fatalf("a second time: %v", err)
		}
		if plan.tag == "" && (record.Metadata.String() != once || *record.Document != text) {
			t.Fatalf("%s %q, then %s %q", once, text, record.Metadata.String(), *record.Document)
		}
	})
}

// No decoder of settings panics, and what one accepts is written and read as
// the same.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"version":1,"rules":[{"on":{"tenant":"a*"},"accept":[],"others":"drop","keys":{"a*":"hash"},"detect":{"*":"tag"},"tag":"x"}]}`))
	keys, err := NewKeys()
	if err != nil {
		f.Fatal(err)
	}
	b, err := keys.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version":1,"pseudonyms":"CAE=","hashes":""}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		if k, err := DecodeKeys(in); err == nil {
			if _, err := k.pseudonym("c", "f", filter.Int(1)); err != nil {
				t.Fatal(err)
			}
		}
		r, err := Decode(in)
		if err != nil {
			return
		}
		once, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode(once)
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := again.Encode(); err != nil || string(twice) != string(once) {
			t.Fatalf("%s, then %s", once, twice)
		}
		if p := r.For("t", "d", "c"); p != nil {
			_ = p.storing("k")
		}
	})
}

// What field rules cost a record of eight keys.
func BenchmarkView(b *testing.B) {
	k := drawn(b)
	m := filter.Metadata{"a": filter.String("ada@example.com"), "b": filter.String("bob"), "c": filter.Int(1), "d": filter.String("text"), "e": filter.String("x"),
		"f": filter.Float(1.5), "g": filter.Bool(true), "h": filter.String("y")}
	for name, rules := range map[string]map[string]Treatment{"hide": {"a": Hide, "b": Mask}, "pseudonym": {"a": Pseudonym}, "hash": {"a": Hash}} {
		b.Run(name, func(b *testing.B) {
			v := NewView(See([]*Fields{{Metadata: rules}}, nil), k, "c")
			for b.Loop() {
				if _, err := v.Metadata(m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
