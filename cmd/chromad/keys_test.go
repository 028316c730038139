package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/engine/keys"
	"github.com/chromad/chromad/server/admin"
)

// here runs a command in this process.
func here(ctx context.Context, args ...string) (status int, stdout, stderr string) {
	var out, err bytes.Buffer
	status = command(ctx, args, &out, &err)
	return status, out.String(), err.String()
}

// Every command says how it is used, with an example, and takes no flag that
// it does not know.
func TestHelp(t *testing.T) {
	groups := map[string][]subcommand{"keys": keysCommands(), "users": usersCommands(), "retention": retentionCommands(), "certs": certsCommands(),
		"audit": auditCommands(), "privacy": privacyCommands(), "alerts": alertsCommands()}
	var all [][]string
	for _, c := range commands() {
		if groups[c.name] == nil && c.name != "version" {
			all = append(all, []string{c.name})
		}
		for _, in := range groups[c.name] {
			all = append(all, []string{c.name, in.name})
			if _, group, _ := here(t.Context(), "help", c.name); !strings.Contains(group, "\n  chromad "+c.name+" "+in.name+" ") {
				t.Errorf("the help of %s does not name %s:\n%s", c.name, in.name, group)
			}
		}
	}
	// What is said in full beside them, in the help of their group.
	plain := func(args []string) bool {
		return args[0] == "users" && args[1] != "add" && args[1] != "password" || len(args) > 1 && slices.Contains([]string{"privacy", "alerts", "audit"}, args[0])
	}
	for _, args := range all {
		name := "chromad " + strings.Join(args, " ")
		for _, way := range [][]string{append([]string{"help"}, args...), append(args[:len(args):len(args)], "--help"), append(args[:len(args):len(args)], "PATH", "-h")} {
			status, out, errs := here(t.Context(), way...)
			_, examples, _ := strings.Cut(out, "Example")
			if status != exitOK || errs != "" || !strings.Contains(out, "Usage:\n\n  "+name) || !plain(args) && !strings.Contains(examples, "\n  "+name) {
				t.Errorf("chromad %q: status %d, %s%s", way, status, out, errs)
			}
			for line := range strings.Lines(out) {
				if len(strings.TrimRight(line, "\n")) > 130 {
					t.Errorf("%s: %d letters: %s", name, len(line), line)
				}
			}
		}
		status, _, errs := here(t.Context(), append(args[:len(args):len(args)], "--wholly-other")...)
		if status != exitUsage || !strings.Contains(errs, name+": unknown flag --wholly-other; see "+name+" --help") {
			t.Errorf("%s: status %d, %s", name, status, errs)
		}
	}
}

func TestKeysArguments(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	for _, c := range []struct {
		args   string
		status int
		want   string
	}{
		{"keys", exitUsage, "chromad keys create --out"},
		{"keys help", exitOK, "hcvault://"},
		{"keys --help", exitOK, "aws-kms://"},
		{"keys help rotate", exitOK, "chromad keys rotate PATH"},
		{"keys rotat", exitUsage, `unknown command "rotat" (did you mean "rotate"?)`},
		{"keys create", exitUsage, "where to? write --out FILE"},
		{"keys create k", exitUsage, "write --out k"},
		{"keys create --env --out x", exitUsage, "exclude each other"},
		{"keys create --out " + file, exitOK, "Keep a copy elsewhere"},
		{"keys create --out " + file, exitFailed, "is there already and is not overwritten"},
		{"keys list", exitUsage, "which store?"},
		{"keys list a b", exitUsage, "one store at a time"},
		{"keys list " + file + "-none", exitFailed, "there is no store in this directory"},
		{"keys rotate --keyz x y", exitUsage, `unknown flag --keyz (did you mean "keys"?); see chromad keys rotate --help`},
		{"keys encrypt p", exitUsage, "--keys is missing"},
		{"keys rewrap p --keys a", exitUsage, "two keys are needed"},
		{"keys destroy p --store", exitUsage, "--keys is missing"},
		{"run --port 0 --expect-generation -1", exitUsage, "invalid value"},
		{"run --port 0 --path " + file + "-none --keys s3://x", exitFailed, "scheme s3 is not known"},
	} {
		if status, out, errs := here(t.Context(), strings.Fields(c.args)...); status != c.status || !strings.Contains(out+errs, c.want) {
			t.Errorf("chromad %s: status %d, want %d and %q\n%s%s", c.args, status, c.status, c.want, out, errs)
		}
	}
	if _, err := os.Stat(file + "-none"); err == nil {
		t.Error("a store was made")
	}
}

