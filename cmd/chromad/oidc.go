package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/internal/outbound"
	"github.com/chromad/chromad/server/access"
	"github.com/chromad/chromad/server/oidc"
)

// issuerSetting is an entry of the setting oidc.
type issuerSetting struct {
	Issuer     string   `yaml:"issuer"`
	Audience   string   `yaml:"audience"`
	Algorithms []string `yaml:"algorithms"`
	Hosts      []string `yaml:"hosts"`
	NameClaim  string   `yaml:"name_claim"`
	TrustEmail bool     `yaml:"trust_unverified_email"`
	Skew       string   `yaml:"skew"`
	AMR        []string `yaml:"amr"`
	ACR        []string `yaml:"acr"`
	Attributes []string `yaml:"attributes"`
	Roles      []struct {
		Claim string `yaml:"claim"`
		Value string `yaml:"value"`
		Role  string `yaml:"role"`
		On    string `yaml:"on"`
	} `yaml:"roles"`
}

// readIssuers reads the setting oidc.
func readIssuers(o *options, n *yaml.Node) error {
	var list []issuerSetting
	if err := strictly(n, &list); err != nil {
		return err
	}
	for _, s := range list {
		var err error
		i := oidc.Issuer{URL: s.Issuer, Audience: s.Audience, Algorithms: s.Algorithms, Hosts: s.Hosts, NameClaim: s.NameClaim, AMR: s.AMR, ACR: s.ACR, Attributes: s.Attributes,
			TrustUnverifiedEmail: s.TrustEmail}
		if s.Skew != "" {
			if i.Skew, err = time.ParseDuration(s.Skew); err != nil {
				return err
			}
		}
		for _, r := range s.Roles {
			on := access.Scope{}
			if r.On != "" {
				if on, err = parseScope(r.On); err != nil {
					return err
				}
			}
			i.Rules = append(i.Rules, oidc.Rule{Claim: r.Claim, Value: r.Value, Binding: access.Binding{Role: r.Role, On: on}})
		}
		o.issuers = append(o.issuers, i)
	}
	_, err := oidc.New(o.issuers...)
	return err
}

// readStrong reads the setting require_mfa.
func readStrong(o *options, n *yaml.Node) error {
	var names []string
	if err := n.Decode(&names); err != nil {
		return err
	}
	for _, name := range names {
		a := access.Action(name)
		if !slices.Contains(access.Actions(), a) || a == access.Public || a == access.Identify || a == access.RotateOwn {
			return fmt.Errorf("%q is no action that several factors can be asked for; docs/security.md lists them", name)
		}
		o.strong = append(o.strong, a)
	}
	return nil
}

// openAccess reads who may use the store in db.
func (o *options) openAccess(ctx context.Context, db *engine.DB) (*access.Keeper, error) {
	outside := access.Outside{Strong: o.strong, Limits: o.limits, Failures: o.failures}
	if len(o.issuers) == 0 {
		return access.Open(ctx, db, outside)
	}
	v, err := oidc.NewVia(outbound.From(ctx), o.issuers...)
	if err != nil {
		return nil, err
	}
	outside.Tokens = v
	who, err := access.Open(ctx, db, outside)
	if err != nil {
		return nil, err
	}
	p, err := who.Policy(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range v.Roles() {
		if !slices.ContainsFunc(append(access.BuiltIn(), p.Roles...), func(r access.Role) bool { return r.Name == name }) {
			return nil, fmt.Errorf("setting oidc: there is no role %q; chromad users import makes roles", name)
		}
	}
	return who, nil
}
