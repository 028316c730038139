package all

import (
	"context"
	"strings"

	"github.com/chromad/chromad/engine/keys"
	"github.com/chromad/chromad/engine/keys/awskms"
	"github.com/chromad/chromad/engine/keys/gcpkms"
	"github.com/chromad/chromad/engine/keys/vault"
)

// Schemes lists the forms that OpenURI takes, for help texts.
func Schemes() []string {
	return []string{
		"/path or file:///path",
		"env://NAME",
		awskms.Scheme + "arn:aws:kms:REGION:ACCOUNT:key/ID",
		gcpkms.Scheme + "projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY",
		vault.Scheme + "HOST:PORT/MOUNT/keys/NAME",
	}
}

// OpenURI opens the operator's key that a URI or a path names. Files and
// variables are read at once; a key service is asked when the key is first
// used. The errors wrap those of package keys.
func OpenURI(ctx context.Context, uri string) (keys.Operator, error) {
	switch scheme, _, found := strings.Cut(uri, "://"); {
	case scheme+"://" == awskms.Scheme:
		return awskms.Open(ctx, uri)
	case scheme+"://" == gcpkms.Scheme:
		return gcpkms.Open(ctx, uri)
	case scheme+"://" == vault.Scheme:
		return vault.Open(ctx, uri)
	case found && scheme != "file" && scheme != "env":
		return nil, &keys.Error{URI: scheme + "://…", Op: "open", Kind: keys.ErrConfig, Detail: "scheme " + scheme + " is not known",
			Check: "write one of " + strings.Join(Schemes(), ", ")}
	}
	return keys.Open(ctx, uri)
}