func TestKeysSettings(t *testing.T) {
	o := defaultOptions()
	if err := o.readYAML("f.yaml", []byte("keys: /etc/chromad/key\nexpect_generation: 7\n")); err != nil || o.keys != "/etc/chromad/key" || o.expectGeneration != 7 {
		t.Errorf("%+v, %v", o, err)
	}
	if err := o.readYAML("f.yaml", []byte("expect_generation: -1\n")); err == nil {
		t.Error("a generation below 0")
	}
	o, err := parseOptions([]string{"--keys", "env://K", "--expect-generation=3"})
	if err != nil || o.keys != "env://K" || o.expectGeneration != 3 {
		t.Errorf("%+v, %v", o, err)
	}
}

// stopping is an output that ends the context of the command when it is first
// written to: as Ctrl-C does, at a known place.
type stopping struct {
	bytes.Buffer
	stop context.CancelFunc
}

func (s *stopping) Write(b []byte) (int, error) {
	s.stop()
	return s.Buffer.Write(b)
}

// Ctrl-C leaves a whole store, and the same command goes on.
func TestKeysInterrupted(t *testing.T) {
	dir := t.TempDir()
	path, key := filepath.Join(dir, "store"), filepath.Join(dir, "key")
	if err := keys.CreateFile(key); err != nil {
		t.Fatal(err)
	}
	db, err := engine.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		c, err := db.Default().Create(t.Context(), fmt.Sprint("docs", n), engine.Spec{})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Upsert(t.Context(), engine.Record{ID: "1", Embedding: []float32{1, 2}, Document: engine.Optional("kept")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"encrypt", "rotate"} {
		ctx, stop := context.WithCancel(t.Context())
		out, errs := &stopping{stop: stop}, &bytes.Buffer{}
		if status := command(ctx, []string{"keys", what, path, "--keys", key, "--json"}, out, errs); status != exitFailed ||
			!strings.Contains(errs.String(), "interrupted; the store is whole, and the same command goes on") || !strings.Contains(out.String(), `{"event":"error","error":"interrupted`) {
			t.Errorf("%s: status %d, %s%s", what, status, out, errs)
		}
		if status, out, errs := here(t.Context(), "keys", what, path, "--keys", key); status != exitOK || !strings.Contains(out, "everything in "+path) {
			t.Errorf("%s again: status %d, %s%s", what, status, out, errs)
		}
		status, text, errtext := here(t.Context(), "keys", "list", path, "--keys", key, "--json")
		var k admin.Keys
		if err := json.Unmarshal([]byte(text), &k); status != exitOK || err != nil || k.OldFiles != 0 || k.Converting || len(k.Collections) != 3 {
			t.Errorf("%s: %s%s", what, text, errtext)
		}
	}
	if _, text, _ := here(t.Context(), "keys", "list", path, "--keys", key); !regexp.MustCompile(
		`(?s)^operator's key  file://\S+/key\nkeyset          \d+ \(primary\)\nstore           generations 2\nunder old keys  0 bytes in 0 files\ncollections     3\n  [0-9a-f-]{36}  generations 2\n`).MatchString(text) {
		t.Error(text)
	}
}

// No part of a key is in anything that chromad says, whatever it is given.
func TestKeysAreNotTold(t *testing.T) {
	dir := t.TempDir()
	path, key := filepath.Join(dir, "store"), filepath.Join(dir, "key")
	if err := keys.CreateFile(key); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	value := regexp.MustCompile(`"value":\s*"([^"]{20,})"`).FindStringSubmatch(string(text))
	if value == nil {
		t.Fatal("no key in the key file")
	}
	env, err := keys.GenerateEnv()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("CHROMAD_TEST_KEY", env)
	t.Setenv("CHROMAD_TEST_HALF", env[:len(env)/2])
	half := filepath.Join(dir, "half")
	if err := os.WriteFile(half, text[:len(text)-10], 0o600); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "c.yaml")
	if err := os.WriteFile(config, []byte("keys: "+env+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	s := start(t, "--path", path, "--keys", key, "--log-level", "debug")
	s.finish(t)
	for _, args := range [][]string{
		{"keys", "list", path, "--keys", key}, {"keys", "list", path, "--keys", key, "--json"}, {"keys", "rotate", path, "--keys", key},
		{"keys", "list", path, "--keys", "env://CHROMAD_TEST_KEY"}, {"keys", "list", path, "--keys", "env://CHROMAD_TEST_HALF"},
		{"keys", "list", path, "--keys", env}, {"keys", "list", path, "--keys", string(text)}, {"keys", "list", path, "--keys", half},
		{"run", "--port", "0", "--path", path, "--keys", env}, {"run", "--port", "0", "--path", path, config},
		{"run", "--port", "0", "--path", path, "--keys", string(text)}, {"run", "--port", "0", "--path", path, "--keys", "env://CHROMAD_TEST_KEY"},
		{"keys", "rewrap", path, "--keys", key, "--new-keys", env}, {"keys", "rewrap", path, "--keys", key, "--new-keys", "env://CHROMAD_TEST_KEY"},
	} {
		status, out, errs := here(t.Context(), args...)
		fmt.Fprintln(&said, status, out, errs)
	}
	for _, secret := range []string{value[1], env} {
		for i := 0; i+12 <= len(secret); i += 4 {
			if strings.Contains(said.String(), secret[i:i+12]) && !strings.Contains("type.googleapis.com/google.crypto.tink.AesGcmKey", secret[i:i+12]) {
				t.Fatalf("%q of a key was told:\n%s", secret[i:i+12], &said)
			}
		}
	}
	if !strings.Contains(said.String(), "that is the key itself") {
		t.Error("nobody was told that a key is no URI")
	}
}

// What a person is shown of the work, on a terminal and elsewhere.
func TestProgress(t *testing.T) {
	for _, c := range []struct {
		bar, json bool
		want      string
	}{
		{false, false, "working: it is under way already; watching\nworking: 0%  0 bytes of 40 KiB, 0 of 4 segments\n" +
			"working: 25%  10 KiB of 40 KiB, 1 of 4 segments, about 1m30s left\nworking: 100%  40 KiB of 40 KiB, 4 of 4 segments\n|done\n"},
		{true, false, "working: it is under way already; watching\n\r\x1b[Kworking [------------------------]   0%  0 bytes of 40 KiB, 0 of 4 segments" +
			"\r\x1b[Kworking [######------------------]  25%  10 KiB of 40 KiB, 1 of 4 segments, about 1m30s left" +
			"\r\x1b[Kworking [######------------------]  25%  10 KiB of 40 KiB, 1 of 4 segments, about 1m30s left" +
			"\r\x1b[Kworking [########################] 100%  40 KiB of 40 KiB, 4 of 4 segments\n|done\n"},
		{false, true, `|{"event":"began","joined":true}` + "\n" + `{"event":"progress","segments":4,"segments_done":0,"bytes":40960,"bytes_done":0}` + "\n" +
			strings.Repeat(`{"event":"progress","segments":4,"segments_done":1,"bytes":40960,"bytes_done":10240}`+"\n", 2) +
			`{"event":"progress","segments":4,"segments_done":4,"bytes":40960,"bytes_done":40960}` + "\n" + `{"event":"done"}` + "\n"},
	} {
		var out, errs bytes.Buffer
		p := newProgress("working", c.json, &out, &errs)
		if c.bar {
			p.bar = &bar{w: &errs, name: "working"}
		}
		p.now = func() time.Time { return p.began.Add(30 * time.Second) }
		p.show(admin.Line{Event: admin.Began, Joined: true})
		for _, n := range []int{0, 1, 1, 4} {
			p.show(admin.Rotated(engine.RotateProgress{Segments: 4, SegmentsDone: n, Bytes: 40 << 10, BytesDone: int64(n) * 10 << 10}))
		}
		p.end(nil, "done")
		if got := errs.String() + "|" + out.String(); got != c.want {
			t.Errorf("bar %t, json %t:\n%q, want\n%q", c.bar, c.json, got, c.want)
		}
	}
	var screen bytes.Buffer
	for _, b := range []*bar{nil, {w: &screen, name: "check"}} {
		b.bytes(0, 0)
		b.bytes(10<<10, 40<<10)
		b.bytes(20<<10, 40<<10) // too soon after it
		b.clear()
		b.clear()
	}
	if want := "\r\x1b[Kcheck [######------------------]  25%  of 40 KiB\r\x1b[K"; screen.String() != want {
		t.Errorf("%q, want %q", &screen, want)
	}
	if onTerminal(io.Discard) {
		t.Error("nothing is a terminal")
	}
}

// A key beside the data is found out, by whatever name it goes.
func TestKeyBeside(t *testing.T) {
	dir := t.TempDir()
	store := filepath.Join(dir, "store")
	if err := os.MkdirAll(filepath.Join(store, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		want bool
	}{{"key", false}, {"store/key", true}, {"store/sub/key", true}, {"store.key", false}} {
		file := filepath.Join(dir, filepath.FromSlash(c.path))
		if err := keys.CreateFile(file); err != nil {
			t.Fatal(err)
		}
		op, err := keys.OpenFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if keyBeside(store, op) != c.want {
			t.Errorf("%s: %t", c.path, !c.want)
		}
	}
	if keyBeside(store, nil) {
		t.Error("no key at all")
	}
}
