package engine_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromad/chromad/internal/race"
)

// The limits of the house style: what one reads at a sitting, and what fits a screen.
const (
	maxFileLines     = 600
	maxTestFileLines = 900
	maxFuncLines     = 70
	maxTestFuncLines = 110 // a table is long without being hard to read
)

// mayPanic lists the files, and the trees that end in a slash, that may call
// panic, each with the reason.
var mayPanic = map[string]string{
	"internal/kernel/kernel.go": "slices of unequal length are a programmer's mistake that assembly would turn into a read beyond the end",
	"internal/vfs/faultfs/":     "used by tests only: a fault that cannot happen would prove nothing",
	"internal/disk/fault.go":    "a fault outside our mappings is not ours to swallow: it is raised again",
	"filter/regex/parse.go":     "unwinds the parser, whose first function catches it",
	"server/server.go":          "http.ErrAbortHandler is how net/http is told to cut a connection: it is raised again",
}

const root = ".."

// A source is one parsed Go file; dir and path are relative to the module root.
type source struct {
	path, dir string
	test      bool
	generated bool
	text      string
	imports   []string
	fset      *token.FileSet
	file      *ast.File
}

// skipDir reports what is not part of the project: dot folders, what git
// ignores, and test data that does not compile on purpose.
func skipDir(rel, name string) bool {
	return strings.HasPrefix(name, ".") && rel != "." ||
		slices.Contains([]string{"bin", "build", "data", "chroma"}, rel) ||
		slices.Contains([]string{"node_modules", "__pycache__", "testdata"}, name)
}

// walk calls fn for every file of the project with its path relative to the root.
func walk(fn func(rel string, text []byte) error) error {
	tree := os.DirFS(root)
	return fs.WalkDir(tree, ".", func(rel string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && skipDir(rel, d.Name()):
			return fs.SkipDir
		case d.IsDir() || !d.Type().IsRegular():
			return nil
		}
		if info, err := d.Info(); err != nil || info.Size() > 1<<20 {
			return err // records for examples, not text that somebody writes
		}
		text, err := fs.ReadFile(tree, rel)
		if err != nil {
			return err
		}
		return fn(rel, text)
	})
}

type loaded struct {
	goFiles []*source         // of this module
	texts   map[string]string // every small file, by path
}

var load = sync.OnceValues(func() (*loaded, error) {
	l := &loaded{texts: map[string]string{}}
	if err := walk(func(rel string, text []byte) error {
		l.texts[rel] = string(text)
		return nil
	}); err != nil {
		return nil, err
	}
	for rel, text := range l.texts {
		if path.Ext(rel) != ".go" || l.nested(path.Dir(rel)) {
			continue
		}
		s, err := parse(rel, text)
		if err != nil {
			return nil, err
		}
		l.goFiles = append(l.goFiles, s)
	}
	slices.SortFunc(l.goFiles, func(a, b *source) int { return strings.Compare(a.path, b.path) })
	return l, nil
})

// nested reports whether dir belongs to a module of its own.
func (l *loaded) nested(dir string) bool {
	for ; dir != "."; dir = path.Dir(dir) {
		if _, ok := l.texts[dir+"/go.mod"]; ok {
			return true
		}
	}
	return false
}

