package gcpkms

import (
	"bytes"
	"context"
	"encoding/json"
	"hash/crc32"
	"io"
	"net/http"
	"strings"

	"github.com/chromad/chromad/engine/keys"
	"github.com/chromad/chromad/engine/keys/internal/remote"
)

// The two calls as the service's reference has them (REST, v1,
// projects.locations.keyRings.cryptoKeys.encrypt and decrypt). 64-bit numbers
// are strings in JSON; a checksum that is missing is nil.
type (
	encryptRequest struct {
		Plaintext       []byte `json:"plaintext"`
		PlaintextSum    int64  `json:"plaintextCrc32c,string"`
		AssociatedData  []byte `json:"additionalAuthenticatedData,omitempty"`
		AssociatedCheck int64  `json:"additionalAuthenticatedDataCrc32c,string"`
	}
	encryptAnswer struct {
		Name               string `json:"name"` // of the version that was used
		Ciphertext         []byte `json:"ciphertext"`
		CiphertextSum      *int64 `json:"ciphertextCrc32c,string"`
		PlaintextVerified  bool   `json:"verifiedPlaintextCrc32c"`
		AssociatedVerified bool   `json:"verifiedAdditionalAuthenticatedDataCrc32c"`
	}
	decryptRequest struct {
		Ciphertext      []byte `json:"ciphertext"`
		CiphertextSum   int64  `json:"ciphertextCrc32c,string"`
		AssociatedData  []byte `json:"additionalAuthenticatedData,omitempty"`
		AssociatedCheck int64  `json:"additionalAuthenticatedDataCrc32c,string"`
	}
	decryptAnswer struct {
		Plaintext    []byte `json:"plaintext"`
		PlaintextSum *int64 `json:"plaintextCrc32c,string"`
	}
)

func sum(b []byte) int64 { return int64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))) }

func fits(b []byte, want *int64) bool { return want != nil && *want == sum(b) }

// Encrypt implements remote.Service.
func (k *key) Encrypt(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	var a encryptAnswer
	if err := k.call(ctx, "encrypt", encryptRequest{plaintext, sum(plaintext), associatedData, sum(associatedData)}, &a); err != nil {
		return nil, err
	}
	// Without these the request may have been damaged on its way, or somebody
	// else may have encrypted.
	if !a.PlaintextVerified || !a.AssociatedVerified || !fits(a.Ciphertext, a.CiphertextSum) ||
		len(a.Ciphertext) == 0 || !strings.HasPrefix(a.Name, k.name+"/") {
		return nil, remote.ErrAnswer
	}
	return a.Ciphertext, nil
}

// Decrypt implements remote.Service.
func (k *key) Decrypt(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	var a decryptAnswer
	if err := k.call(ctx, "decrypt", decryptRequest{ciphertext, sum(ciphertext), associatedData, sum(associatedData)}, &a); err != nil {
		return nil, err
	}
	if !fits(a.Plaintext, a.PlaintextSum) {
		clear(a.Plaintext)
		return nil, remote.ErrAnswer
	}
	return a.Plaintext, nil
}

// call posts a request to a method of the key.
func (k *key) call(ctx context.Context, method string, request, answer any) error {
	token, err := k.token(ctx)
	if err != nil {
		return err
	}
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	defer clear(body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, k.endpoint+"/v1/"+k.name+":"+method, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := remote.Bind(ctx, k.base).RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	defer clear(text)
	if resp.StatusCode != http.StatusOK {
		return parseError(resp.StatusCode, text)
	}
	if err := json.Unmarshal(text, answer); err != nil { // its text may quote the answer
		return remote.ErrAnswer
	}
	return nil
}

// apiError is an answer that is not 200.
type apiError struct {
	status  int
	code    string // "PERMISSION_DENIED"; empty when the answer is not the service's
	message string
}

// Error is for tests and debuggers: Explain is what people read.
func (e *apiError) Error() string { return e.code }

func parseError(status int, text []byte) error {
	var a struct {
		Error struct {
			Message string `json:"message"`
			Status  string `json:"status"`
		} `json:"error"`
	}
	e := &apiError{status: status}
	if json.Unmarshal(text, &a) == nil {
		e.code, e.message = a.Error.Status, a.Error.Message
	}
	return e
}

// failure is the meaning of an answer that is not 200.
func (e *apiError) failure(op string) remote.Failure {
	f := remote.Status(e.status)
	if e.code != "" {
		f.Code, f.Detail = e.code, e.message
	}
	switch {
	case e.code == "FAILED_PRECONDITION":
		f.Kind = keys.ErrNotFound
	case e.code == "INVALID_ARGUMENT" && op == "decrypt":
		f.Kind = keys.ErrWrongKey
	}
	switch f.Kind {
	case keys.ErrDenied:
		f.Check = "check that the credentials have roles/cloudkms.cryptoKeyEncrypterDecrypter on the key, and that the API is enabled"
	case keys.ErrNotFound:
		f.Check = "check project, location, ring and key in the URI, and that the key's version is enabled"
	case keys.ErrWrongKey:
		f.Check = "check that it is the key that the store was made with"
	case keys.ErrConfig:
		f.Check = "check that the key's purpose is ENCRYPT_DECRYPT"
	default:
		f.Check = "check the service's state and its quotas"
	}
	return f
}
