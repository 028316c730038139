package main

import (
	"os"
	"path/filepath"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Rules about records are the same after export and import: what YAML makes of
// numbers and texts means no more and no less.
func TestRulesAsYAML(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.yaml")
	read := func(text []byte) string {
		t.Helper()
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := readPolicy(file)
		if err != nil {
			t.Fatal(err)
		}
		b, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	first := read([]byte(`version: 1
users:
- name: ada
  roles: [{role: team}]
  attributes: {teams: [red, "1"]}
roles:
- name: team
  grants:
  - actions: ["collection:get", "collection:add"]
    where: {team: {$in: "${attributes.teams}"}}
  - actions: ["collection:query"]
    where: {$or: [{owner: "${user.name}"}, {level: {$lte: 5}}, {part: {$gt: 1.0e+15}}, {n: 0.5}, {text: "5"}, {public: true}, {word: "true"}]}
`))
	p, err := readPolicy(file)
	if err != nil {
		t.Fatal(err)
	}
	text, err := yaml.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if again := read(text); again != first {
		t.Errorf("%s\nas YAML\n%s\nis\n%s", first, text, again)
	}
	if err := os.WriteFile(file, []byte("version: 1\nusers: []\nroles:\n- name: r\n  grants: [{actions: [\"collection:get\"], where: }]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readPolicy(file); err == nil {
		t.Error("a rule that says nothing was read")
	}
}
