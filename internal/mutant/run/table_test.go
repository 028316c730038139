package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
)

const root = "../../.."

// TestTable: every mutant has one row and a hook in the product, and every
// suite tests that are there.
func TestTable(t *testing.T) {
	names := constants(t)
	hooks, tests := sources(t)
	rows := map[string]int{}
	for _, r := range table {
		rows[string(r.name)]++
		if len(r.suites) == 0 {
			t.Errorf("%s: no suite has to find it", r.name)
		}
		for _, s := range r.suites {
			for one := range strings.SplitSeq(s.tests, "|") {
				if !regexp.MustCompile(`(?m)^func ` + one + `\(`).MatchString(tests[s.pkg]) {
					t.Errorf("%s: package %s has no test %s", r.name, s.pkg, one)
				}
			}
		}
	}
	page, err := os.ReadFile(root + "/docs/testing.md")
	if err != nil {
		t.Fatal(err)
	}
	for constant, name := range names {
		if !strings.Contains(string(page), "| `"+name+"` |") {
			t.Errorf("mutant %s is not in docs/testing.md", constant)
		}
		if rows[name] != 1 {
			t.Errorf("mutant %s has %d rows", constant, rows[name])
		}
		if !strings.Contains(hooks, "mutant.On(mutant."+constant+")") {
			t.Errorf("mutant %s is nowhere", constant)
		}
	}
	if len(rows) != len(names) || len(names) < 30 {
		t.Errorf("%d rows, %d mutants", len(rows), len(names))
	}
}

// constants are the names that package mutant declares, by constant.
func constants(t *testing.T) map[string]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "../doc.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok {
			names[v.Names[0].Name] = strings.Trim(v.Values[0].(*ast.BasicLit).Value, `"`)
		}
		return true
	})
	return names
}

// sources are the product's text, and each package's tests.
func sources(t *testing.T) (product string, tests map[string]string) {
	t.Helper()
	tests = map[string]string{}
	tree := os.DirFS(root)
	var b strings.Builder
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && name != "." || name == "build" || name == "data" || name == "internal/mutant"):
			return fs.SkipDir
		case path.Ext(name) != ".go":
			return nil
		}
		text, err := fs.ReadFile(tree, name)
		if strings.HasSuffix(name, "_test.go") {
			tests[path.Dir(name)] += string(text)
		} else {
			b.Write(text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), tests
}
