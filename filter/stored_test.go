package filter

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

// A condition means the same after it was stored, and is the same bytes again.
func TestStoredExpr(t *testing.T) {
	stored := 0
	for seed := range uint64(2000) {
		g := gen{rand.New(rand.NewPCG(seed, 5))}
		e := g.expr(3)
		b, err := AppendExpr(nil, e)
		if e.needsDocument() && err == nil {
			t.Fatalf("seed %d: a condition on the document was stored", seed)
		}
		if err != nil {
			continue
		}
		back, err := DecodeExpr(b)
		if err != nil {
			t.Fatalf("seed %d: %v: %x", seed, err, b)
		}
		if again, err := AppendExpr(nil, back); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("seed %d: %x again is %x, %v", seed, b, again, err)
		}
		for range 20 {
			if r := g.record(); e.Match(r.meta, r.doc) != back.Match(r.meta, r.doc) {
				t.Fatalf("seed %d: %v means something else for %v", seed, describe(e), r.meta)
			}
		}
		stored++
	}
	if stored < 800 {
		t.Errorf("%d conditions were stored", stored)
	}
}

// Everything and nothing, and what is too deep or of no stored form.
func TestStoredExprEdges(t *testing.T) {
	for _, c := range []struct {
		e    *Expr
		want bool
	}{{nil, true}, {And(), true}, {Or(), false}, {In("k"), false}, {Nin("k"), true}, {Eq("k", Null()), false}, {Ne("k", Strings("a")), true}} {
		b, err := AppendExpr(nil, c.e)
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodeExpr(b)
		if err != nil || back.Match(Metadata{"k": Int(1)}, nil) != c.want {
			t.Errorf("%x: %v, want %v", b, err, c.want)
		}
	}
	deep := Eq("k", Int(1))
	for range MaxDepth - 1 {
		deep = Or(deep, Eq("other", Int(1)))
	}
	b, err := AppendExpr(nil, deep)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeExpr(b); err != nil {
		t.Error(err)
	}
	if _, err := AppendExpr(nil, Or(deep, deep)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("deeper than %d: %v", MaxDepth, err)
	}
	if _, err := DecodeExpr(append([]byte{2, 1}, b...)); err == nil {
		t.Error("deeper than the encoder writes")
	}
	if _, err := AppendExpr(nil, And(Eq("k", Int(1)), DocumentContains("x"))); err == nil {
		t.Error("a condition on the document was stored")
	}
	for name, bad := range map[string]string{
		"nothing": "", "no operation": "\x00", "an operation of tomorrow": "\x0a\x01k\x02\x02", "a negated $and": "\x81\x00", "bytes behind": "\x01\x00\x00",
		"operands out of order": "\x08\x01k\x02\x02\x04\x02\x02", "an operand twice": "\x08\x01k\x02\x02\x02\x03\x00\x00\x00\x00\x00\x00\xf0\x3f",
		"null among operands": "\x08\x01k\x01\x00", "a long count": "\x01\x80\x00", "more than there is": "\x01\x05\x01\x00",
	} {
		if e, err := DecodeExpr([]byte(bad)); err == nil {
			t.Errorf("%s: %v", name, describe(e))
		}
	}
}

func FuzzDecodeExpr(f *testing.F) {
	for seed := range uint64(30) {
		if b, err := AppendExpr(nil, gen{rand.New(rand.NewPCG(seed, 5))}.expr(3)); err == nil {
			f.Add(b)
			f.Add(b[:len(b)/2])
		}
	}
	f.Add([]byte(strings.Repeat("\x01\x01", 1000)))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := DecodeExpr(b)
		if err != nil {
			return
		}
		if again, err := AppendExpr(nil, e); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x again is %x, %v", b, again, err)
		}
	})
}
