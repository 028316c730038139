package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromad/chromad/server/alert"
	"github.com/chromad/chromad/server/audit"
)

// The example of the page is read, and means what the page says.
func TestAlertsExample(t *testing.T) {
	page, err := os.ReadFile("../../docs/alerts.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(page), "```yaml\n")
	text, _, found := strings.Cut(text, "```")
	if !ok || !found {
		t.Fatal("no example")
	}
	o := defaultOptions()
	if err := o.readYAML("alerts.md", []byte(text)); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, x := range o.exports {
		got = append(got, fmt.Sprintf("%s %s %t %t %d", x.Type, x.Name, x.sends(eventsWord), x.sends(alertsWord), len(x.Kinds)))
	}
	if want := "file file true true 0, syslog syslog true true 4, webhook on-call false true 0, otlp otlp true true 0"; strings.Join(got, ", ") != want {
		t.Errorf("%q", got)
	}
	if x := o.exports[0].file; x.MaxSize != 100<<20 || x.Keep != 10 {
		t.Errorf("%+v", x)
	}
	if _, err := alert.New(o.alerts, func(alert.Alert) {}); err != nil {
		t.Error(err)
	}
	got = nil
	for _, r := range o.alerts {
		got = append(got, fmt.Sprintf("%s %s %s %s", r.Name, r.Severity, r.CoolDown, r.Within))
	}
	if want := "denied_burst warning 10m0s 1m0s, failed_authentication warning 10m0s 1m0s, guessing critical 10m0s 1m0s, mass_export warning 10m0s 10m0s, " +
		"destructive_outside_hours critical 10m0s 0s, new_principal notice 10m0s 0s, retired_key critical 10m0s 0s, new_address notice 1h0m0s 0s"; strings.Join(got, ", ") != want {
		t.Errorf("%q", got)
	}
	if h := o.alerts[4].Hours; h.Contains(time.Date(2026, 1, 10, 8, 59, 0, 0, time.UTC)) || !h.Contains(time.Date(2026, 1, 10, 9, 0, 0, 0, time.UTC)) {
		t.Error("Saturday at 10 in Berlin")
	}
	for metric := range strings.SplitSeq("chromad_alerts_total chromad_alert_events_dropped_total chromad_export_sent_total chromad_export_dropped_total chromad_export_failures_total chromad_export_queue_bytes", " ") {
		if !strings.Contains(string(page), "`"+metric+"`") {
			t.Errorf("the page has no metric %s", metric)
		}
	}
}

func TestAlertSettingsRefused(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"export: {type: file}", "a list of up to 16 targets"},
		{"export: [{type: mail}]", `type "mail": file, syslog, webhook or otlp`},
		{"export: [{type: file, path: /x, url: y}]", "field url not found"},
		{"export: [{type: webhook, secret: y}]", "field secret not found"},
		{"export: [{type: file}, {type: file}]", "file is there twice"},
		{"export: [{type: file, name: A}]", `name "A"`},
		{"export: [{type: file, send: [logs]}]", `send "logs"`},
		{"export: [{type: file, kinds: [login]}]", `kind "login"`},
		{"export: [{type: file, queue: 1KiB}]", "queue is"},
		{"export: [{type: syslog, framing: x}]", `framing "x"`},
		{"export: [{type: syslog, cert: x}]", "cert and key belong together"},
		{"export: [" + strings.Repeat("{type: file},", 17) + "]", "up to 16"},
		{"alerts: {rule: x}", "field rule not found"},
		{"alerts: {cool_down: -1s}", "cool_down: a length of time"},
		{"alerts: {rules: [{rule: x}]}", `rule "x": one of`},
		{"alerts: {rules: [{rule: denied_burst, within: soon}]}", "rules[0]: within: "},
		{"alerts: {rules: [{rule: denied_burst, severity: bad}]}", `severity "bad"`},
		{"alerts: {rules: [{rule: denied_burst, hours: [\"Mon 08:00-09:00\"]}]}", "time_zone"},
		{"alerts: {rules: [{rule: denied_burst}, {rule: denied_burst}]}", "there twice"},
		{"alerts: {rules: [{rule: destructive_outside_hours}]}", "hours need"},
	} {
		if err := defaultOptions().readYAML("f.yaml", []byte(c.text)); err == nil || !strings.Contains(err.Error(), "f.yaml:1: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.text, err, c.want)
		}
	}
	o := defaultOptions()
	if err := o.readYAML("f.yaml", []byte("alerts: {rules: []}")); err != nil || o.alerts == nil || len(o.alerts) != 0 {
		t.Errorf("no rules: %v, %v", o.alerts, err)
	}
	if err := o.readYAML("f.yaml", []byte("alerts: {cool_down: 1h}")); err != nil || len(o.alerts) < 5 || o.alerts[0].CoolDown != time.Hour {
		t.Errorf("the usual rules: %v, %v", o.alerts, err)
	}
}

