package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/server/audit"
	"github.com/chromad/chromad/server/privacy"
)

// privacyCommands are what chromad privacy does.
func privacyCommands() []subcommand {
	return []subcommand{
		{"show", "PATH", "write the rules as YAML", privacyShow},
		{"set", "PATH FILE", "replace the rules by those of a YAML file", privacySet},
		{"test", "[FILE] < TEXT", "show what rules make of a text", privacyTest},
		{"rotate", "PATH", "make new keys for pseudonyms and hashes", privacyRotate},
		{"reveal", "PATH COLLECTION KEY < PSEUDONYMS", "turn pseudonyms back", privacyReveal},
	}
}

func privacyCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return group(ctx, "chromad privacy", privacyUsage(), privacyCommands(), args, stdout, stderr)
}

func privacyUsage() string {
	return groupUsage("privacy", `What may be stored of people, before it is stored: metadata keys that are accepted, dropped, hashed or made
pseudonyms, documents that are dropped, and personal data in texts that is refused, masked or tagged.`, privacyCommands(), `
Rules are YAML:

  version: 1
  rules:
  - on: {tenant: acme, collection: "crm-*"}
    accept: [title, lang, email, "x_*"]
    keys: {email: pseudonym}
    detect: {"*": mask, card: reject}

Try them before they hold:

  echo 'write to ada@example.com' | chromad privacy test rules.yaml
  chromad privacy set ./chroma rules.yaml

Works on a running server's store too, and then at once. What is stored already stays as it is. Who sees what of
it is up to roles: docs/privacy.md tells of both.
`)
}

// keeperOf is the rules and keys of a store, which a server may have open.
type keeperOf interface {
	Rules(ctx context.Context) (*privacy.Rules, error)
	SetRules(ctx context.Context, r *privacy.Rules) error
	RotatePseudonyms(ctx context.Context) (int, error)
	Reveal(ctx context.Context, collection, field string, pseudonyms []string) ([]privacy.Revealed, error)
}

// keptHere is a keeperOf of a store that nobody else has open.
type keptHere struct {
	*privacy.Keeper
	db *engine.DB
}

func (k keptHere) SetRules(ctx context.Context, r *privacy.Rules) error {
	return recordedRules(ctx, k.db, k.Keeper, r)
}

func (k keptHere) RotatePseudonyms(ctx context.Context) (int, error) {
	keys, err := k.Rotate(ctx)
	if err = offlineAct(ctx, k.db, audit.Event{Action: "privacy:rotate"}, err); err != nil {
		return 0, err
	}
	return keys.Len(), nil
}

func (k keptHere) Reveal(ctx context.Context, collection, field string, pseudonyms []string) ([]privacy.Revealed, error) {
	out, err := k.Keeper.Reveal(ctx, collection, field, pseudonyms)
	if err = offlineAct(ctx, k.db, audit.Event{Action: "privacy:reveal", Collection: collection}, err); err != nil {
		return nil, err
	}
	return out, nil
}

// kept calls do with the rules of the store in dir.
func (c *changeFlags) kept(ctx context.Context, dir string, do func(keeperOf) error) error {
	db, server, err := c.reach(ctx, dir)
	if err != nil {
		return err
	}
	if server != nil {
		return do(server)
	}
	keeper, err := privacy.Open(ctx, db)
	if err == nil {
		err = do(keptHere{keeper, db})
	}
	return errors.Join(err, db.Close())
}

func privacyShow(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newFlagPage("privacy show", "PATH", "Write the rules about what may be stored as YAML, which set reads.", "")
	flags := newChangeFlags(p)
	flags.look = true
	path, err := p.readPath(args)
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	err = flags.kept(ctx, path, func(k keeperOf) error {
		rules, err := k.Rules(ctx)
		if err != nil {
			return err
		}
		if len(rules.Rules) == 0 {
			fmt.Fprintln(stderr, "there are no rules: everything is stored as it is sent")
		}
		text, err := json.Marshal(rules)
		var tree any
		if err == nil {
			err = json.Unmarshal(text, &tree) // an empty list, which YAML's writer would leave out, stays one
		}
		if err == nil {
			text, err = yaml.Marshal(tree)
		}
		if err == nil {
			_, err = stdout.Write(text)
		}
		return err
	})
	if err != nil {
		return p.fail(err, stderr)
	}
	return exitOK
}

func privacySet(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newFlagPage("privacy set", "PATH FILE", "Replace the rules about what may be stored by those of a YAML file. They hold for every write that begins afterwards.", `
Example:

  chromad privacy set ./chroma rules.yaml
`)
	flags := newChangeFlags(p)
	rest, err := p.read(args)
	if err == nil && len(rest) != 2 {
		err = errors.New("which store, and which file? chromad privacy set PATH FILE")
	}
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	rules, err := readRules(rest[1])
	if err == nil {
		err = flags.kept(ctx, rest[0], func(k keeperOf) error { return k.SetRules(ctx, rules) })
	}
	if err != nil {
		return p.fail(err, stderr)
	}
	fmt.Fprintf(stderr, "%s of %s in the place of those of before\n", counted(len(rules.Rules), "rule"), rest[1])
	return exitOK
}

func privacyRotate(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newFlagPage("privacy rotate", "PATH", `Make new keys for the pseudonyms and hashes to come.

Pseudonyms and hashes from before are still understood, in filters and where they are stored. Equal values look
equal only under the same key: what is stored is not written again.`, "")
	flags := newChangeFlags(p)
	path, err := p.readPath(args)
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	n := 0
	err = flags.kept(ctx, path, func(k keeperOf) (err error) {
		n, err = k.RotatePseudonyms(ctx)
		return err
	})
	if err != nil {
		return p.fail(err, stderr)
	}
	fmt.Fprintf(stderr, "keys: %d, the newest in use\n", n)
	return exitOK
}

