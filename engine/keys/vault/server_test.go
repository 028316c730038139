package vault

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A server is something that has transit, and an administrator's token.
type server struct {
	address string // http://host:port
	root    string
}

// admin makes a call of the HTTP API that must succeed, and gives its answer.
func (s server) admin(t *testing.T, method, path, body string) map[string]any {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.address+"/v1/"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", s.root)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var out map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&out); resp.StatusCode >= 300 || err != nil && resp.StatusCode != http.StatusNoContent {
		t.Fatalf("%s %s: HTTP %d, %v, %v", method, path, resp.StatusCode, out, err)
	}
	return out
}

// token makes a token that may update these paths.
func (s server) token(t *testing.T, name string, paths ...string) string {
	t.Helper()
	var policy strings.Builder
	for _, p := range paths {
		fmt.Fprintf(&policy, "path %q { capabilities = [\"update\"] }\n", p)
	}
	text, err := json.Marshal(map[string]string{"policy": policy.String()})
	if err != nil {
		t.Fatal(err)
	}
	s.admin(t, "PUT", "sys/policies/acl/"+name, string(text))
	auth, _ := s.admin(t, "POST", "auth/token/create", `{"policies":["`+name+`"]}`)["auth"].(map[string]any)
	token, ok := auth["client_token"].(string)
	if !ok {
		t.Fatal("no token in the answer")
	}
	return token
}

// startReal starts OpenBao or Vault in dev mode, in memory, on loopback.
func startReal(t *testing.T) server {
	t.Helper()
	binary := os.Getenv("CHROMAD_TEST_VAULT")
	for _, name := range []string{"bao", "vault"} {
		if found, err := exec.LookPath(name); binary == "" && err == nil {
			binary = found
		}
	}
	if binary == "" {
		t.Skip("SKIPPED: no OpenBao or Vault here; put bao or vault into PATH, or its path into CHROMAD_TEST_VAULT")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	cmd := exec.CommandContext(t.Context(), binary, "server", "-dev", "-dev-listen-address="+addr, "-dev-root-token-id=root-of-test", "-dev-no-store-token")
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	var log strings.Builder
	for sc := bufio.NewScanner(out); sc.Scan(); {
		fmt.Fprintln(&log, sc.Text())
		if strings.Contains(sc.Text(), "Root Token:") {
			t.Log("real server:", binary)
			return server{"http://" + addr, "root-of-test"}
		}
	}
	t.Fatalf("%s did not start:\n%s", binary, log.String())
	return server{}
}

// A transit is the part of the HTTP API that the tests use, as OpenBao 2.6
// answers it: ciphers, versions, policies, and the sentences of its errors.
type transit struct {
	mu       sync.Mutex
	keys     map[string]*transitKey
	may      map[string][]string // policy -> paths
	tokens   map[string]string   // token -> policy
	careless bool                // leaves out associated_data, as old servers do
	headers  []http.Header
}

type transitKey struct {
	kind     string
	derived  bool
	versions []cipher.AEAD
	oldest   int
}

// startProtocol starts a transit on loopback.
func startProtocol(t *testing.T, tr *transit) server {
	t.Helper()
	tr.keys, tr.may, tr.tokens = map[string]*transitKey{}, map[string][]string{}, map[string]string{}
	s := httptest.NewServer(tr)
	t.Cleanup(s.Close)
	return server{s.URL, "root-of-test"}
}

// ServeHTTP implements http.Handler.
func (tr *transit) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.headers = append(tr.headers, r.Header.Clone())
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	token, root := r.Header.Get("X-Vault-Token"), false
	if root = token == "root-of-test"; !root {
		allowed := false
		for _, p := range tr.may[tr.tokens[token]] {
			allowed = allowed || p == path
		}
		if !allowed {
			refuse(w, 403, "permission denied")
			return
		}
	}
	var body map[string]any
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		body = map[string]any{}
	}
	field := func(name string) string { s, _ := body[name].(string); return s }
	parts := strings.Split(path, "/")
	switch {
	case parts[0] == "sys" && parts[1] == "mounts":
		w.WriteHeader(204)
	case parts[0] == "sys" && parts[1] == "policies":
		for line := range strings.Lines(field("policy")) {
			tr.may[parts[3]] = append(tr.may[parts[3]], strings.Split(line, `"`)[1])
		}
		w.WriteHeader(204)
	case parts[0] == "auth":
		token := "s." + rand.Text()[:24]
		tr.tokens[token] = fmt.Sprint(body["policies"].([]any)[0])
		answer(w, map[string]any{"auth": map[string]any{"client_token": token}})
	case parts[0] != "transit":
		refuse(w, 404, `no handler for route "`+path+`". route entry not found.`)
	case parts[1] == "keys":
		tr.manage(w, parts[2:], body)
	case parts[1] == "encrypt":
		if root && tr.keys[parts[2]] == nil { // who may create, does so without being asked
			tr.keys[parts[2]] = newKey("aes256-gcm96", false)
		}
		tr.encrypt(w, tr.keys[parts[2]], field)
	case parts[1] == "decrypt":
		tr.decrypt(w, tr.keys[parts[2]], field)
	}
}

