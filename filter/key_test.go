package filter

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// Two expressions with one key hold for the same records.
func TestKey(t *testing.T) {
	met := map[string]*Expr{}
	again := 0
	for seed := range uint64(6000) {
		g := gen{rand.New(rand.NewPCG(seed, 6))}
		e := g.expr(int(seed % 3))
		key, ok := e.Key()
		if !ok {
			continue
		}
		was, there := met[key]
		if !there {
			met[key] = e
			continue
		}
		if again++; describe(e) != describe(was) && !e.needsDocument() {
			t.Fatalf("%s and %s have one key", describe(e), describe(was))
		}
		for range 20 {
			if r := g.record(); e.Match(r.meta, r.doc) != was.Match(r.meta, r.doc) {
				t.Fatalf("%s and %s have one key, and differ for %v %v", describe(e), describe(was), r.meta, r.doc)
			}
		}
	}
	if again < 100 {
		t.Errorf("%d keys were met again", again)
	}
}

func TestKeyEdges(t *testing.T) {
	pattern := func(s string) *Expr {
		e, err := DocumentRegex(s)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	a, b := Eq("k", String("a")), Eq("k", String("b"))
	met := map[string]int{}
	for i, e := range []*Expr{
		a, b, Ne("k", String("a")), In("k", String("a")), Contains("k", String("a")), Eq("ka", String("")), Eq("k", Int(97)), Eq("k", Float(97)),
		Lt("k", Int(97)), Lte("k", Int(97)), And(a, b), Or(a, b), And(a, Or(a, b)), And(Or(a), a, b), DocumentContains("a"), DocumentNotContains("a"), pattern("a"), DocumentContains("b"), nil,
	} {
		key, ok := e.Key()
		if was, there := met[key]; !ok || there {
			t.Errorf("expression %d: %v, as number %d", i, ok, was)
		}
		met[key] = i
	}
	if key, ok := Eq("k", String(strings.Repeat("a", maxKey))).Key(); ok {
		t.Errorf("a key of %d bytes", len(key))
	}
}