func parse(rel, text string) (*source, error) {
	s := &source{path: rel, dir: path.Dir(rel), test: strings.HasSuffix(rel, "_test.go"), text: text, fset: token.NewFileSet()}
	f, err := parser.ParseFile(s.fset, rel, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	s.file, s.imports, s.generated = f, importsOf(f), ast.IsGenerated(f)
	return s, nil
}

func parseSource(t *testing.T, rel, text string) *source {
	t.Helper()
	s, err := parse(rel, text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tree returns every Go file of the module, sorted by path.
func tree(t *testing.T) []*source { return project(t).goFiles }

func project(t *testing.T) *loaded {
	t.Helper()
	l, err := load()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func readFile(t *testing.T, rel string) string {
	t.Helper()
	text, ok := project(t).texts[rel]
	if !ok {
		t.Fatalf("%s: not in the tree", rel)
	}
	return text
}

func report(t *testing.T, problems []string) {
	t.Helper()
	for _, p := range problems {
		t.Error(p)
	}
}

func (s *source) line(p token.Pos) string {
	return fmt.Sprintf("%s:%d", s.path, s.fset.Position(p).Line)
}

// TestRules holds every Go file of the module to the house style.
func TestRules(t *testing.T) {
	for _, r := range []struct {
		name  string
		check func([]*source) []string
	}{
		{"package comments", checkPackageComments},
		{"lengths", checkLengths},
		{"exported names", checkExported},
		{"panics", func(f []*source) []string { return checkPanics(f, mayPanic) }},
		{"clock and chance", checkClockAndChance},
		{"error texts", checkErrorTexts},
		{"dropped errors", checkDropped},
		{"reasons of old", func(f []*source) []string { return checkNeeded(f, mayPanic) }},
	} {
		t.Run(r.name, func(t *testing.T) { report(t, r.check(tree(t))) })
	}
}

// checkPackageComments wants a package comment in every package, in doc.go
// unless the package is one file.
func checkPackageComments(files []*source) (problems []string) {
	count, has := map[string]int{}, map[string]string{}
	for _, f := range files {
		if f.test {
			continue
		}
		count[f.dir]++
		if len(f.file.Doc.Text()) > 40 {
			has[f.dir] = path.Base(f.path)
		}
	}
	for dir, n := range count {
		if has[dir] == "" || n > 1 && has[dir] != "doc.go" {
			problems = append(problems, dir+": no doc.go with a package comment")
		}
	}
	return problems
}

func checkLengths(files []*source) (problems []string) {
	for _, f := range files {
		if f.generated {
			continue
		}
		maxFile, maxFunc := maxFileLines, maxFuncLines
		if f.test {
			maxFile, maxFunc = maxTestFileLines, maxTestFuncLines
		}
		if n := strings.Count(f.text, "\n"); n > maxFile {
			problems = append(problems, fmt.Sprintf("%s: %d lines, at most %d", f.path, n, maxFile))
		}
		for _, d := range f.file.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := f.fset.Position(fn.End()).Line - f.fset.Position(fn.Pos()).Line + 1; n > maxFunc {
				problems = append(problems, fmt.Sprintf("%s: %s has %d lines, at most %d", f.line(fn.Pos()), fn.Name.Name, n, maxFunc))
			}
		}
	}
	return problems
}

// checkExported wants a comment on every exported name that an importer can
// reach: its own, its group's, or one at the end of its line. The values of an
// enumeration share the comment of their type.
func checkExported(files []*source) (problems []string) {
	for _, f := range files {
		if f.test || f.file.Name.Name == "main" {
			continue
		}
		for _, d := range f.file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) && !wellKnown[d.Name.Name] {
					problems = append(problems, f.line(d.Pos())+": "+d.Name.Name+" has no comment")
				}
			case *ast.GenDecl:
				for _, name := range bareSpecs(d) {
					problems = append(problems, f.line(d.Pos())+": "+name+" has no comment")
				}
			}
		}
	}
	return problems
}

// wellKnown are methods whose meaning the standard library fixes.
var wellKnown = map[string]bool{"String": true, "Error": true, "Unwrap": true, "Is": true, "Len": true, "Less": true, "Swap": true}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	id, ok := typ.(*ast.Ident)
	return !ok || id.IsExported()
}

func bareSpecs(d *ast.GenDecl) (names []string) {
	if d.Doc != nil && (d.Tok == token.CONST || d.Tok == token.VAR || len(d.Specs) == 1) {
		return nil
	}
	if len(d.Specs) > 0 && d.Tok == token.CONST && d.Specs[0].(*ast.ValueSpec).Type != nil {
		return nil // an enumeration
	}
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			if spec.Name.IsExported() && spec.Doc == nil && spec.Comment == nil {
				names = append(names, spec.Name.Name)
			}
		case *ast.ValueSpec:
			if spec.Names[0].IsExported() && spec.Doc == nil && spec.Comment == nil {
				names = append(names, spec.Names[0].Name)
			}
		}
	}
	return names
}

// calls yields every call of a plain name ("panic") or of a selector ("time.Now").
func (s *source) calls(fn func(name string, call *ast.CallExpr)) {
	ast.Inspect(s.file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		switch f := call.Fun.(type) {
		case *ast.Ident:
			fn(f.Name, call)
		case *ast.SelectorExpr:
			if x, ok := f.X.(*ast.Ident); ok {
				fn(x.Name+"."+f.Sel.Name, call)
			}
		}
		return true
	})
}

