package gcpkms

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const (
	nameOne = "projects/p-1/locations/europe-west3/keyRings/ring/cryptoKeys/one"
	nameTwo = "projects/example.com:p-2/locations/global/keyRings/ring/cryptoKeys/two"
	access  = "ya29.5ecretAccessTokenOfTheTestWhichIsLong"
)

// A service is the part of Google's KMS that is used, on loopback: encrypt and
// decrypt of the REST API with their checksums, and a token server that
// verifies the assertions of a service account.
type service struct {
	mu     sync.Mutex
	signer *rsa.PrivateKey
	keys   map[string][]cipher.AEAD // versions
	fail   func(call int, method string, body []byte, w http.ResponseWriter) bool
	token  http.HandlerFunc // instead of the token server
	mangle func(answer map[string]any)
	calls  int
}

// start starts a service with two keys, and writes credentials for it.
func start(t testing.TB, s *service) *httptest.Server {
	t.Helper()
	if s.signer == nil {
		s.signer = account(t)
	}
	s.keys = map[string][]cipher.AEAD{nameOne: {newAEAD(t)}, nameTwo: {newAEAD(t)}}
	server := httptest.NewTLSServer(s)
	t.Cleanup(server.Close)
	der, err := x509.MarshalPKCS8PrivateKey(s.signer)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]string{"type": "service_account", "client_email": "a@p-1.iam.gserviceaccount.com", "private_key_id": "1",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "token_uri": server.URL + "/token"})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "account.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", path)
	return server
}

// account is the key of the usual service account: making one takes long.
var account = func() func(testing.TB) *rsa.PrivateKey {
	once := sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })
	return func(t testing.TB) *rsa.PrivateKey {
		t.Helper()
		key, err := once()
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
}()

func newAEAD(t testing.TB) cipher.AEAD {
	t.Helper()
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	return aead
}

// refuse answers with an error in the form of Google's APIs.
func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"code": status, "message": message, "status": code}})
}

// ServeHTTP implements http.Handler.
func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.URL.Path == "/token" {
		if s.token != nil {
			s.token(w, r)
			return
		}
		s.giveToken(w, r)
		return
	}
	s.calls++
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	name, method, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/"), ":")
	if at := strings.LastIndex(r.URL.Path, ":"); ok { // projects of a domain have one in their name
		name, method = strings.TrimPrefix(r.URL.Path[:at], "/v1/"), r.URL.Path[at+1:]
	}
	if s.fail != nil && s.fail(s.calls, method, body, w) {
		return
	}
	var in map[string]string
	switch {
	case r.Header.Get("Authorization") != "Bearer "+access:
		refuse(w, 401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
	case r.Method != "POST" || json.Unmarshal(body, &in) != nil:
		refuse(w, 400, "INVALID_ARGUMENT", "Invalid JSON payload received.")
	case s.keys[name] == nil:
		refuse(w, 404, "NOT_FOUND", "CryptoKey "+name+" not found.")
	case method == "encrypt":
		s.encrypt(w, name, in)
	case method == "decrypt":
		s.decrypt(w, name, in)
	}
}

// giveToken wants an assertion that the account has signed (RFC 7523).
func (s *service) giveToken(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(r.FormValue("assertion"), ".")
	refuse := func(why string) {
		w.WriteHeader(400)
		json.NewEncoder(w).Encode(map[string]string{"error": "invalid_grant", "error_description": why})
	}
	if len(parts) != 3 {
		refuse("no assertion")
		return
	}
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	hash := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err != nil || rsa.VerifyPKCS1v15(&s.signer.PublicKey, crypto.SHA256, hash[:], sig) != nil {
		refuse("Invalid JWT Signature.")
		return
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || !strings.Contains(string(claims), scope) {
		refuse("no scope")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"access_token": access, "token_type": "Bearer", "expires_in": 3600})
}

// field decodes a field and compares it with its checksum.
func field(in map[string]string, name string) ([]byte, bool) {
	b, err := base64.StdEncoding.DecodeString(in[name])
	return b, err == nil && in[name+"Crc32c"] == checksum(b)
}

func checksum(b []byte) string {
	return strconv.FormatUint(uint64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))), 10)
}

func (s *service) encrypt(w http.ResponseWriter, name string, in map[string]string) {
	plaintext, ok1 := field(in, "plaintext")
	associated, ok2 := field(in, "additionalAuthenticatedData")
	if !ok1 || !ok2 {
		refuse(w, 400, "INVALID_ARGUMENT", "The checksum in field plaintext_crc32c did not match the data in field plaintext.")
		return
	}
	n := len(s.keys[name])
	sealed := s.keys[name][n-1].Seal([]byte{byte(n)}, nil, plaintext, associated)
	s.answer(w, map[string]any{"name": fmt.Sprintf("%s/cryptoKeyVersions/%d", name, n), "ciphertext": base64.StdEncoding.EncodeToString(sealed),
		"ciphertextCrc32c": checksum(sealed), "verifiedPlaintextCrc32c": true, "verifiedAdditionalAuthenticatedDataCrc32c": true, "protectionLevel": "SOFTWARE"})
}

func (s *service) decrypt(w http.ResponseWriter, name string, in map[string]string) {
	sealed, ok1 := field(in, "ciphertext")
	associated, ok2 := field(in, "additionalAuthenticatedData")
	if !ok1 || !ok2 {
		refuse(w, 400, "INVALID_ARGUMENT", "The checksum in field ciphertext_crc32c did not match the data in field ciphertext.")
		return
	}
	const wrong = "Decryption failed: verify that 'name' refers to the correct CryptoKey."
	if len(sealed) == 0 || int(sealed[0]) > len(s.keys[name]) || sealed[0] == 0 {
		refuse(w, 400, "INVALID_ARGUMENT", wrong)
		return
	}
	version := s.keys[name][sealed[0]-1]
	if version == nil {
		refuse(w, 400, "FAILED_PRECONDITION", fmt.Sprintf("%s/cryptoKeyVersions/%d is not enabled, current state is: DISABLED.", name, sealed[0]))
		return
	}
	opened, err := version.Open(nil, nil, sealed[1:], associated)
	if err != nil {
		refuse(w, 400, "INVALID_ARGUMENT", wrong)
		return
	}
	s.answer(w, map[string]any{"plaintext": base64.StdEncoding.EncodeToString(opened), "plaintextCrc32c": checksum(opened),
		"usedPrimary": int(sealed[0]) == len(s.keys[name]), "protectionLevel": "SOFTWARE"})
}

func (s *service) answer(w http.ResponseWriter, fields map[string]any) {
	if s.mangle != nil {
		s.mangle(fields)
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	json.NewEncoder(w).Encode(fields)
}
