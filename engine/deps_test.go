package engine_test

import (
	"bufio"
	"fmt"
	"go/ast"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/chromad/chromad"

// A place is a package and what it may import of ours. The list is docs/architecture.md as data.
type place struct {
	floor int
	may   []string // packages of ours that its own code imports, "*" for every lower floor
	why   string
}

// places says who may import whom. A package may only name packages of lower
// floors, internal/disk apart: it joins its two neighbours into a file.
var places = map[string]place{
	"internal/vfs":                 {0, []string{"internal/mutant"}, "files under one root; the bottom"},
	"internal/vfs/faultfs":         {0, []string{"internal/vfs"}, "the same interface with faults, for tests"},
	"internal/seal":                {0, []string{"internal/mutant"}, "a block and its address, nothing else"},
	"internal/kernel":              {0, nil, "arithmetic on floats, nothing else"},
	"internal/mutant":              {0, nil, "planted bugs sit where they bite, on every floor; nothing of it is in a normal build"},
	"internal/mutant/run":          {5, []string{"internal/mutant"}, "runs the suites of all floors against the planted bugs"},
	"internal/disk":                {0, []string{"internal/vfs", "internal/seal", "internal/mutant"}, "what every file shares is made of files and sealed blocks"},
	"internal/keys":                {2, []string{"internal/vfs", "internal/seal", "internal/disk", "internal/mutant"}, "makes, finds and destroys keys, in files like all others"},
	"internal/keys/keytest":        {0, nil, "operator's keys in memory, for tests"},
	"internal/race":                {0, nil, "whether the race detector runs, for tests"},
	"internal/strict":              {0, nil, "JSON that can be understood in one way only; what it says is up to others"},
	"internal/outbound":            {0, nil, "every connection that is opened, to places that the configuration names; nothing of a store"},
	"engine/keys":                  {0, nil, "the operator's key: an interface, key files, variables; nothing of a store"},
	"engine/keys/internal/remote":  {1, []string{"engine/keys", "internal/outbound"}, "what keys in services share"},
	"engine/keys/internal/kmstest": {2, []string{"engine/keys", "engine/keys/internal/remote"}, "what their tests share"},
	"engine/keys/awskms":           {3, []string{"engine/keys", "engine/keys/internal/remote", "internal/outbound"}, "beside the engine, which must not get its clients"},
	"engine/keys/gcpkms":           {3, []string{"engine/keys", "engine/keys/internal/remote", "internal/outbound"}, "beside the engine, which must not get its clients"},
	"engine/keys/vault":            {3, []string{"engine/keys", "engine/keys/internal/remote", "internal/outbound"}, "beside the engine, which must not get its clients"},
	"engine/keys/all":              {4, []string{"engine/keys", "engine/keys/awskms", "engine/keys/gcpkms", "engine/keys/vault"}, "chooses among the sources, for programs that want them all"},
	"internal/quant":               {0, []string{"internal/kernel"}, "vectors to codes: arithmetic on numbers, on top of the kernels"},
	"hnsw":                         {1, []string{"internal/kernel", "internal/quant"}, "a graph over vectors that somebody else holds: no file, no lock, no log"},
	"filter":                       {1, []string{"filter/regex", "internal/mutant"}, "a checked tree over metadata and text: it knows no segment"},
	"filter/regex":                 {0, nil, "a dialect of regular expressions, nothing else"},
	"wal":                          {2, []string{"internal/vfs", "internal/seal", "internal/disk", "internal/mutant"}, "entries are opaque to the log"},
	"segment":                      {2, []string{"internal/vfs", "internal/seal", "internal/disk", "internal/kernel", "internal/mutant", "hnsw", "filter"}, "one immutable file out of the floors below"},
	"engine":                       {3, []string{"*"}, "joins log and segments into collections"},
	"server":                       {4, []string{"engine", "filter", "server/access", "server/audit", "server/limit", "server/privacy"}, "sees the engine through an interface of its own"},
	"server/limit":                 {2, nil, "counts what somebody asks for, by his name; knows neither HTTP nor a store"},
	"server/privacy":               {2, []string{"filter", "internal/strict"}, "what may be stored about people and what of it is seen; knows neither HTTP nor a store, and its keys are no store's files"},
	"server/access":                {3, []string{"server/limit", "server/privacy", "filter", "internal/strict"}, "decides about names of users, actions and targets, and says which records; knows neither HTTP nor a store"},
	"server/audit":                 {2, nil, "what an event says and which acts leave one; a store keeps the bytes"},
	"server/export":                {3, []string{"server/audit", "internal/outbound"}, "copies of events and alerts, to where the configuration says"},
	"server/alert":                 {4, []string{"server/audit", "server/export"}, "looks at events; decides nothing about requests"},
	"server/oidc":                  {4, []string{"server/access", "internal/outbound"}, "tokens of identity providers; what they allow is up to server/access"},
	"server/admin":                 {4, []string{"engine", "server/access", "server/audit", "server/privacy", "internal/outbound", "internal/strict"}, "what the owner of a running server's store asks it, beside the API and never on its port"},
	"cmd/chromad":                  {5, []string{"server", "internal/outbound", "server/audit", "server/export", "server/alert", "server/access", "server/limit", "server/oidc", "server/admin", "server/privacy", "engine", "engine/keys", "engine/keys/all"}, "flags and signals"},
	"bench":                        {5, []string{"*"}, "measures every floor"},
	"bench/plain":                  {4, []string{"internal/kernel"}, "a textbook graph, which the index is measured against; nothing else of ours may make it faster"},
	"bench/speed":                  {5, []string{"*"}, "the ratio of the index to it"},
	"bench/peers/serve":            {4, nil, "the protocol of the peers' adapters, a copy of theirs"},
	"bench/peers/ours":             {5, []string{"*"}, "index and engine as one of the peers"},
	"fuzz":                         {5, []string{"*"}, "decodes every format"},
	"fuzz/attack":                  {5, nil, "attacks the binary from outside: nothing of ours can help it"},
}

// A restriction is an import that only some places may have.
type restriction struct {
	imports []string // import paths; a trailing slash means the whole tree
	allowed []string // packages ("server", "cmd/" for a tree) or files ("hnsw/graph.go")
	tests   bool     // whether tests are held to it too
	why     string
}

var restrictions = []restriction{
	{[]string{"os", "os/"}, []string{"internal/vfs", "engine/keys", "engine/keys/", "internal/mutant/", "server/export/file.go", "cmd/", "bench", "bench/", "fuzz/attack"}, false,
		"the operator's key, and copies of events, are not of the store; every byte of a store goes through internal/vfs, where faults can be put in its way"},
	{[]string{"path/filepath"}, []string{"internal/vfs", "engine/keys", "internal/mutant/run", "cmd/", "bench", "bench/", "fuzz/attack"}, false,
		"names inside a store are slash-separated and relative"},
	{[]string{"io/ioutil", "log", "math/rand", "encoding/gob", "plugin", "C"}, nil, true,
		"superseded, unseeded, unbounded or not Go"},
	{[]string{"net", "net/http", "net/http/"}, []string{"internal/outbound", "server/export", "server", "server/admin", "server/oidc", "engine/keys/gcpkms", "engine/keys/vault", "engine/keys/awskms", "engine/keys/internal/remote", "cmd/", "bench", "fuzz/attack"}, false,
		"a program that embeds the engine gets no network with it"},
	{[]string{"log/slog"}, []string{"server", "server/", "cmd/"}, false,
		"a library reports through its errors and events, it does not print"},
	{[]string{"crypto/", "github.com/tink-crypto/"}, []string{"internal/seal", "internal/keys", "internal/keys/keytest", "internal/mutant/", "engine/keys", "engine/keys/", "engine/id.go", "engine/receipt.go", "engine/audit_record.go", "server/server.go", "server/auth.go", "server/access", "server/privacy", "internal/outbound", "server/export", "cmd/chromad", "fuzz/attack"}, false,
		"secrets are handled in one place; engine/id.go draws random ids, receipts hold hashes in the place of names, audit records those of the records before, and who speaks to others has certificates"},
	{[]string{"github.com/aws/", "github.com/hashicorp/", "golang.org/x/oauth2", "golang.org/x/oauth2/"},
		[]string{"engine/keys/awskms", "engine/keys/gcpkms", "engine/keys/vault"}, true,
		"a program gets the clients of the key services that it names, no others"},
	{[]string{"unsafe"}, []string{"internal/kernel", "internal/vfs", "segment/vectors.go", "hnsw/encode.go"}, true,
		"mapping, assembly and the one cast from bytes to numbers"},
	{[]string{"reflect"}, []string{"internal/disk/fault.go", "internal/strict"}, false,
		"encoders are written out: their cost and their bounds can be read; the guard asks where a mapping begins, and who reads a policy which names its fields have"},
	{[]string{module + "/internal/vfs/faultfs", module + "/internal/keys/keytest", module + "/internal/race", "testing", "testing/"}, []string{"internal/vfs/faultfs", "internal/race"}, false,
		"only tests meet broken disks, keys whose names are known, and the race detector"},
	{[]string{"github.com/stretchr/", "github.com/golang/mock/", "go.uber.org/mock/"}, nil, true,
		"plain if statements and real parts"},
	{[]string{"github.com/mmcloughlin/avo/"}, nil, true,
		"the assembly generator lives in a module of its own"},
}

// topLevel is every folder of the repository, dot folders and ignored output apart.
var topLevel = strings.Fields("bench cmd docs engine filter fuzz hnsw internal segment server wal")

// TestFloors holds imports between our packages to the table.
func TestFloors(t *testing.T) {
	report(t, checkPlaces(places))
	report(t, checkFloors(places, tree(t)))
	for _, pkg := range slices.Sorted(maps.Keys(places)) {
		if !slices.ContainsFunc(tree(t), func(s *source) bool { return s.dir == pkg }) {
			t.Errorf("%s: in the table, but not in the tree", pkg)
		}
	}
}

// TestImportsRestricted holds imports of other packages to the restrictions.
func TestImportsRestricted(t *testing.T) {
	report(t, checkRestrictions(restrictions, tree(t)))
}

// TestImportsListed compares go.mod with docs/dependencies.md.
func TestImportsListed(t *testing.T) {
	report(t, checkListed(readFile(t, "go.mod"), readFile(t, "docs/dependencies.md")))
}

// TestFloorsTopLevel holds the list of top-level folders.
func TestFloorsTopLevel(t *testing.T) {
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for _, e := range entries {
		if e.IsDir() && !skipDir(e.Name(), e.Name()) {
			dirs = append(dirs, e.Name())
		}
	}
	if !slices.Equal(dirs, topLevel) {
		t.Errorf("top-level folders are %v, want %v", dirs, topLevel)
	}
}

// checkPlaces proves that the table itself only points down and gives reasons.
func checkPlaces(table map[string]place) (problems []string) {
	for pkg, p := range table {
		if p.why == "" {
			problems = append(problems, pkg+": no reason given")
		}
		for _, m := range p.may {
			q, known := table[m]
			switch {
			case m == "*":
			case !known:
				problems = append(problems, fmt.Sprintf("%s: may import %s, which is not in the table", pkg, m))
			case q.floor > p.floor, q.floor == p.floor && p.floor > 0:
				problems = append(problems, fmt.Sprintf("%s: floor %d may not import %s on floor %d", pkg, p.floor, m, q.floor))
			}
		}
	}
	return problems
}

// checkFloors compares what is imported with the table. Tests may import any
// lower floor, their own package, and faultfs.
func checkFloors(table map[string]place, files []*source) (problems []string) {
	for _, f := range files {
		p, known := table[f.dir]
		if !known {
			problems = append(problems, f.path+": its package is on no floor")
			continue
		}
		for _, imp := range f.imports {
			q, ours := strings.CutPrefix(imp, module+"/")
			if !ours || f.test && q == f.dir {
				continue
			}
			lower := table[q].why != "" && (table[q].floor < p.floor || f.test && table[q].floor == 0)
			named := slices.Contains(p.may, q) || lower && (f.test || slices.Contains(p.may, "*"))
			if !named {
				problems = append(problems, fmt.Sprintf("%s: %s (floor %d) may not import %s", f.path, f.dir, p.floor, q))
			}
		}
	}
	return problems
}

func checkRestrictions(rules []restriction, files []*source) (problems []string) {
	for _, r := range rules {
		for _, f := range files {
			if f.test && !r.tests || slices.ContainsFunc(r.allowed, func(a string) bool { return within(f.path, a) || f.dir == a }) {
				continue
			}
			for _, imp := range f.imports {
				if slices.ContainsFunc(r.imports, func(i string) bool { return within(imp, i) }) {
					problems = append(problems, fmt.Sprintf("%s: imports %s: %s", f.path, imp, r.why))
				}
			}
		}
	}
	return problems
}

// within reports whether name is place, or below it when place ends in a slash.
func within(name, place string) bool {
	return name == place || strings.HasSuffix(place, "/") && strings.HasPrefix(name, place)
}

var listed = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (.*?) *\\|$")

// checkListed compares the modules of go.mod with the table of reasons.
func checkListed(mod, page string) (problems []string) {
	want := requirements(mod)
	have := map[string]bool{}
	for _, m := range listed.FindAllStringSubmatch(page, -1) {
		have[m[1]] = true
		if len(m[2]) < 10 {
			problems = append(problems, m[1]+": docs/dependencies.md gives no reason")
		}
		if !want[m[1]] {
			problems = append(problems, m[1]+": in docs/dependencies.md but not in go.mod")
		}
	}
	for m := range want {
		if !have[m] {
			problems = append(problems, m+": in go.mod but not in docs/dependencies.md")
		}
		if strings.Contains(m, "/avo") {
			problems = append(problems, m+": the assembly generator lives in a module of its own")
		}
	}
	slices.Sort(problems)
	return problems
}

// requirements returns the module paths that go.mod requires.
func requirements(mod string) map[string]bool {
	out := map[string]bool{}
	block := false
	for sc := bufio.NewScanner(strings.NewReader(mod)); sc.Scan(); {
		f := strings.Fields(sc.Text())
		switch {
		case len(f) == 0:
		case f[0] == ")":
			block = false
		case f[0] == "require" && len(f) > 1 && f[1] == "(":
			block = true
		case f[0] == "require" && len(f) > 2:
			out[f[1]] = true
		case block && len(f) > 1 && !strings.HasPrefix(f[0], "//"):
			out[f[0]] = true
		}
	}
	return out
}

// importsOf lists the import paths of a file.
func importsOf(f *ast.File) (out []string) {
	for _, spec := range f.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// TestFloorsCheck shows that each check of this file can fail.
func TestFloorsCheck(t *testing.T) {
	table := map[string]place{
		"low": {0, nil, "r"}, "side": {1, nil, "r"}, "mid": {1, []string{"low"}, "r"}, "top": {2, []string{"*"}, "r"},
	}
	file := func(name, imp string) *source {
		return parseSource(t, name, "package p\nimport _ \""+imp+"\"\n")
	}
	rules := []restriction{
		{[]string{"os", "os/"}, []string{"low", "cmd/", "top/one.go"}, false, "files"},
		{[]string{"unsafe"}, nil, true, "casts"},
	}
	for _, c := range []struct {
		name string
		got  []string
		bad  bool
	}{
		{"down", checkFloors(table, []*source{file("mid/a.go", module+"/low")}), false},
		{"up", checkFloors(table, []*source{file("low/a.go", module+"/mid")}), true},
		{"sideways", checkFloors(table, []*source{file("mid/a.go", module+"/side")}), true},
		{"not named", checkFloors(table, []*source{file("side/a.go", module+"/low")}), true},
		{"not named, in a test", checkFloors(table, []*source{file("side/a_test.go", module+"/low")}), false},
		{"up, in a test", checkFloors(table, []*source{file("low/a_test.go", module+"/mid")}), true},
		{"star", checkFloors(table, []*source{file("top/a.go", module+"/mid")}), false},
		{"star, unknown", checkFloors(table, []*source{file("top/a.go", module+"/other")}), true},
		{"on no floor", checkFloors(table, []*source{file("other/a.go", "fmt")}), true},
		{"table up", checkPlaces(map[string]place{"low": {0, []string{"mid"}, "r"}, "mid": {1, nil, "r"}}), true},
		{"table sideways", checkPlaces(map[string]place{"a": {1, []string{"b"}, "r"}, "b": {1, nil, "r"}}), true},
		{"table without reason", checkPlaces(map[string]place{"a": {1, nil, ""}}), true},
		{"os below", checkRestrictions(rules, []*source{file("mid/a.go", "os")}), true},
		{"os/exec below", checkRestrictions(rules, []*source{file("mid/a.go", "os/exec")}), true},
		{"os in its place", checkRestrictions(rules, []*source{file("low/a.go", "os")}), false},
		{"os in a tree", checkRestrictions(rules, []*source{file("cmd/x/a.go", "os")}), false},
		{"os in a file", checkRestrictions(rules, []*source{file("top/one.go", "os"), file("top/a_test.go", "os")}), false},
		{"os beside the file", checkRestrictions(rules, []*source{file("top/two.go", "os")}), true},
		{"unsafe in a test", checkRestrictions(rules, []*source{file("low/a_test.go", "unsafe")}), true},
		{"listed", checkListed("require x.y/z v1.0.0 // indirect\n", "| `x.y/z` | sorts the things |\n"), false},
		{"not listed", checkListed("require (\n\tx.y/z v1\n\tx.y/w v1\n)\n", "| `x.y/z` | sorts the things |\n"), true},
		{"listed too much", checkListed("module m\n", "| `x.y/z` | sorts the things |\n"), true},
		{"no reason", checkListed("require x.y/z v1.0.0\n", "| `x.y/z` |  |\n"), true},
		{"avo", checkListed("require a.b/avo v1\n", "| `a.b/avo` | makes assembly |\n"), true},
	} {
		if (len(c.got) > 0) != c.bad {
			t.Errorf("%s: found %q, want a problem: %v", c.name, c.got, c.bad)
		}
	}
}