func checkPanics(files []*source, allowed map[string]string) (problems []string) {
	for _, f := range files {
		if f.test || f.generated || allowed[f.path] != "" || allowed[f.dir+"/"] != "" {
			continue
		}
		f.calls(func(name string, call *ast.CallExpr) {
			if name == "panic" || strings.HasPrefix(name, "log.Fatal") || strings.HasPrefix(name, "log.Panic") {
				problems = append(problems, f.line(call.Pos())+": "+name+": a library returns errors")
			}
		})
	}
	return problems
}

// checkNeeded wants every entry of the list to be of use still.
func checkNeeded(files []*source, allowed map[string]string) (problems []string) {
	used := map[string]bool{}
	for _, f := range files {
		f.calls(func(name string, _ *ast.CallExpr) {
			if name == "panic" {
				used[f.path], used[f.dir+"/"] = true, true
			}
		})
	}
	for place := range allowed {
		if !used[place] {
			problems = append(problems, place+": may panic, but does not")
		}
	}
	return problems
}

// timeless are the trees whose results may not depend on the hour.
var timeless = []string{"internal/kernel", "internal/seal", "internal/disk", "hnsw", "filter", "wal", "segment", "engine"}

// mayTime are files in those trees that look at the clock, with the reason.
var mayTime = map[string]string{
	"wal/gather.go":         "how long the committer waits for company decides no result",
	"engine/flush.go":       "how long it took, for Events",
	"engine/compact.go":     "how long it took, for Events",
	"engine/checkpoint.go":  "how long it took, for Events",
	"engine/erase_state.go": "when deletions were made, for the deadline and for receipts",
	"engine/erasejob.go":    "when the deadline is",
	"engine/rest.go":        "when nobody has written for a while, for merges alone",
	"engine/cores.go":       "whether queries came lately, for the number of goroutines that build",
}

// unseeded are the functions of math/rand/v2 that draw from the process's own source.
var unseeded = regexp.MustCompile(`^rand\.(Int|Uint|Float|N$|Perm|Shuffle|NormFloat|ExpFloat)`)

func checkClockAndChance(files []*source) (problems []string) {
	for _, f := range files {
		f.calls(func(name string, call *ast.CallExpr) {
			if !f.test && (name == "time.Now" || name == "time.Since") && slices.Contains(timeless, f.dir) && mayTime[f.path] == "" {
				problems = append(problems, f.line(call.Pos())+": "+name+": results may not depend on the clock")
			}
			if slices.Contains(f.imports, "math/rand/v2") && unseeded.MatchString(name) {
				problems = append(problems, f.line(call.Pos())+": "+name+": chance needs a seed that a failure can print")
			}
		})
	}
	return problems
}

func checkErrorTexts(files []*source) (problems []string) {
	for _, f := range files {
		if f.test {
			continue
		}
		f.calls(func(name string, call *ast.CallExpr) {
			if name != "errors.New" && name != "fmt.Errorf" || len(call.Args) == 0 {
				return
			}
			if lit, ok := call.Args[0].(*ast.BasicLit); ok && strings.Contains(lit.Value, "failed to ") {
				problems = append(problems, f.line(lit.Pos())+": an error reads as a path, not as a story")
			}
		})
	}
	return problems
}

// durable are the methods whose error decides whether something is on disk.
var durable = map[string]bool{"Sync": true, "SyncDir": true, "Rename": true, "Truncate": true}

// checkDropped wants the error of what makes bytes or names durable looked at.
func checkDropped(files []*source) (problems []string) {
	for _, f := range files {
		if f.test {
			continue
		}
		ast.Inspect(f.file, func(n ast.Node) bool {
			var e ast.Expr
			switch n := n.(type) {
			case *ast.ExprStmt:
				e = n.X
			case *ast.DeferStmt:
				e = n.Call
			case *ast.AssignStmt:
				if id, ok := n.Lhs[0].(*ast.Ident); ok && id.Name == "_" && len(n.Lhs) == 1 {
					e = n.Rhs[0]
				}
			}
			if call, ok := e.(*ast.CallExpr); ok {
				if sel, ok := call.Fun.(*ast.SelectorExpr); ok && durable[sel.Sel.Name] {
					problems = append(problems, f.line(call.Pos())+": the error of "+sel.Sel.Name+" is dropped")
				}
			}
			return true
		})
	}
	return problems
}