func answer(w http.ResponseWriter, fields map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(fields)
}

func refuse(w http.ResponseWriter, status int, sentence string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"errors": []string{sentence}})
}

func newAEAD() cipher.AEAD {
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return aead
}

func newKey(kind string, derived bool) *transitKey {
	return &transitKey{kind, derived, []cipher.AEAD{newAEAD()}, 1}
}

func (tr *transit) manage(w http.ResponseWriter, parts []string, body map[string]any) {
	switch {
	case len(parts) == 1:
		kind, _ := body["type"].(string)
		derived, _ := body["derived"].(bool)
		tr.keys[parts[0]] = newKey(kind, derived)
	case parts[1] == "rotate":
		k := tr.keys[parts[0]]
		k.versions = append(k.versions, newAEAD())
	case parts[1] == "config":
		oldest, _ := body["min_decryption_version"].(float64)
		tr.keys[parts[0]].oldest = int(oldest)
	}
	answer(w, map[string]any{"data": map[string]any{}})
}

// usable refuses what both calls refuse. It gives the associated data.
func (tr *transit) usable(w http.ResponseWriter, k *transitKey, field func(string) string) ([]byte, bool) {
	switch {
	case k == nil:
		refuse(w, 400, "encryption key not found")
	case k.derived && field("context") == "":
		refuse(w, 400, "missing 'context' for key derivation; the key was created using a derived key, which means additional, per-request information must be included in order to perform operations with the key")
	case strings.HasPrefix(k.kind, "rsa") && field("associated_data") != "":
		refuse(w, 400, "'[0].associated_data' provided for non-AEAD cipher suite "+k.kind)
	default:
		associated, err := base64.StdEncoding.DecodeString(field("associated_data"))
		if err != nil {
			refuse(w, 400, "failed to base64-decode associated data")
			return nil, false
		}
		if tr.careless {
			associated = nil
		}
		return associated, true
	}
	return nil, false
}

func (tr *transit) encrypt(w http.ResponseWriter, k *transitKey, field func(string) string) {
	associated, ok := tr.usable(w, k, field)
	if !ok {
		return
	}
	plaintext, err := base64.StdEncoding.DecodeString(field("plaintext"))
	if err != nil {
		refuse(w, 400, "failed to base64-decode plaintext")
		return
	}
	version := len(k.versions)
	sealed := k.versions[version-1].Seal(nil, nil, plaintext, associated)
	answer(w, map[string]any{"data": map[string]any{"key_version": version,
		"ciphertext": fmt.Sprintf("vault:v%d:%s", version, base64.StdEncoding.EncodeToString(sealed))}})
}

func (tr *transit) decrypt(w http.ResponseWriter, k *transitKey, field func(string) string) {
	associated, ok := tr.usable(w, k, field)
	if !ok {
		return
	}
	parts := strings.Split(field("ciphertext"), ":")
	if len(parts) != 3 || parts[0] != "vault" {
		refuse(w, 400, "invalid ciphertext: no prefix")
		return
	}
	version, err := strconv.Atoi(strings.TrimPrefix(parts[1], "v"))
	sealed, err2 := base64.StdEncoding.DecodeString(parts[2])
	switch {
	case err != nil || err2 != nil:
		refuse(w, 400, "invalid ciphertext: could not be decoded")
	case version > len(k.versions):
		refuse(w, 400, "invalid ciphertext: version is too new")
	case version < k.oldest:
		refuse(w, 400, "ciphertext or signature version is disallowed by policy (too old)")
	case len(sealed) < 28:
		refuse(w, 400, "invalid ciphertext length")
	default:
		opened, err := k.versions[version-1].Open(nil, nil, sealed, associated)
		if err != nil {
			refuse(w, 400, "cipher: message authentication failed")
			return
		}
		answer(w, map[string]any{"data": map[string]any{"plaintext": base64.StdEncoding.EncodeToString(bytes.Clone(opened))}})
	}
}
