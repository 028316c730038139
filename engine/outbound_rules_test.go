package engine_test

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// mayConnect are the packages that may open connections by other means than
// internal/outbound, with the reason.
var mayConnect = map[string]string{
	"internal/outbound": "it is the means",
	"fuzz/attack":       "is an attacker, from outside",
	"bench":             "measures a server that it has started",
}

// mayLookUp are files that may resolve names, with the reason.
var mayLookUp = map[string]string{
	"cmd/chromad/run.go": "whether other machines can reach the address that is listened on",
}

// connects are the names of the standard library that open connections, or are
// clients that open them wherever a request, a redirect or the environment points.
var connects = map[string][]string{
	"net":        {"Dial", "DialTimeout", "DialTCP", "DialUDP", "DialUnix", "DialIP", "Dialer"},
	"net/http":   {"Get", "Head", "Post", "PostForm", "DefaultClient", "DefaultTransport", "ProxyFromEnvironment", "ProxyURL", "Transport"},
	"crypto/tls": {"Dial", "DialWithDialer", "Dialer"},
	"net/rpc":    {"Dial", "DialHTTP"},
	"net/smtp":   {"Dial", "SendMail"},
}

// lookUps are those that ask name servers.
var lookUps = []string{"DefaultResolver", "Resolver", "LookupHost", "LookupIP", "LookupAddr", "LookupCNAME", "LookupMX", "LookupNS", "LookupPort", "LookupSRV", "LookupTXT", "ResolveTCPAddr", "ResolveUDPAddr", "ResolveIPAddr"}

// TestRulesOutbound proves that internal/outbound is the only way out.
func TestRulesOutbound(t *testing.T) {
	report(t, checkOutbound(tree(t)))
}

func checkOutbound(files []*source) (problems []string) {
	for _, f := range files {
		if f.test || mayConnect[f.dir] != "" || strings.HasPrefix(f.dir, "bench/") {
			continue
		}
		names := packageNames(f)
		ast.Inspect(f.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				x, ok := n.X.(*ast.Ident)
				if !ok {
					return true
				}
				path := names[x.Name]
				if path == "net/http" && n.Sel.Name == "Transport" && typeOnly(f, n) {
					return true
				}
				if slices.Contains(connects[path], n.Sel.Name) {
					problems = append(problems, fmt.Sprintf("%s: %s.%s: connections are opened by internal/outbound, to what the configuration names", f.line(n.Pos()), x.Name, n.Sel.Name))
				}
				if path == "net" && slices.Contains(lookUps, n.Sel.Name) && mayLookUp[f.path] == "" {
					problems = append(problems, fmt.Sprintf("%s: %s.%s: a name server is asked by internal/outbound only", f.line(n.Pos()), x.Name, n.Sel.Name))
				}
			case *ast.CompositeLit:
				if !isSelector(n.Type, names, "net/http", "Client") {
					return true
				}
				given := slices.ContainsFunc(n.Elts, func(e ast.Expr) bool {
					kv, ok := e.(*ast.KeyValueExpr)
					if !ok {
						return true // all fields, in order: the first is the transport
					}
					id, ok := kv.Key.(*ast.Ident)
					return ok && id.Name == "Transport"
				})
				if !given {
					problems = append(problems, f.line(n.Pos())+": an http.Client without a transport is http.DefaultClient")
				}
			}
			return true
		})
	}
	return problems
}

// packageNames are the names that a file has for what it imports.
func packageNames(f *source) map[string]string {
	names := map[string]string{}
	for i, spec := range f.file.Imports {
		path := f.imports[i]
		name := path[strings.LastIndex(path, "/")+1:]
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = path
	}
	return names
}

func isSelector(e ast.Expr, names map[string]string, path, name string) bool {
	s, ok := e.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, ok := s.X.(*ast.Ident)
	return ok && names[x.Name] == path && s.Sel.Name == name
}

// typeOnly reports whether a mention of http.Transport makes none, or is in a
// file that puts a way around what it makes.
func typeOnly(f *source, n *ast.SelectorExpr) bool {
	literal := false
	ast.Inspect(f.file, func(m ast.Node) bool {
		if c, ok := m.(*ast.CompositeLit); ok && c.Type == ast.Expr(n) {
			literal = true
		}
		return true
	})
	return !literal || strings.Contains(f.text, ".Guard(")
}

// TestRulesOutboundCheck shows that the rule can fail.
func TestRulesOutboundCheck(t *testing.T) {
	for text, bad := range map[string]bool{
		"import \"net\"\nvar _, _ = net.Dial(\"tcp\", \"a:1\")":                     true,
		"import \"net\"\nvar d net.Dialer":                                          true,
		"import n \"net\"\nvar d n.Dialer":                                          true,
		"import \"net\"\nvar l net.Listener":                                        false,
		"import \"net\"\nvar r = net.DefaultResolver":                               true,
		"import \"net/http\"\nvar _, _ = http.Get(\"x\")":                           true,
		"import \"net/http\"\nvar c = http.DefaultClient":                           true,
		"import \"net/http\"\nvar c = &http.Client{}":                               true,
		"import \"net/http\"\nvar c = &http.Client{Transport: x}":                   false,
		"import \"net/http\"\nvar c = &http.Transport{}":                            true,
		"import \"net/http\"\nfunc f(t *http.Transport) {}":                         false,
		"import \"net/http\"\nfunc f(w way) { t := &http.Transport{}; w.Guard(t) }": false,
		"import \"crypto/tls\"\nvar _, _ = tls.Dial(\"tcp\", \"a:1\", nil)":         true,
		"import \"net/http\"\nvar h http.Handler":                                   false,
	} {
		if got := checkOutbound([]*source{parseSource(t, "server/x.go", "package p\n"+text+"\n")}); (len(got) > 0) != bad {
			t.Errorf("%s: %q", text, got)
		}
	}
	if got := checkOutbound([]*source{parseSource(t, "server/x_test.go", "package p\nimport \"net\"\nvar d net.Dialer\n")}); len(got) > 0 {
		t.Errorf("a test: %q", got)
	}
}
