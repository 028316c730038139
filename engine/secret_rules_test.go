package engine_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"
	"testing"
)

// secretNames are the names that server/access has for secrets, for what is
// made of them, and for guesses.
var secretNames = []string{"secret", "Secret", "Hash", "sum", "Password", "NewPassword", "password", "text", "Token", "raw"}

// comparing are functions that are done at the first byte that differs.
var comparing = map[string][]string{
	"bytes":   {"Equal", "Compare", "HasPrefix", "HasSuffix", "EqualFold", "Contains", "Index"},
	"strings": {"EqualFold", "Compare", "HasSuffix", "Contains", "Index"},
	"slices":  {"Equal", "Compare", "Index", "Contains"},
	"reflect": {"DeepEqual"},
}

// mayCompareSecrets are comparisons that nobody learns from, with the reason.
var mayCompareSecrets = map[string]string{
	"strings.ToLower(k.Hash) != k.Hash": "of a stored hash with itself, when a policy is read",
	`strings.Contains(text, ".")`:       "what kind of credential it is",
}

// TestRulesSecrets proves that what a request shows is compared with a secret
// in constant time, by crypto/subtle: how long anything else takes tells how
// much of a guess is right.
func TestRulesSecrets(t *testing.T) {
	report(t, checkSecrets(tree(t)))
}

func checkSecrets(files []*source) (problems []string) {
	for _, f := range files {
		if f.test || f.dir != "server/access" && f.path != "server/auth.go" {
			continue
		}
		names := packageNames(f)
		bad := func(n ast.Node, e ast.Expr) {
			if text := types.ExprString(e); mayCompareSecrets[text] == "" {
				problems = append(problems, fmt.Sprintf("%s: %s: secrets are compared by crypto/subtle", f.line(n.Pos()), text))
			}
		}
		ast.Inspect(f.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BinaryExpr:
				if (n.Op == token.EQL || n.Op == token.NEQ) && (isSecret(n.X) || isSecret(n.Y)) && !isNothing(n.X) && !isNothing(n.Y) {
					bad(n, n)
				}
			case *ast.IndexExpr:
				if isSecret(n.Index) {
					bad(n, n) // a map, which compares too
				}
			case *ast.SwitchStmt:
				if n.Tag != nil && isSecret(n.Tag) {
					bad(n, n.Tag)
				}
			case *ast.CallExpr:
				for path, functions := range comparing {
					if slices.ContainsFunc(functions, func(name string) bool { return isSelector(n.Fun, names, path, name) }) && slices.ContainsFunc(n.Args, isSecret) {
						bad(n, n)
					}
				}
			}
			return true
		})
	}
	return problems
}

// isSecret reports whether the value of an expression, or of a part of it, has
// the name of a secret.
func isSecret(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return slices.Contains(secretNames, e.Name)
	case *ast.SelectorExpr:
		return slices.Contains(secretNames, e.Sel.Name)
	case *ast.SliceExpr:
		return isSecret(e.X)
	case *ast.IndexExpr:
		return isSecret(e.X)
	case *ast.ParenExpr:
		return isSecret(e.X)
	case *ast.StarExpr:
		return isSecret(e.X)
	case *ast.CallExpr:
		switch name := types.ExprString(e.Fun); {
		case name == "len": // of a fixed length
			return false
		case strings.HasPrefix(name, "subtle."): // its answer
			return false
		}
		return slices.ContainsFunc(e.Args, isSecret)
	}
	return false
}

// isNothing reports whether an expression is "", nil, a letter, or a word that
// says that there is no secret.
func isNothing(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name == "nil" || e.Name == "Hidden"
	case *ast.BasicLit:
		return e.Kind == token.CHAR || e.Value == `""`
	}
	return false
}

// TestRulesSecretsCheck shows that the rule can fail.
func TestRulesSecretsCheck(t *testing.T) {
	for text, bad := range map[string]bool{
		"func f(k K, text string) bool { return k.Hash == text }":                                                   true,
		"func f(k K, b string) bool { return b != k.Password }":                                                     true,
		"func f(k K) bool { return k.Password == \"\" }":                                                            false,
		"func f(k K) bool { return len(k.Hash) != 64 }":                                                             false,
		"import \"bytes\"\nfunc f(p P, b []byte) bool { return bytes.Equal(b, p.sum[:]) }":                          true,
		"import \"strings\"\nfunc f(a, secret string) bool { return strings.EqualFold(a, secret) }":                 true,
		"func f(m map[string]int, secret string) int { return m[hashKey(secret)] }":                                 true,
		"func f(secret string) { switch secret { case \"a\": } }":                                                   true,
		"func f(secret string) bool { return secret[8] == '_' }":                                                    false,
		"import \"crypto/subtle\"\nfunc f(p P, b []byte) bool { return subtle.ConstantTimeCompare(b, p.sum) == 1 }": false,
	} {
		if got := checkSecrets([]*source{parseSource(t, "server/access/x.go", "package p\n"+text+"\n")}); (len(got) > 0) != bad {
			t.Errorf("%s: %q", text, got)
		}
	}
}