// inbox is what arrived at the targets of a test.
type inbox struct {
	mu    sync.Mutex
	lines []string
}

func (b *inbox) put(s string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, s)
}

func (b *inbox) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.lines, "\n")
}

// targets starts a webhook's receiver and a syslog server, and gives the
// configuration of these two and of a file.
func targets(t *testing.T) (config string, hook, syslog *inbox, file string) {
	t.Helper()
	hook, syslog = &inbox{}, &inbox{}
	receiver := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			hook.put(string(body))
		}
	}))
	t.Cleanup(receiver.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for sc := bufio.NewScanner(c); sc.Scan(); {
					syslog.put(sc.Text())
				}
			}()
		}
	}()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca := write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: receiver.Certificate().Raw})))
	secret := write("secret", "5ecretOfTheWebhook\n")
	file = filepath.Join(dir, "out.jsonl")
	return fmt.Sprintf(`export:
- {type: webhook, send: [alerts], url: "%s/5ecretPath", secret_file: %s, ca: %s}
- {type: syslog, address: "tcp://%s", framing: lines}
- {type: file, path: %s}
`, receiver.URL, secret, ca, l.Addr(), file), hook, syslog, file
}

// Events reach the targets that want them; a rule that finds something reaches
// the log, the metrics and the targets.
func TestTelling(t *testing.T) {
	config, hook, syslog, file := targets(t)
	o := defaultOptions()
	if err := o.readYAML("f.yaml", []byte(config+"alerts: {rules: [{rule: denied_burst, count: 3}]}")); err != nil {
		t.Fatal(err)
	}
	var logged bytes.Buffer
	log := slog.New(slog.NewTextHandler(&logged, nil))
	told, err := o.tell(t.Context(), log, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		told.Event(audit.Event{Time: time.Now(), Kind: audit.Decision, Action: "collection:get", Outcome: audit.Denied, Status: 403, Principal: "ada", Collection: "hush"})
	}
	told.close(log)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(text, []byte(`{"type":"event",`)); n != 3 || bytes.Count(text, []byte(`{"type":"alert",`)) != 1 {
		t.Errorf("file:\n%s", text)
	}
	for deadline := 0; strings.Count(syslog.text(), "\n") < 3 && deadline < 5000; deadline++ { // the other side of the socket
		time.Sleep(time.Millisecond)
	}
	if s := syslog.text(); strings.Count(s, "[event@32473 ") != 3 || strings.Count(s, "[alert@32473 rule=\"denied_burst\"") != 1 {
		t.Errorf("syslog:\n%s", s)
	}
	var body struct {
		Messages []struct{ Type, Rule, Who string }
	}
	if err := json.Unmarshal([]byte(hook.text()), &body); err != nil || len(body.Messages) != 1 || body.Messages[0].Rule != "denied_burst" || body.Messages[0].Who != "ada" {
		t.Errorf("webhook: %s, %v", hook.text(), err)
	}
	if !strings.Contains(logged.String(), "msg=alert") || !strings.Contains(logged.String(), "who=ada") || strings.Contains(logged.String(), "5ecret") || strings.Contains(logged.String(), "hush") {
		t.Errorf("log:\n%s", &logged)
	}
	if m := string(told.metrics(nil)); !strings.Contains(m, `chromad_alerts_total{rule="denied_burst"} 1`) || !strings.Contains(m, `chromad_export_sent_total{target="file"} 4`) ||
		!strings.Contains(m, `chromad_export_sent_total{target="webhook"} 1`) {
		t.Errorf("metrics:\n%s", m)
	}
}

func TestAlertsCommand(t *testing.T) {
	config, hook, _, file := targets(t)
	path := filepath.Join(t.TempDir(), "c.yaml")
	run := func(text string) (status int, out string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		status = command(t.Context(), []string{"alerts", "test", path}, &b, &b)
		return status, b.String()
	}
	if status, out := run(config); status != exitOK || strings.Count(out, ": sent in ") != 3 {
		t.Errorf("%d %s", status, out)
	}
	text, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(text), `"rule":"test"`) || !strings.Contains(hook.text(), `"rule":"test"`) {
		t.Errorf("file %s, %v; webhook %s", text, err, hook.text())
	}
	config += "- {type: otlp, url: \"http://127.0.0.1:1/v1/logs\"}\n"
	if status, out := run(config); status != exitFailed || strings.Count(out, ": sent in ") != 3 || !strings.Contains(out, "1 of 4 targets did not take") || strings.Contains(out, "5ecret") {
		t.Errorf("%d %s", status, out)
	}
	if status, out := run("port: 1\n"); status != exitFailed || !strings.Contains(out, "there is no target") {
		t.Errorf("%d %s", status, out)
	}
	if status, out := run("export: [{type: x}]\n"); status != exitUsage {
		t.Errorf("%d %s", status, out)
	}
}