// The patterns are written in pieces, so that this file passes its own test.
var (
	unfinished  = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|X` + `XX)\b`)
	issueNumber = regexp.MustCompile(`(^|\s|[^\]]\()(#|GH-|[Ii]ssue |[Pp]ull request )[0-9]+\b`)
	privatePath = regexp.MustCompile(`(^|[\s"'(=:` + "`" + `])/(work|root|home)/\w|\.\./sha` + `red`)
	textFile    = regexp.MustCompile(`\.(go|md|s|py|sh|js|mjs|ts|txt|mod|yaml|yml)$|^(Makefile|LICENSE|NOTICE)$`)
)

// TestRulesTexts holds every text of the project, whatever its language.
func TestRulesTexts(t *testing.T) {
	race.Heavy(t)
	report(t, checkTexts(project(t).texts))
}

func checkTexts(texts map[string]string) (problems []string) {
	for rel, text := range texts {
		if !textFile.MatchString(rel) {
			continue
		}
		for n, line := range strings.Split(text, "\n") {
			for what, re := range map[string]*regexp.Regexp{
				"unfinished": unfinished, "a tracker's number says nothing to a reader": issueNumber, "a path of one machine": privatePath,
			} {
				if m := re.FindString(line); m != "" {
					problems = append(problems, fmt.Sprintf("%s:%d: %q: %s", rel, n+1, strings.TrimSpace(m), what))
				}
			}
		}
	}
	slices.Sort(problems)
	return problems
}

