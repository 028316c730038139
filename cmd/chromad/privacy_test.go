package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// privately runs a command of chromad privacy, which is to end with status.
func privately(t *testing.T, status int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, said bytes.Buffer
	if got := command(t.Context(), append([]string{"privacy"}, args...), &out, &said); got != status {
		t.Fatalf("privacy %q: status %d, %s", args, got, &said)
	}
	return out.String(), said.String()
}

// withInput gives the test a standard input.
func withInput(t *testing.T, text string) {
	t.Helper()
	file := written(t, "input", text)
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	before := os.Stdin
	os.Stdin = f
	t.Cleanup(func() {
		os.Stdin = before
		f.Close()
	})
}

func written(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Rules are set and shown while a server runs and while none does, and hold at once.
func TestPrivacy(t *testing.T) {
	const collections = "/api/v2/tenants/default_tenant/databases/default_database/collections"
	path := filepath.Join(t.TempDir(), "store")
	start(t, "--path", path).finish(t)
	rules := written(t, "rules.yaml", "rules:\n    - accept: []\n      detect:\n        '*': mask\n      others: reject\nversion: 1\n")
	privately(t, exitOK, "set", path, rules)
	want, err := os.ReadFile(rules)
	if err != nil {
		t.Fatal(err)
	}
	if shown, _ := privately(t, exitOK, "show", path); shown != string(want) {
		t.Errorf("shown:\n%s", shown)
	}
	s := start(t, "--path", path)
	answer := ask(t, "POST", s.address+collections, `{"name":"docs"}`)
	_, id, _ := strings.Cut(answer, `{"id":"`)
	at := s.address + collections + "/" + id[:36]
	if got := ask(t, "POST", at+"/add", `{"ids":["a"],"embeddings":[[1]],"metadatas":[{"k":1}]}`); !strings.Contains(got, "not accepted") {
		t.Errorf("a key that is not accepted: %s", got)
	}
	privately(t, exitOK, "set", path, written(t, "more.yaml", "version: 1\nrules:\n- keys: {mail: pseudonym}\n"))
	ask(t, "POST", at+"/add", `{"ids":["a"],"embeddings":[[1]],"metadatas":[{"mail":"ada@example.com"}]}`)
	if _, said := privately(t, exitOK, "rotate", path); !strings.Contains(said, "keys: 2") {
		t.Errorf("rotate: %s", said)
	}
	if shown, _ := privately(t, exitOK, "show", path); !strings.Contains(shown, "mail: pseudonym") {
		t.Errorf("shown by a server:\n%s", shown)
	}
	s.finish(t)
	s = start(t, "--path", path)
	if got := ask(t, "POST", strings.Replace(at, at[:strings.Index(at, "/api")], s.address, 1)+"/get", `{"where":{"mail":"ada@example.com"}}`); !strings.HasPrefix(got, `{"ids":["a"]`) || strings.Contains(got, "ada@") {
		t.Errorf("after a restart: %s", got)
	}
	s.finish(t)
	for args, want := range map[string]string{
		"set " + path + " " + written(t, "a", "version: 1\nrules:\n- keyz: {}"):                      `unknown field "keyz"`,
		"set " + path + " " + written(t, "b", "version: 1\nrules:\n- accept:"):                       "rules[].accept: nothing behind it",
		"set " + path + " " + written(t, "c", "version: 1\nrules:\n- uri: drop\n  uri: keep"):        "already defined",
		"set " + path + " " + written(t, "d", "version: 1\nrules:\n- detect: {shoe_size: reject}\n"): "no kind of personal data",
	} {
		if _, said := privately(t, exitFailed, strings.Fields(args)...); !strings.Contains(said, want) {
			t.Errorf("%s: %s", args, said)
		}
	}
	if _, said := privately(t, exitUsage, "set", path); !strings.Contains(said, "which file") {
		t.Errorf("set without a file: %s", said)
	}
}

func TestPrivacyTest(t *testing.T) {
	withInput(t, "write to ada@example.com\n")
	if out, said := privately(t, exitOK, "test"); out != "write to [email]\n" || said != "email: bytes 9 to 24\n" {
		t.Errorf("without rules: %s%s", out, said)
	}
	rules := written(t, "rules.yaml", "version: 1\nrules:\n- {on: {tenant: acme}, detect: {email: reject}}\n")
	withInput(t, "write to ada@example.com\n")
	if _, said := privately(t, exitFailed, "test", rules); !strings.Contains(said, "refused: document: has personal data in it (email)") {
		t.Errorf("rejected: %s", said)
	}
	withInput(t, "write to ada@example.com\n")
	if out, said := privately(t, exitOK, "test", rules, "--on", "beta/main/docs"); out != "write to ada@example.com\n" || !strings.Contains(said, "no rule holds") {
		t.Errorf("elsewhere: %s%s", out, said)
	}
}

// The examples of the page are what the programs read.
func TestPrivacyPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/privacy.md")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for i, block := range strings.Split(string(page), "```yaml\n")[1:] {
		text, _, _ := strings.Cut(block, "```")
		file := written(t, fmt.Sprint(i), text)
		if strings.Contains(text, "\nroles:") {
			kinds["policy"]++
			p, err := readPolicy(file)
			if err != nil || p.Roles[0].Grants[1].Fields.Empty() {
				t.Errorf("%v in\n%s", err, text)
			}
			continue
		}
		kinds["rules"]++
		if _, err := readRules(file); err != nil {
			t.Errorf("%v in\n%s", err, text)
		}
	}
	if kinds["policy"] == 0 || kinds["rules"] == 0 {
		t.Errorf("the page has %v", kinds)
	}
}

