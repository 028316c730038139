package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/server/admin"
	"github.com/chromad/chromad/server/audit"
	"github.com/chromad/chromad/server/privacy"
)

// overdue is a stopped store whose collection docs has three records that have
// expired and are not deleted; it returns the id of another collection.
func overdue(t *testing.T, path string, op engine.OperatorKey) (other engine.ID) {
	t.Helper()
	ctx := t.Context()
	db, err := engine.Open(path, &engine.Options{Keys: op, ExpireEvery: -1})
	must(t, err)
	c, err := db.Default().Create(ctx, "docs", engine.Spec{})
	must(t, err)
	must(t, c.SetRetention(ctx, &engine.Retention{}))
	for i := range 3 {
		must(t, c.Add(ctx, expired(fmt.Sprint(i))))
	}
	o, err := db.Default().Create(ctx, "other", engine.Spec{})
	must(t, err)
	must(t, db.Close())
	return o.ID()
}

func expired(id string) engine.Record {
	return engine.Record{ID: id, Embedding: []float32{1}, Metadata: engine.Metadata{engine.DefaultRetentionKey: filter.Int(1)}}
}

// there is how many records of docs have expired and are there still.
func there(t *testing.T, path string, flags ...string) int {
	t.Helper()
	var k admin.KeptCollection
	must(t, json.Unmarshal([]byte(retention(t, exitOK, append([]string{"show", path, "docs", "--json"}, flags...)...)), &k))
	return k.Over
}

// recordedExpiries are the events about what has expired, each in short.
func recordedExpiries(t *testing.T, path string) (lines []string) {
	t.Helper()
	for line := range strings.Lines(works(t, "audit", "search", "--json", "--action", "retention:expired", path)) {
		var l audit.Line
		must(t, json.Unmarshal([]byte(line), &l))
		lines = append(lines, fmt.Sprintf("%s %s %s/%s/%s %d", l.Kind, l.Outcome, l.Tenant, l.Database, l.Collection, l.Rows))
	}
	return lines
}

// No command on a stopped store deletes what has expired: a legal hold may be on
// its way. Those that show something leave every file as it is.
func TestOfflineDeletesNothing(t *testing.T) {
	key, path := keyFile(t), filepath.Join(t.TempDir(), "store")
	op, err := openKey(t.Context(), key)
	must(t, err)
	other := overdue(t, path, op)
	rules := written(t, "rules.yaml", "version: 1\nrules: []\n")
	for _, args := range [][]string{
		{"users", "add", path, "ada", "--role", "admin"}, {"users", "list", path}, {"users", "export", path},
		{"privacy", "set", path, rules}, {"privacy", "show", path}, {"privacy", "rotate", path},
		{"retention", "show", path}, {"audit", "search", path}, {"audit", "verify", path}, {"keys", "list", path}, {"receipts", path},
		{"compact", path}, {"compact", path, "--erase-now"}, {"keys", "rotate", path},
		{"keys", "destroy", path, "--collection", other.String(), "--yes"}, {"retention", "hold", path, "docs", "--reason", "a case"},
	} {
		before := fingerprint(t, path)
		if status, out, errs := here(t.Context(), append(args, "--keys", key)...); status != exitOK {
			t.Fatalf("%q: %s%s", args, out, errs)
		}
		looks := slices.Contains([]string{"list", "export", "show", "search", "verify"}, args[1]) || args[0] == "receipts"
		if same := before == fingerprint(t, path); same != looks {
			t.Errorf("%q: the files are as before: %v", args, same)
		}
		if n := there(t, path, "--keys", key); n != 3 {
			t.Fatalf("%q: %d of 3 records are there", args, n)
		}
	}
}

// There is one place that says how the store of a stopped server is opened.
func TestOfflineOptions(t *testing.T) {
	if o := offlineOptions(nil, 7); o.ExpireEvery >= 0 || o.EraseWithin >= 0 || o.RestAfter >= 0 || o.MinGeneration != 7 {
		t.Errorf("%+v", o)
	}
	files, err := filepath.Glob("*.go")
	must(t, err)
	found := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		must(t, err)
		for _, d := range f.Decls {
			in, _ := d.(*ast.FuncDecl)
			ast.Inspect(d, func(n ast.Node) bool {
				l, ok := n.(*ast.CompositeLit)
				if !ok {
					return true
				}
				if s, ok := l.Type.(*ast.SelectorExpr); !ok || s.Sel.Name != "Options" || fmt.Sprint(s.X) != "engine" {
					return true
				}
				found++
				looks := slices.ContainsFunc(l.Elts, func(e ast.Expr) bool {
					f, ok := e.(*ast.KeyValueExpr)
					return ok && fmt.Sprint(f.Key) == "ReadOnly" && fmt.Sprint(f.Value) == "true"
				})
				if !looks && (in == nil || in.Name.Name != "openStore" && in.Name.Name != "offlineOptions") {
					t.Errorf("%s: a store is opened for writing without offlineOptions", name)
				}
				return true
			})
		}
	}
	if found < 3 {
		t.Errorf("%d found: the test is blind", found)
	}
}

// What a command on a stopped store deletes, because its time was over by the
// terms of before, is in the audit log.
func TestOfflineExpiryRecorded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	overdue(t, path, nil)
	retention(t, exitOK, "off", path, "docs")
	if got, want := recordedExpiries(t, path), []string{"system allowed default_tenant/default_database/docs 3"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// What pseudonyms stand for is told to nobody when that cannot be recorded.
func TestRevealUnrecorded(t *testing.T) {
	ctx := t.Context()
	db, err := engine.Open(t.TempDir(), nil)
	must(t, err)
	keeper, err := privacy.Open(ctx, db)
	must(t, err)
	k := keptHere{keeper, db}
	if found, err := k.Reveal(ctx, "c", "k", []string{"x"}); len(found) != 1 || err != nil { // which loads the keys
		t.Errorf("%v, %v", found, err)
	}
	must(t, db.Close())
	if found, err := k.Reveal(ctx, "c", "k", []string{"x"}); found != nil || !errors.Is(err, engine.ErrClosed) {
		t.Errorf("%v, %v", found, err)
	}
}