// Copies of events are in the clear: they have no place among the store's files.
func TestExportOutside(t *testing.T) {
	o := defaultOptions()
	o.path = t.TempDir()
	for path, ok := range map[string]bool{"": true, o.path + "x/audit": true, filepath.Dir(o.path) + "/audit": true, o.path + "/audit": false, o.path + "/../" + filepath.Base(o.path) + "/seg/audit": false} {
		if err := o.outside(path); (err == nil) != ok {
			t.Errorf("%s: %v", path, err)
		}
	}
	o.exports = []exportSetting{{Type: "file", Name: "file", file: fileSetting{Path: o.path + "/audit"}}}
	if _, err := o.tell(t.Context(), slog.New(slog.DiscardHandler), nil); err == nil || !strings.Contains(err.Error(), "setting export: file: path ") {
		t.Errorf("%v", err)
	}
}

// Secrets that others can read, or that are none, are refused without a word of them.
func TestSecretFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if s, err := readSecret("secret_file", write("good", "abc\r\n", 0o600)); err != nil || string(s) != "abc" {
		t.Errorf("%q, %v", s, err)
	}
	everybodys := write("open", "5ecret", 0o600)
	if err := os.Chmod(everybodys, 0o604); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{everybodys, filepath.Join(dir, "none"), dir, write("long", strings.Repeat("5ecret", maxSecret), 0o600)} {
		if s, err := readSecret("secret_file", path); err == nil || strings.Contains(err.Error(), "5ecret") {
			t.Errorf("%s: %q, %v", path, s, err)
		}
	}
	h, err := readHeaders(write("headers", "Authorization: Bearer x\nX-Scope: a:b\n", 0o600))
	if err != nil || h.Get("Authorization") != "Bearer x" || h.Get("X-Scope") != "a:b" {
		t.Errorf("%v, %v", h, err)
	}
	if h, err := readHeaders(write("broken", "5ecret", 0o600)); err == nil || strings.Contains(err.Error(), "5ecret") {
		t.Errorf("%v, %v", h, err)
	}
}

// What people do to a running server becomes alerts: by what the audit log really
// writes of keys, refusals and users.
func TestAlertsOfServer(t *testing.T) {
	config, _, _, file := targets(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "store")
	start(t, "--path", path).finish(t)
	users(t, "add", path, "root", "--role", "admin", "--key")
	ada := users(t, "add", path, "ada", "--role", "reader", "--key")
	yaml := filepath.Join(dir, "c.yaml")
	if err := os.WriteFile(yaml, []byte(config+"alerts: {rules: [{rule: retired_key}, {rule: denied_burst, count: 3}, {rule: new_principal}, {rule: failed_authentication, count: 1}]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, yaml, "--path", path)
	under := s.address + "/api/v2/tenants/default_tenant/databases"
	want := func(status int, method, url, key, body string) {
		t.Helper()
		if got := statusWith(t, method, url, key, body); got != status {
			t.Errorf("%s %s: %d, want %d", method, url, got, status)
		}
	}
	want(200, "GET", under, ada, "")
	want(403, "POST", under, ada, `{"name":"x"}`)
	want(403, "DELETE", under+"/default_database", ada, "")
	want(403, "POST", under+"/default_database/collections", ada, `{"name":"x"}`)
	// Another secret behind the id of a key, and a key that nobody has had.
	want(401, "GET", under, ada[:len(ada)-1]+"!", "")
	id := strings.Split(ada, "_")[1]
	users(t, "revoke", path, id)
	want(401, "GET", under, ada, "")
	users(t, "add", path, "eve", "--role", "reader")
	s.finish(t)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(text)) {
		var a struct{ Type, Rule, Who string }
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if a.Type == "alert" {
			got = append(got, a.Rule+" "+a.Who)
		}
	}
	if s := strings.Join(got, ", "); s != "new_principal ada, denied_burst ada, failed_authentication 127.0.0.1, retired_key "+id+", new_principal eve, failed_authentication 127.0.0.1" { // the last is what was counted in the cool-down
		t.Errorf("%s\n%s", s, text)
	}
	refused := 0
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, `{"type":"event",`) && strings.Contains(line, `"kind":"authentication","action":"authenticate","outcome":"denied"`) {
			refused++ // the second one by itself, or counted when the server stopped
		}
	}
	if refused != 2 {
		t.Errorf("%d of 2 wrong keys are in the log:\n%s", refused, text)
	}
	// A secret may have underscores of its own: it is all that follows the second.
	if secret := strings.SplitN(ada, "_", 3)[2]; strings.Contains(string(text), secret) {
		t.Error("the key is in the file")
	}
}