// The roles of the page, through a server and the network: who is an analyst
// reads what the page says, and the administrator of the open store read it all.
func TestPrivacyPageRoles(t *testing.T) {
	page, err := os.ReadFile("../../docs/privacy.md")
	if err != nil {
		t.Fatal(err)
	}
	_, policy, _ := strings.Cut(string(page), "```yaml\n")
	policy, _, _ = strings.Cut(policy, "```")
	path := filepath.Join(t.TempDir(), "store")
	s := start(t, "--path", path)
	const api = "/api/v2/tenants"
	ask(t, "POST", s.address+api, `{"name":"acme"}`)
	ask(t, "POST", s.address+api+"/acme/databases", `{"name":"crm"}`)
	_, id, _ := strings.Cut(ask(t, "POST", s.address+api+"/acme/databases/crm/collections", `{"name":"docs"}`), `{"id":"`)
	at := s.address + api + "/acme/databases/crm/collections/" + id[:36]
	ask(t, "POST", at+"/add", `{"ids":["a"],"embeddings":[[1]],"documents":["canary-1"],"metadatas":[{"customer":"canary-2","contact_mail":"canary-3","iban":"canary-4","year":2026,"topic":"seen","note":"canary-5"}]}`)
	if all := ask(t, "POST", at+"/get", `{}`); strings.Count(all, "canary-") != 5 {
		t.Fatalf("an open store shows %s", all)
	}
	users(t, "import", path, written(t, "policy.yaml", policy))
	key := users(t, "key", path, "ada")
	get := func(body string) (int, string) {
		req, err := http.NewRequest("POST", at+"/get", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Chroma-Token", key)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(text)
	}
	status, shown := get(`{}`)
	if status != 200 || strings.Contains(shown, "canary-") || !strings.Contains(shown, `"contact_mail":"c***"`) || !strings.Contains(shown, `"topic":"seen","year":2026`) || strings.Contains(shown, "note") {
		t.Errorf("an analyst reads %d %s", status, shown)
	}
	_, pseudonym, _ := strings.Cut(shown, `"customer":"`)
	pseudonym, _, _ = strings.Cut(pseudonym, `"`)
	if status, found := get(fmt.Sprintf(`{"include":[],"where":{"customer":%q}}`, pseudonym)); status != 200 || !strings.HasPrefix(found, `{"ids":["a"]`) {
		t.Errorf("by pseudonym: %d %s", status, found)
	}
	for _, body := range []string{`{"where":{"note":"canary-5"}}`, `{"where":{"iban":"canary-4"}}`, `{"where_document":{"$contains":"canary"}}`, `{"include":["embeddings"]}`} {
		if status, answer := get(body); status != 403 || strings.Contains(answer, "canary") {
			t.Errorf("%s: %d %s", body, status, answer)
		}
	}
	for _, running := range []bool{true, false} {
		withInput(t, pseudonym+"\n")
		if out, _ := privately(t, exitOK, "reveal", path, id[:36], "customer"); out != "\"canary-2\"\n" {
			t.Errorf("revealed: %s", out)
		}
		withInput(t, "junk\n"+pseudonym)
		if out, said := privately(t, exitFailed, "reveal", path, id[:36], "iban"); out != "null\nnull\n" || !strings.Contains(said, "line 1: no pseudonym") || !strings.Contains(said, "line 2") {
			t.Errorf("of another key: %s%s", out, said)
		}
		if running {
			s.finish(t)
		}
	}
}

// The keys of pseudonyms are in the files of a plain store, which docs/privacy.md
// says, in none of an encrypted one, and in nothing that is shown or exported.
func TestPrivacyKeysSealed(t *testing.T) {
	// What Tink calls such a key in a keyset, and that in base64 at all three places.
	marks := []string{"AesSivKey", "QWVzU2l2S2V5", "Flc1Npdktle", "BZXNTaXZLZX"}
	for _, encrypted := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "store")
		flags := []string{}
		if encrypted {
			key := filepath.Join(t.TempDir(), "key")
			if status := command(t.Context(), []string{"keys", "create", "--out", key}, &bytes.Buffer{}, os.Stderr); status != exitOK {
				t.Fatal("no key")
			}
			flags = []string{"--keys", key}
		}
		start(t, append([]string{"--path", path}, flags...)...).finish(t)
		privately(t, exitOK, append([]string{"rotate", path}, flags...)...)
		users(t, append([]string{"add", path, "ada", "--role", "admin"}, flags...)...)
		shown, _ := privately(t, exitOK, append([]string{"show", path}, flags...)...)
		shown += users(t, append([]string{"export", path}, flags...)...)
		if has(shown, marks) {
			t.Errorf("shown: %s", shown)
		}
		found := false
		err := fs.WalkDir(os.DirFS(path), ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !d.Type().IsRegular() {
				return err
			}
			text, err := os.ReadFile(filepath.Join(path, name))
			found = found || has(string(text), marks)
			return err
		})
		if err != nil || found == encrypted {
			t.Errorf("encrypted %v: a key in the clear: %v, %v", encrypted, found, err)
		}
	}
}

func has(text string, marks []string) bool {
	for _, m := range marks {
		if strings.Contains(text, m) {
			return true
		}
	}
	return false
}