func privacyReveal(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newFlagPage("privacy reveal", "PATH COLLECTION KEY < PSEUDONYMS", `Turn pseudonyms back: read one on each line, write what it stands for as JSON.

COLLECTION is the id of the collection, which chromad inspect PATH collections shows, KEY the metadata key, or
#document or #uri. Who owns the store's files may do it; roles have no way to it. The audit log tells that it was done.`, `
Example:

  echo AZX2xAQDK9-VcjShdyTZQhpeh0AOjTNMWDEUyK10ahU | chromad privacy reveal ./chroma 0b9dbd24-8b0d-4bd2-b5b5-0b1e3a6d7a57 customer
`)
	flags := newChangeFlags(p)
	rest, err := p.read(args)
	if err == nil && len(rest) != 3 {
		err = errors.New("which store, collection and key? chromad privacy reveal PATH COLLECTION KEY < PSEUDONYMS")
	}
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	text, err := io.ReadAll(io.LimitReader(os.Stdin, maxPseudonyms+1))
	if err == nil && len(text) > maxPseudonyms {
		err = fmt.Errorf("more than %s of pseudonyms: send them in pieces", size(maxPseudonyms))
	}
	asked := strings.Fields(string(text))
	var found []privacy.Revealed
	if err == nil {
		err = flags.kept(ctx, rest[0], func(k keeperOf) (err error) {
			found, err = k.Reveal(ctx, rest[1], rest[2], asked)
			return err
		})
	}
	if err != nil {
		return p.fail(err, stderr)
	}
	for i, r := range found {
		if !r.Known {
			err = errors.Join(err, fmt.Errorf("line %d: no pseudonym of this key of this collection", i+1))
			r.Value = "null"
		}
		fmt.Fprintln(stdout, r.Value)
	}
	if err != nil {
		return p.fail(err, stderr)
	}
	return exitOK
}

const (
	maxPseudonyms = 4 << 20
	maxRulesFile  = 1 << 20
	maxTestText   = 16 << 20
)

// readRules reads YAML by way of JSON, whose reader refuses what it does not know.
func readRules(path string) (*privacy.Rules, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxRulesFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxRulesFile {
		return nil, fmt.Errorf("%s: larger than %s", path, size(maxRulesFile))
	}
	var tree any
	if err = yaml.Unmarshal(text, &tree); err == nil {
		text, err = json.Marshal(tree)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	rules, err := privacy.Decode(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return rules, nil
}

func privacyTest(_ context.Context, args []string, stdout, stderr io.Writer) int {
	p := newFlagPage("privacy test", "[FILE] < TEXT", `Show what is found in a text, and what the rules of a file make of it as a document. Nothing is stored.`, `
Examples:

  echo 'write to ada@example.com' | chromad privacy test
  chromad privacy test rules.yaml --on acme/main/crm-1 < letter.txt

Findings go to standard error, by their place in bytes; what would be stored goes to standard output.
`)
	on := p.String("on", "", "the collection, as `tenant/database/collection`; all rules hold when left out")
	rest, err := p.read(args)
	if err == nil && len(rest) > 1 {
		err = fmt.Errorf("%q: one argument too many: chromad privacy test FILE", rest[1])
	}
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	rules := &privacy.Rules{Rules: []privacy.Rule{{Detect: map[privacy.Kind]privacy.Storing{"*": privacy.StoredMask}}}}
	if len(rest) == 1 {
		rules, err = readRules(rest[0])
	}
	var plan *privacy.Plan
	if err == nil {
		plan, err = planOf(rules, *on)
	}
	if err == nil {
		err = tryPlan(plan, os.Stdin, stdout, stderr)
	}
	if err != nil {
		return p.fail(err, stderr)
	}
	return exitOK
}

// planOf is what rules come to where on says.
func planOf(rules *privacy.Rules, on string) (*privacy.Plan, error) {
	if on == "" {
		for i := range rules.Rules {
			rules.Rules[i].On = privacy.Scope{}
		}
		return rules.For("", "", ""), nil
	}
	parts := strings.Split(on, "/")
	if len(parts) != 3 {
		return nil, fmt.Errorf("--on %q: tenant/database/collection", on)
	}
	return rules.For(parts[0], parts[1], parts[2]), nil
}

func tryPlan(plan *privacy.Plan, stdin io.Reader, stdout, stderr io.Writer) error {
	b, err := io.ReadAll(io.LimitReader(stdin, maxTestText+1))
	if err != nil {
		return err
	}
	if len(b) > maxTestText {
		return fmt.Errorf("a text larger than %s", size(maxTestText))
	}
	text := string(b)
	for _, f := range privacy.Find(text) {
		fmt.Fprintf(stderr, "%s: bytes %d to %d\n", f.Kind, f.From, f.To)
	}
	r := privacy.Record{Document: &text}
	if plan == nil {
		fmt.Fprintln(stderr, "no rule holds there")
	} else {
		keys, err := privacy.NewKeys() // of nobody: a document needs none
		if err != nil {
			return err
		}
		if err := plan.Apply(keys, "", &r); err != nil {
			return fmt.Errorf("refused: %w", err)
		}
	}
	for key, v := range r.Metadata {
		fmt.Fprintf(stderr, "tagged %s: %s\n", key, v.AsString())
	}
	if r.Document == nil {
		fmt.Fprintln(stderr, "the document is dropped")
		return nil
	}
	_, err = io.WriteString(stdout, *r.Document)
	return err
}
