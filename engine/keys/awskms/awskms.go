package awskms

import (
	"context"
	"errors"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	tinkaws "github.com/tink-crypto/tink-go-awskms/v3/integration/awskms"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/chromad/chromad/engine/keys"
	"github.com/chromad/chromad/engine/keys/internal/remote"
)

// Scheme is what URIs of this package begin with.
const Scheme = "aws-kms://"

// maxPlaintext is what the service encrypts, in bytes.
const maxPlaintext = 4096

var arn = regexp.MustCompile(`^arn:(aws[a-z-]*):kms:([a-z0-9-]+):[0-9]{12}:(key|alias)/[A-Za-z0-9/_-]+$`)

// Open makes an operator's key of a URI. Credentials are looked for, and the
// service is asked, when the key is first used.
func Open(ctx context.Context, uri string) (keys.Operator, error) {
	return open(ctx, uri, remote.Standard())
}

func open(ctx context.Context, uri string, policy remote.Policy) (keys.Operator, error) {
	id := strings.TrimPrefix(uri, Scheme)
	parts := arn.FindStringSubmatch(id)
	if id == uri || parts == nil {
		return nil, &keys.Error{URI: uri, Op: "open", Kind: keys.ErrConfig, Detail: "it is not the ARN of a key",
			Check: "write aws-kms://arn:aws:kms:REGION:ACCOUNT:key/ID (or :alias/NAME)"}
	}
	cfg, err := load(ctx, parts[1], parts[2])
	if err != nil {
		return nil, &keys.Error{URI: uri, Op: "open", Kind: keys.ErrConfig, Detail: "the settings of AWS cannot be read",
			Check: "check AWS_PROFILE, AWS_CA_BUNDLE, the files below ~/.aws, and " + remote.ProxyVariable}
	}
	aead, err := tinkaws.NewAEADWithContext(ctx, id, tinkaws.WithKMS(kms.NewFromConfig(cfg, bound)),
		tinkaws.WithEncryptionContextName(tinkaws.AssociatedData))
	if err != nil {
		return nil, &keys.Error{URI: uri, Op: "open", Kind: keys.ErrConfig, Detail: "Tink does not take the ARN"}
	}
	return remote.New(uri, &key{aead, cfg.Credentials, parts[2]}, remote.Options{Policy: policy, MaxPlaintext: maxPlaintext}), nil
}

type key struct {
	aead        tink.AEADWithContext
	credentials aws.CredentialsProvider
	region      string
}

// errCredentials is any reason for which there are none: the SDK's says which
// places were tried, and may quote what they hold.
var errCredentials = errors.New("no credentials")

// ready fetches credentials, which the SDK keeps: by itself it would say in
// the same words that there are none and that the service is away.
func (k *key) ready(ctx context.Context) error {
	_, err := k.credentials.Retrieve(ctx)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return errCredentials
}

// Encrypt implements remote.Service.
func (k *key) Encrypt(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	if err := k.ready(ctx); err != nil {
		return nil, err
	}
	sealed, err := k.aead.EncryptWithContext(ctx, plaintext, associatedData)
	if err == nil && len(sealed) == 0 {
		return nil, remote.ErrAnswer
	}
	return sealed, err
}

// Decrypt implements remote.Service.
func (k *key) Decrypt(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	if err := k.ready(ctx); err != nil {
		return nil, err
	}
	return k.aead.DecryptWithContext(ctx, ciphertext, associatedData)
}

// meaning sorts the error codes of the service (API reference of AWS KMS,
// Encrypt, Decrypt and common errors).
var meaning = map[string]error{
	"AccessDeniedException":          keys.ErrDenied,
	"AccessDenied":                   keys.ErrDenied,
	"UnrecognizedClientException":    keys.ErrDenied,
	"InvalidClientTokenId":           keys.ErrDenied,
	"InvalidSignatureException":      keys.ErrDenied,
	"IncompleteSignature":            keys.ErrDenied,
	"SignatureDoesNotMatch":          keys.ErrDenied,
	"MissingAuthenticationToken":     keys.ErrDenied,
	"ExpiredTokenException":          keys.ErrDenied,
	"OptInRequired":                  keys.ErrDenied,
	"NotFoundException":              keys.ErrNotFound,
	"DisabledException":              keys.ErrNotFound,
	"KMSInvalidStateException":       keys.ErrNotFound,
	"InvalidCiphertextException":     keys.ErrWrongKey,
	"IncorrectKeyException":          keys.ErrWrongKey,
	"InvalidKeyUsageException":       keys.ErrConfig,
	"ValidationException":            keys.ErrConfig,
	"InvalidArnException":            keys.ErrConfig,
	"ThrottlingException":            keys.ErrUnavailable,
	"Throttling":                     keys.ErrUnavailable,
	"RequestLimitExceeded":           keys.ErrUnavailable,
	"LimitExceededException":         keys.ErrUnavailable,
	"DependencyTimeoutException":     keys.ErrUnavailable,
	"KeyUnavailableException":        keys.ErrUnavailable,
	"KMSInternalException":           keys.ErrUnavailable,
	"InternalFailure":                keys.ErrUnavailable,
	"ServiceUnavailable":             keys.ErrUnavailable,
	"RequestExpired":                 keys.ErrUnavailable,
	"XksProxyUnreachableException":   keys.ErrUnavailable,
	"CloudHsmClusterInUseException":  keys.ErrUnavailable,
	"CustomKeyStoreInvalidException": keys.ErrConfig,
}

// Explain implements remote.Service.
func (k *key) Explain(op string, err error) remote.Failure {
	if errors.Is(err, errCredentials) {
		return remote.Failure{Kind: keys.ErrDenied, Detail: "no credentials for AWS can be had",
			Check: "check AWS_ACCESS_KEY_ID, AWS_PROFILE, or the role of this machine"}
	}
	var f remote.Failure
	if resp, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		f = remote.Status(resp.HTTPStatusCode())
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok && api.ErrorCode() != "UnknownError" {
		if kind, known := meaning[api.ErrorCode()]; known {
			f.Kind = kind
		}
		f.Code, f.Detail = api.ErrorCode(), api.ErrorMessage()
	} else if f.Kind == nil || f.Code == "HTTP 200" { // nothing the SDK understands
		return remote.Failure{Kind: keys.ErrUnavailable, Detail: remote.ErrAnswer.Error(),
			Check: "check AWS_ENDPOINT_URL_KMS and " + remote.ProxyVariable}
	}
	if f.Kind == nil {
		f.Kind = keys.ErrConfig
	}
	f.Check = k.check(op, f.Kind)
	return f
}

func (k *key) check(op string, kind error) string {
	switch kind {
	case keys.ErrDenied:
		action := map[string]string{"encrypt": "kms:Encrypt and kms:Decrypt", "decrypt": "kms:Decrypt"}[op]
		return "check the credentials, and that their policy and the key's allow " + action
	case keys.ErrNotFound:
		return "check the ARN, that its account and region (" + k.region + ") are right, and that the key is enabled and not to be deleted"
	case keys.ErrWrongKey:
		return "check that it is the key that the store was made with"
	case keys.ErrConfig:
		return "check that the key is symmetric, for encryption"
	}
	return "check the service's state in region " + k.region
}
