package awskms

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/chromad/chromad/engine/keys/internal/remote"
	"github.com/chromad/chromad/internal/outbound"
)

// load reads the SDK's settings with clients that go one way: to the endpoints of
// the key's region, to where credentials come from, and to the endpoints that the
// environment names.
func load(ctx context.Context, partition, region string) (aws.Config, error) {
	way, err := outbound.From(ctx).Way("aws-kms", places(partition, region)...)
	if err == nil {
		err = way.Name(environment(os.Environ())...)
	}
	if err == nil {
		err = remote.Proxy(way)
	}
	if err != nil {
		return aws.Config{}, err
	}
	guarded := awshttp.NewBuildableClient().WithTransportOptions(way.Guard)
	// Two sources of credentials make clients of their own, unless they are given
	// one that cannot be built upon.
	near := guarded.WithTransportOptions(func(t *http.Transport) { t.ResponseHeaderTimeout = time.Second }).WithTimeout(2 * time.Second).Freeze()
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(region),
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }), // package remote tries again
		config.WithHTTPClient(guarded),
		config.WithEC2RoleCredentialOptions(func(o *ec2rolecreds.Options) { o.Client = imds.New(imds.Options{HTTPClient: near}) }),
		config.WithEndpointCredentialOptions(func(o *endpointcreds.Options) { o.HTTPClient = near }))
	if err != nil {
		return cfg, err
	}
	return cfg, way.Name(profiles(cfg, suffixOf(partition))...)
}

// suffixOf is the domain of a partition.
func suffixOf(partition string) string {
	return "amazonaws.com" + map[string]string{"aws-cn": ".cn"}[partition]
}

// places are the endpoints of the key service and of the service that gives
// credentials for roles, and the addresses at which machines and containers get
// theirs.
func places(partition, region string) []string {
	s := suffixOf(partition)
	return []string{
		"kms." + region + "." + s + ":443", "kms-fips." + region + "." + s + ":443", "kms." + region + ".api.aws:443", "kms-fips." + region + ".api.aws:443",
		"sts." + region + "." + s + ":443", "sts-fips." + region + "." + s + ":443", "sts." + s + ":443",
		"169.254.169.254:80", "[fd00:ec2::254]:80", "169.254.170.2:80", "169.254.170.23:80", "[fd00:ec2::23]:80",
	}
}

// environment are the places that variables of the SDK name.
func environment(variables []string) (out []string) {
	for _, v := range variables {
		name, value, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "AWS_ENDPOINT_URL") || name == "AWS_EC2_METADATA_SERVICE_ENDPOINT" || name == "AWS_CONTAINER_CREDENTIALS_FULL_URI" {
			out = appendPlace(out, value)
		}
	}
	return out
}

// appendPlace appends where a URL leads, if it leads anywhere.
func appendPlace(to []string, address string) []string {
	u, err := url.Parse(address)
	if err != nil {
		return to
	}
	place, err := outbound.PlaceOf(u)
	if err != nil {
		return to
	}
	return append(to, place)
}

// profiles are the endpoints that the shared files name, and those of single
// sign-on, whose regions are the profiles'.
func profiles(cfg aws.Config, suffix string) (out []string) {
	for _, source := range cfg.ConfigSources {
		shared, is := source.(config.SharedConfig)
		if !is {
			continue
		}
		for p := &shared; p != nil; p = p.Source {
			out = appendPlace(out, p.BaseEndpoint)
			for _, service := range p.Services.ServiceValues {
				out = appendPlace(out, service["endpoint_url"])
			}
			region := p.SSORegion
			if p.SSOSession != nil {
				region = cmp.Or(p.SSOSession.SSORegion, region)
			}
			if region != "" && !strings.ContainsAny(region, "/:@ ") {
				out = append(out, "oidc."+region+"."+suffix+":443", "portal.sso."+region+"."+suffix+":443")
			}
		}
	}
	return out
}

// maxAnswer bounds an answer of the service, in bytes. Real ones are a few kilobytes.
const maxAnswer = 1 << 20

// bound has the answers of the service bounded.
func bound(o *kms.Options) { o.HTTPClient = bounded{o.HTTPClient} }

type bounded struct{ kms.HTTPClient }

// Do implements kms.HTTPClient.
func (b bounded) Do(r *http.Request) (*http.Response, error) {
	res, err := b.HTTPClient.Do(r)
	if err == nil {
		res.Body = http.MaxBytesReader(nil, res.Body, maxAnswer)
	}
	return res, err
}
