package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

const maxConfigBytes = 1 << 20

// setting is one line of the configuration file.
type setting struct {
	name string
	set  func(o *options, n *yaml.Node) error
}

// settings are what the file may say: the settings of Chroma's single-node
// server first, under its names, then ours.
func settings() []setting {
	return []setting{
		{"port", func(o *options, n *yaml.Node) error { return n.Decode(&o.port) }},
		{"listen_address", func(o *options, n *yaml.Node) error { return n.Decode(&o.host) }},
		{"persist_path", func(o *options, n *yaml.Node) error { return n.Decode(&o.path) }},
		{"allow_reset", func(o *options, n *yaml.Node) error { return n.Decode(&o.reset) }},
		{"max_payload_size_bytes", func(o *options, n *yaml.Node) error { return o.maxBody.Set(n.Value) }},
		{"cors_allow_origins", func(o *options, n *yaml.Node) error {
			o.cors = nil
			return n.Decode(&o.cors)
		}},
		{"keys", func(o *options, n *yaml.Node) error { return n.Decode(&o.keys) }},
		{"erase_within", func(o *options, n *yaml.Node) error { return o.eraseWithin.Set(n.Value) }},
		{"rest_after", func(o *options, n *yaml.Node) error { return o.restAfter.Set(n.Value) }},
		{"expect_generation", func(o *options, n *yaml.Node) error { return n.Decode(&o.expectGeneration) }},
		{"insecure", func(o *options, n *yaml.Node) error { return n.Decode(&o.insecure) }},
		{"tls_cert", func(o *options, n *yaml.Node) error { return n.Decode(&o.tls.cert) }},
		{"tls_key", func(o *options, n *yaml.Node) error { return n.Decode(&o.tls.key) }},
		{"tls_client_ca", func(o *options, n *yaml.Node) error { return n.Decode(&o.tls.clients) }},
		{"tls_min", func(o *options, n *yaml.Node) error { return n.Decode(&o.tls.min) }},
		{"oidc", readIssuers},
		{"require_mfa", readStrong},
		{"limits", readLimits},
		{"auth_failures", readFailures},
		{"admission", readAdmission},
		{"quotas", readQuotas},
		{"audit", readAudit},
		{"export", readExports},
		{"alerts", readAlerts},
		{"log_level", func(o *options, n *yaml.Node) error { return n.Decode(&o.logLevel) }},
		{"log_format", func(o *options, n *yaml.Node) error { return n.Decode(&o.logFormat) }},
		{"memory", func(o *options, n *yaml.Node) error { return o.memory.Set(n.Value) }},
		{"memtable_rows", func(o *options, n *yaml.Node) error { return n.Decode(&o.memtableRows) }},
		{"drain", func(o *options, n *yaml.Node) (err error) {
			o.drain, err = time.ParseDuration(n.Value)
			return err
		}},
	}
}

// elsewhere are settings of Chroma that have no meaning here, with the reason.
// They are errors, so that nobody believes in a setting that does nothing.
var elsewhere = map[string]string{
	"sqlitedb":                       "there is no SQLite database; remove it",
	"sysdb":                          "there is no separate system database; remove it",
	"segment_manager":                "segments are managed by the store; use --memory to bound memory",
	"log":                            "there is no separate log service; remove it",
	"executor":                       "queries run inside the server; remove it",
	"open_telemetry":                 "traces are not exported; request ids and the structured log (log_format: json) are there instead",
	"circuit_breaker":                "use admission, which has a good default, and limits",
	"default_knn_index":              "there is one kind of index, hnsw; remove it",
	"tenants_to_migrate_immediately": "there is nothing to migrate; remove it",
}

// readFile sets what the configuration file says.
func (o *options) readFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("configuration file: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	if err != nil {
		return fmt.Errorf("configuration file: %w", err)
	}
	if len(text) > maxConfigBytes {
		return fmt.Errorf("configuration file %s: larger than %s", path, size(maxConfigBytes))
	}
	return o.readYAML(path, text)
}

func (o *options) readYAML(path string, text []byte) error {
	var doc yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil // nothing but comments
		}
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := d.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: more than one YAML document", path)
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil
	}
	if root.Kind != yaml.MappingNode {
		return fmt.Errorf("%s:%d: expected settings, one \"name: value\" per line", path, root.Line)
	}
	known := map[string]setting{}
	var names []string
	for _, s := range settings() {
		known[s.name] = s
		names = append(names, s.name)
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		if line, twice := seen[key.Value]; twice {
			return fmt.Errorf("%s:%d: %s is set twice, first on line %d", path, key.Line, key.Value, line)
		}
		seen[key.Value] = key.Line
		s, ok := known[key.Value]
		if !ok {
			if legacyAuthName(key.Value) {
				return fmt.Errorf("%s:%d: %s has no meaning here: users are in the store; make them with chromad users, and remove this line", path, key.Line, key.Value)
			}
			if reason, chroma := elsewhere[key.Value]; chroma {
				return fmt.Errorf("%s:%d: %s has no meaning here: %s", path, key.Line, key.Value, reason)
			}
			return fmt.Errorf("%s:%d: unknown setting %q%s; the settings are listed by chromad run --help", path, key.Line, key.Value, suggestion(key.Value, names))
		}
		if err := s.set(o, value); err != nil {
			return fmt.Errorf("%s:%d: %s: %w", path, value.Line, key.Value, oneLine(err))
		}
	}
	return nil
}

// oneLine is an error of the YAML library without its heading and line numbers.
func oneLine(err error) error {
	e, ok := errors.AsType[*yaml.TypeError](err)
	if !ok {
		return err
	}
	var reasons []string
	for _, r := range e.Errors {
		if _, after, ok := strings.Cut(r, ": "); ok && strings.HasPrefix(r, "line ") {
			r = after
		}
		reasons = append(reasons, r)
	}
	return errors.New(strings.Join(reasons, "; "))
}