var (
	link     = regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)]*)?\)`)
	codePath = regexp.MustCompile("`((?:[\\w.-]+/)+[\\w.-]+\\.(?:go|md|py|sh|js|mjs|s))`")
)

// TestDocsPaths proves that every file a page names or links to is there.
func TestDocsPaths(t *testing.T) {
	report(t, checkPaths(project(t).texts, func(p string) bool {
		_, err := os.Stat(path.Join(root, p))
		return err == nil
	}))
}

func checkPaths(texts map[string]string, exists func(string) bool) (problems []string) {
	for rel, text := range texts {
		if path.Ext(rel) != ".md" {
			continue
		}
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(m[1], "://") && !strings.HasPrefix(m[1], "mailto:") && !exists(path.Join(path.Dir(rel), m[1])) {
				problems = append(problems, rel+": links to "+m[1]+", which is not there")
			}
		}
		for _, m := range codePath.FindAllStringSubmatch(text, -1) {
			if !exists(m[1]) && !exists(path.Join(path.Dir(rel), m[1])) {
				problems = append(problems, rel+": names "+m[1]+", which is not there")
			}
		}
	}
	slices.Sort(problems)
	return problems
}

// TestRulesCheck shows that each rule can fail, and on what it must not.
func TestRulesCheck(t *testing.T) {
	one := func(name, text string) []*source { return []*source{parseSource(t, name, text)} }
	long := func(n int) string { return "package p\nfunc f() {" + strings.Repeat("\n", n-1) + "}\n" }
	const doc = "// Package p is here so that somebody can read what it is for.\npackage p\n"
	text := func(name, s string) []string { return checkTexts(map[string]string{name: s}) }
	exists := func(p string) bool { return p == "docs/a.md" || p == "wal/log.go" }
	paths := func(s string) []string { return checkPaths(map[string]string{"docs/b.md": s}, exists) }
	for _, c := range []struct {
		name string
		got  []string
		bad  bool
	}{
		{"doc.go", checkPackageComments(one("a/doc.go", doc)), false},
		{"one file", checkPackageComments(one("a/a.go", doc)), false},
		{"comment elsewhere", checkPackageComments(append(one("a/a.go", doc), one("a/b.go", "package p\n")...)), true},
		{"doc.go without comment", checkPackageComments(one("a/doc.go", "package p\n")), true},
		{"tests only", checkPackageComments(one("a/a_test.go", "package p\n")), false},
		{"function fits", checkLengths(one("a/a.go", long(maxFuncLines))), false},
		{"function too long", checkLengths(one("a/a.go", long(maxFuncLines+1))), true},
		{"file too long", checkLengths(one("a/a.go", "package p\n"+strings.Repeat("\n", maxFileLines))), true},
		{"test file fits", checkLengths(one("a/a_test.go", "package p\n"+strings.Repeat("\n", maxFileLines))), false},
		{"generated", checkLengths(one("a/a.go", "// Code generated by x. DO NOT EDIT.\n\n"+long(maxFuncLines+1))), false},
		{"bare func", checkExported(one("a/a.go", "package p\nfunc F() {}\n")), true},
		{"bare type", checkExported(one("a/a.go", "package p\ntype T int\n")), true},
		{"bare method", checkExported(one("a/a.go", "package p\n// T is.\ntype T int\nfunc (t *T) M() {}\n")), true},
		{"bare var in a group", checkExported(one("a/a.go", "package p\nvar (\n\t// A is.\n\tA = 1\n\tB = 2\n)\n")), true},
		{"bare const", checkExported(one("a/a.go", "package p\nconst A = 1\n")), true},
		{"enumeration", checkExported(one("a/a.go", "package p\nconst (\n\tA T = iota\n\tB\n\tAll = A | B\n)\n")), false},
		{"method of a hidden type", checkExported(one("a/a.go", "package p\ntype t int\nfunc (t) M() {}\n")), false},
		{"group comment", checkExported(one("a/a.go", "package p\n// Both are.\nvar (\n\tA = 1\n\tB = 2\n)\n")), false},
		{"comment at the end", checkExported(one("a/a.go", "package p\nvar (\n\tA = 1 // is\n)\n")), false},
		{"panic", checkPanics(one("a/a.go", "package p\nfunc f() { panic(1) }\n"), nil), true},
		{"panic allowed", checkPanics(one("a/a.go", "package p\nfunc f() { panic(1) }\n"), map[string]string{"a/a.go": "why"}), false},
		{"panic in an allowed folder", checkPanics(one("a/a.go", "package p\nfunc f() { panic(1) }\n"), map[string]string{"a/": "why"}), false},
		{"panic in a test", checkPanics(one("a/a_test.go", "package p\nfunc f() { panic(1) }\n"), nil), false},
		{"no panic any more", checkNeeded(one("a/a.go", "package p\n"), map[string]string{"a/a.go": "why"}), true},
		{"clock", checkClockAndChance(one("wal/a.go", "package p\nvar x = time.Now()\n")), true},
		{"clock above", checkClockAndChance(one("server/a.go", "package p\nvar x = time.Now()\n")), false},
		{"chance", checkClockAndChance(one("a/a_test.go", "package p\nimport \"math/rand/v2\"\nvar x = rand.IntN(3)\n")), true},
		{"seeded", checkClockAndChance(one("a/a_test.go", "package p\nimport \"math/rand/v2\"\nvar x = rand.New(rand.NewPCG(1, 2))\n")), false},
		{"error as a story", checkErrorTexts(one("a/a.go", "package p\nvar e = errors.New(\"failed to read\")\n")), true},
		{"error as a path", checkErrorTexts(one("a/a.go", "package p\nvar e = fmt.Errorf(\"read: %w\", err)\n")), false},
		{"sync dropped", checkDropped(one("a/a.go", "package p\nfunc f() { x.Sync() }\n")), true},
		{"sync deferred", checkDropped(one("a/a.go", "package p\nfunc f() { defer x.Sync() }\n")), true},
		{"rename to nowhere", checkDropped(one("a/a.go", "package p\nfunc f() { _ = x.Rename(a, b) }\n")), true},
		{"sync kept", checkDropped(one("a/a.go", "package p\nfunc f() error { err := x.Sync(); return err }\n")), false},
		{"unfinished", text("a.go", "// TO"+"DO: later"), true},
		{"issue number", text("a.md", "see #"+"12 for it"), true},
		{"issue in words", text("a.go", "// as issue "+"12 says"), true},
		{"heading, colour, anchor", text("a.md", "# 12 words\n[x](#12) `#document`"), false},
		{"path of a machine", text("a.sh", "cd /ro"+"ot/x"), true},
		{"path beside", text("a.py", "open('../sha"+"red/x')"), true},
		{"ordinary path", text("a.md", "net/work/one and https://a.b/root/x"), false},
		{"binary", text("a.bin", "TO"+"DO"), false},
		{"link", paths("[a](a.md) [b](https://x.y/z) [c](#d) `wal/log.go`"), false},
		{"dead link", paths("[a](c.md)"), true},
		{"dead name", paths("`wal/frame.go`"), true},
	} {
		if (len(c.got) > 0) != c.bad {
			t.Errorf("%s: found %q, want a problem: %v", c.name, c.got, c.bad)
		}
	}
}
