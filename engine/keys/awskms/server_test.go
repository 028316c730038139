package awskms

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

const (
	accessKey = "AKIDOFTHETEST"
	secretKey = "5ecretAccessKeyOfTheTestWhichIsLong"
	session   = "5essionTokenOfTheTestWhichIsLong"
	region    = "eu-central-1"
	arnOne    = "arn:aws:kms:eu-central-1:111122223333:key/01234567-89ab-cdef-0123-456789abcdef"
	arnTwo    = "arn:aws:kms:eu-central-1:111122223333:alias/two"
)

// A service is the part of AWS KMS that is used, on loopback: JSON 1.1 with
// the targets TrentService.Encrypt and Decrypt, signatures (version 4) that it
// verifies, contexts that it binds.
type service struct {
	mu    sync.Mutex
	keys  map[string]cipher.AEAD
	fail  func(call int, target string, body []byte, w http.ResponseWriter) bool // true: it has answered
	calls int
	seen  []map[string]string // encryption contexts
}

// start starts a service with two keys and points the SDK at it.
func start(t testing.TB, s *service) *httptest.Server {
	t.Helper()
	s.keys = map[string]cipher.AEAD{}
	for _, id := range []string{arnOne, arnTwo} {
		key := make([]byte, 32)
		rand.Read(key)
		block, err := aes.NewCipher(key)
		if err != nil {
			t.Fatal(err)
		}
		if s.keys[id], err = cipher.NewGCMWithRandomNonce(block); err != nil {
			t.Fatal(err)
		}
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	credentials(t, "AWS_ACCESS_KEY_ID", accessKey, "AWS_SECRET_ACCESS_KEY", secretKey, "AWS_SESSION_TOKEN", session,
		"AWS_ENDPOINT_URL_KMS", server.URL)
	return server
}

// credentials sets what the SDK reads; everything else that it might find is out of reach.
func credentials(t testing.TB, pairs ...string) {
	t.Helper()
	for _, name := range strings.Fields("ACCESS_KEY_ID SECRET_ACCESS_KEY SESSION_TOKEN PROFILE REGION DEFAULT_REGION ROLE_ARN WEB_IDENTITY_TOKEN_FILE CONTAINER_CREDENTIALS_FULL_URI CONTAINER_CREDENTIALS_RELATIVE_URI ENDPOINT_URL ENDPOINT_URL_KMS CA_BUNDLE") {
		t.Setenv("AWS_"+name, "")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/none")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", t.TempDir()+"/none")
	for i := 0; i < len(pairs); i += 2 {
		t.Setenv(pairs[i], pairs[i+1])
	}
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": message})
}

// ServeHTTP implements http.Handler.
func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	target, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	if s.fail != nil && s.fail(s.calls, target, body, w) {
		return
	}
	var in struct {
		KeyId                     string
		Plaintext, CiphertextBlob []byte
		EncryptionContext         map[string]string
	}
	switch problem := signature(r, body); {
	case problem != "":
		refuse(w, 400, "InvalidSignatureException", problem)
		return
	case !ok || r.Method != "POST" || r.URL.Path != "/" || r.Header.Get("Content-Type") != "application/x-amz-json-1.1":
		refuse(w, 400, "UnknownOperationException", "")
		return
	case json.Unmarshal(body, &in) != nil:
		refuse(w, 400, "SerializationException", "")
		return
	}
	s.seen = append(s.seen, in.EncryptionContext)
	aead, known := s.keys[in.KeyId]
	context, _ := json.Marshal(in.EncryptionContext) // maps are sorted
	switch {
	case !known:
		refuse(w, 400, "NotFoundException", "Key '"+in.KeyId+"' does not exist")
	case target == "Encrypt" && (len(in.Plaintext) == 0 || len(in.Plaintext) > 4096):
		refuse(w, 400, "ValidationException", "1 validation error detected: Value at 'plaintext' failed to satisfy constraint")
	case target == "Encrypt":
		blob := append([]byte{byte(len(in.KeyId))}, in.KeyId...)
		json.NewEncoder(w).Encode(map[string]any{"KeyId": in.KeyId, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
			"CiphertextBlob": aead.Seal(blob, nil, in.Plaintext, context)})
	case target == "Decrypt":
		of, blob := "", in.CiphertextBlob
		if len(blob) > 0 && len(blob) > int(blob[0]) {
			of, blob = string(blob[1:1+blob[0]]), blob[1+blob[0]:]
		}
		opened, err := aead.Open(nil, nil, blob, context)
		switch {
		case s.keys[of] != nil && of != in.KeyId:
			refuse(w, 400, "IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation.")
		case err != nil:
			refuse(w, 400, "InvalidCiphertextException", "")
		default:
			json.NewEncoder(w).Encode(map[string]any{"KeyId": in.KeyId, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT", "Plaintext": opened})
		}
	}
}

// signature says what is wrong with a request's signature (AWS Signature
// Version 4), or nothing.
func signature(r *http.Request, body []byte) string {
	fields := strings.FieldsFunc(r.Header.Get("Authorization"), func(c rune) bool { return c == ' ' || c == ',' })
	if len(fields) != 4 || fields[0] != "AWS4-HMAC-SHA256" {
		return "no signature"
	}
	day := r.Header.Get("X-Amz-Date")
	if len(day) != 16 || r.Header.Get("X-Amz-Security-Token") != session {
		return "no date or session"
	}
	scope := day[:8] + "/" + region + "/kms/aws4_request"
	if fields[1] != "Credential="+accessKey+"/"+scope {
		return "credential " + fields[1]
	}
	names := strings.Split(strings.TrimPrefix(fields[2], "SignedHeaders="), ";")
	for _, must := range []string{"host", "x-amz-date", "x-amz-target", "x-amz-security-token"} {
		if !slices.Contains(names, must) {
			return must + " is not signed"
		}
	}
	var canonical bytes.Buffer
	fmt.Fprintf(&canonical, "POST\n/\n\n")
	for _, name := range names {
		value := r.Header.Get(name)
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = fmt.Sprint(len(body))
		}
		fmt.Fprintf(&canonical, "%s:%s\n", name, strings.TrimSpace(value))
	}
	hash := sha256.Sum256(body)
	fmt.Fprintf(&canonical, "\n%s\n%x", strings.Join(names, ";"), hash)
	hash = sha256.Sum256(canonical.Bytes())
	key := []byte("AWS4" + secretKey)
	for _, part := range []string{day[:8], region, "kms", "aws4_request",
		"AWS4-HMAC-SHA256\n" + day + "\n" + scope + "\n" + hex.EncodeToString(hash[:])} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	if fields[3] != "Signature="+hex.EncodeToString(key) {
		return "the signature does not fit"
	}
	return ""
}
