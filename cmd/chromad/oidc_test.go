package main

import (
	"strings"
	"testing"
)

func TestIssuerSettings(t *testing.T) {
	const good = "oidc:\n- issuer: https://id.example\n  audience: chromad\n  attributes: [groups]\n  trust_unverified_email: true\n  roles: [{claim: groups, value: eng, role: editor, on: acme/main}]\nrequire_mfa: [\"system:reset\"]\n"
	o := defaultOptions()
	if err := o.readYAML("f", []byte(good)); err != nil {
		t.Fatal(err)
	}
	if len(o.issuers) != 1 || o.issuers[0].Rules[0].Binding.On.Database != "main" || len(o.issuers[0].Attributes) != 1 || !o.issuers[0].TrustUnverifiedEmail || len(o.strong) != 1 {
		t.Errorf("%+v", o)
	}
	for change, want := range map[string][2]string{
		"audience: chromad":   {"", "audience is missing"},
		"https://id":          {"http://id", "https"},
		"claim: groups":       {"clam: groups", "clam"},
		"on: acme/main":       {"on: acme//main", "write * for any"},
		"system:reset":        {"system:public", "no action"},
		"audience: chromad\n": {"audience: chromad\n  skew: soon\n", "soon"},
	} {
		text := strings.Replace(good, change, want[0], 1)
		if err := defaultOptions().readYAML("f", []byte(text)); err == nil || !strings.Contains(err.Error(), want[1]) {
			t.Errorf("%s in the place of %s: %v", want[0], change, err)
		}
	}
}
