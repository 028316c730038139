package all

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromad/chromad/engine/keys"
)

func TestOpenURI(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "key")
	if err := keys.CreateFile(path); err != nil {
		t.Fatal(err)
	}
	value, err := keys.GenerateEnv()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("CHROMAD_TEST_KEY", value)
	t.Setenv("VAULT_ADDR", "")
	file, err := keys.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for uri, want := range map[string]string{
		path:                     file.URI(),
		file.URI():               file.URI(),
		"env://CHROMAD_TEST_KEY": "env://CHROMAD_TEST_KEY",
		"aws-kms://arn:aws:kms:eu-central-1:111122223333:alias/a":  "",
		"gcp-kms://projects/p/locations/l/keyRings/r/cryptoKeys/k": "",
		"hcvault://vault.example.org:8200/transit/keys/chromad":    "",
		"!aws-kms://a":    "is not the ARN of a key",
		"!gcp-kms://a":    "is not the name of a key",
		"!hcvault://a":    "is not the path of a transit key",
		"!":               "no key is named",
		"!s3://s3cr3t":    "scheme s3 is not known; write one of /path or file:///path, env://NAME, aws-kms://",
		"!AWS-KMS://arn:": "scheme AWS-KMS is not known",
	} {
		uri, bad := strings.CutPrefix(uri, "!")
		op, err := OpenURI(ctx, uri)
		switch {
		case bad && (!errors.Is(err, keys.ErrConfig) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cr3t")):
			t.Errorf("%q: %v, want ErrConfig with %q", uri, err, want)
		case !bad && err != nil:
			t.Errorf("%q: %v", uri, err)
		case !bad && want == "" && op.URI() != uri, !bad && want != "" && op.URI() != want:
			t.Errorf("%q: URI %q", uri, op.URI())
		}
	}
	for _, form := range Schemes() {
		if scheme, _, found := strings.Cut(form, "://"); found && strings.Contains(form, "/") {
			if _, err := OpenURI(ctx, strings.TrimPrefix(scheme, "/path or ")+"://"); err == nil || strings.Contains(err.Error(), "is not known") {
				t.Errorf("%s is listed and not known", form)
			}
		}
	}
}
