package vault

import (
	"errors"
	"net/http"
	"os"
	"strings"

	"github.com/hashicorp/vault/api"

	"github.com/chromad/chromad/engine/keys"
	"github.com/chromad/chromad/engine/keys/internal/remote"
)

// meaning sorts what the transit engine says with status 400, by pieces of its
// sentences: it has no codes.
var meaning = []struct {
	piece string
	kind  error
	check string
}{
	{"encryption key not found", keys.ErrNotFound, "check mount and name in the URI, and VAULT_NAMESPACE"},
	{"disallowed by policy", keys.ErrNotFound, "the version of the key that encrypted this may not decrypt any more: check its min_decryption_version"},
	{"message authentication failed", keys.ErrWrongKey, "check that it is the key that the store was made with"},
	{"invalid ciphertext", keys.ErrWrongKey, "check that it is the key that the store was made with"},
	{"no prefix", keys.ErrWrongKey, "check that it is the key that the store was made with"},
	{"missing client token", keys.ErrDenied, ""},
	{"context", keys.ErrConfig, "the key is derived, and chromad needs one that is not: make it with transit's defaults"},
	{"associated_data", keys.ErrConfig, "the key is of a type without associated data: it has to be aes256-gcm96 or chacha20-poly1305"},
	{"associated data", keys.ErrConfig, "the key is of a type without associated data: it has to be aes256-gcm96 or chacha20-poly1305"},
	{"not supported", keys.ErrConfig, "the key has to be of type aes256-gcm96 or chacha20-poly1305"},
}

// Explain implements remote.Service.
func (k *key) Explain(_ string, err error) remote.Failure {
	if errors.Is(err, errSettings) {
		return remote.Failure{Kind: keys.ErrConfig, Detail: "the settings in the environment cannot be used", Check: "check the VAULT_ variables"}
	}
	resp, ok := errors.AsType[*api.ResponseError](err)
	if !ok { // an answer without an error and without what was asked for
		return remote.Failure{Kind: keys.ErrUnavailable, Detail: remote.ErrAnswer.Error(),
			Check: "check address, mount and name in the URI"}
	}
	f := remote.Status(resp.StatusCode)
	if !resp.RawError && len(resp.Errors) > 0 {
		f.Detail = withoutToken(strings.Join(resp.Errors, "; "))
		if resp.StatusCode == http.StatusBadRequest {
			for _, m := range meaning {
				if strings.Contains(f.Detail, m.piece) {
					f.Kind, f.Check = m.kind, m.check
					break
				}
			}
		}
	}
	if f.Check == "" {
		f.Check = check(resp.StatusCode, f.Kind)
	}
	return f
}

func check(status int, kind error) string {
	switch {
	case kind == keys.ErrDenied && os.Getenv(api.EnvVaultToken) == "":
		return "set VAULT_TOKEN, or VAULT_AGENT_ADDR for an agent that has one"
	case kind == keys.ErrDenied:
		return "check that the token is not expired and may update MOUNT/encrypt/NAME and MOUNT/decrypt/NAME, and VAULT_NAMESPACE"
	case kind == keys.ErrNotFound:
		return "check mount and name in the URI, and VAULT_NAMESPACE"
	case status == http.StatusServiceUnavailable:
		return "check that the server is unsealed"
	case kind == keys.ErrUnavailable:
		return "check the server's state and its quotas"
	}
	return "check type and settings of the key"
}

// withoutToken takes the token out of a text, should a server send it back.
func withoutToken(s string) string {
	if token := os.Getenv(api.EnvVaultToken); token != "" {
		return strings.ReplaceAll(s, token, "[…]")
	}
	return s
}
