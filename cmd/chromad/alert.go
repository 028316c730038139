package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/chromad/chromad/internal/outbound"
	"github.com/chromad/chromad/server/alert"
	"github.com/chromad/chromad/server/audit"
	"github.com/chromad/chromad/server/export"
)

// exportDrain is how long targets get for what waits when the server stops.
const exportDrain = 5 * time.Second

// telling is what becomes of events once they are in the audit log: exporters
// and rules get them.
type telling struct {
	exports export.Set
	watcher *alert.Watcher
}

// tell starts the exporters and the rules of the configuration. past are events
// of before, the oldest first, from which rules know who is not new; nil: none.
func (o *options) tell(ctx context.Context, log *slog.Logger, past func(func(audit.Event)) error) (*telling, error) {
	t := &telling{}
	for i := range o.exports {
		err := o.outside(o.exports[i].file.Path)
		var x *export.Exporter
		if err == nil {
			x, err = o.exports[i].start(ctx, log)
		}
		if err != nil {
			t.close(log)
			return nil, fmt.Errorf("setting export: %s: %w", o.exports[i].Name, err)
		}
		t.exports = append(t.exports, x)
	}
	rules := o.alerts
	if rules == nil {
		rules = alert.Defaults()
	}
	w, err := alert.New(rules, func(a alert.Alert) { t.alert(a, log) })
	if err != nil {
		t.close(log)
		return nil, fmt.Errorf("setting alerts: %w", err)
	}
	if past != nil {
		if err := past(w.Learn); err != nil {
			log.Warn("what happened before cannot be read; rules take everybody for new", "error", err.Error())
		}
	}
	t.watcher = w
	w.Start()
	return t, nil
}

// outside refuses a file in the store's own directory, which holds what is
// encrypted and what belongs to it.
func (o *options) outside(path string) error {
	if path == "" {
		return nil
	}
	store, err := filepath.Abs(o.path)
	if err != nil {
		return err
	}
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	if within, err := filepath.Rel(store, path); err == nil && filepath.IsLocal(within) {
		return fmt.Errorf("path %s: is in the directory of the store; name a place outside", path)
	}
	return nil
}

// Event takes an event and does not wait.
func (t *telling) Event(e audit.Event) {
	t.exports.Event(e)
	t.watcher.Event(e)
}

// unlogged are fields that the server's log has of no request either.
var unlogged = []string{"tenant", "database", "collection"}

// alert tells of an alert: in the log, and to the targets that want alerts.
func (t *telling) alert(a alert.Alert, log *slog.Logger) {
	m, err := a.Message()
	if err != nil {
		log.Error("an alert cannot be written", "rule", a.Rule.Name, "error", err.Error())
		return
	}
	level := slog.LevelWarn
	if a.Rule.Severity >= export.Notice {
		level = slog.LevelInfo
	}
	attrs := []slog.Attr{slog.String("text", m.Text)}
	for _, f := range m.Fields {
		if !slices.Contains(unlogged, f.Name) {
			attrs = append(attrs, slog.String(f.Name, f.Value))
		}
	}
	log.LogAttrs(context.Background(), level, "alert", attrs...)
	t.exports.Alert(m)
}

// metrics appends the figures of exporters and rules to those of the server.
func (t *telling) metrics(b []byte) []byte {
	return t.exports.AppendMetrics(t.watcher.AppendMetrics(b))
}

// close looks at the last events, and sends what waits for as long as exportDrain.
func (t *telling) close(log *slog.Logger) {
	if t.watcher != nil {
		t.watcher.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), exportDrain)
	defer cancel()
	if err := t.exports.Close(ctx); err != nil {
		log.Warn("export has not ended in order", "error", err.Error())
	}
}

// sender makes what brings messages to the target, and how long a message waits
// for company.
func (s *exportSetting) sender(ctx context.Context) (x export.Sender, linger time.Duration, err error) {
	d, me := outbound.From(ctx), identity()
	switch s.Type {
	case "file":
		x, err = export.NewFile(export.File{Path: s.file.Path, Size: int64(s.file.MaxSize), Keep: s.file.Keep})
	case "syslog":
		var t *tls.Config
		if t, err = s.syslog.config(); err == nil {
			x, err = export.NewSyslog(d, export.Syslog{Address: s.syslog.Address, Facility: s.syslog.Facility, Lines: s.syslog.Framing == "lines", TLS: t, Identity: me})
		}
	case "webhook":
		var t *tls.Config
		if t, err = s.webhook.config(); err == nil {
			w := export.Webhook{URL: s.webhook.URL, Proxy: s.webhook.Proxy, TLS: t}
			if path := s.webhook.SecretFile; path != "" {
				w.Secret = func() ([]byte, error) { return readSecret("secret_file", path) }
			}
			x, err = export.NewWebhook(d, w)
		}
		linger = time.Second
	case "otlp":
		var t *tls.Config
		if t, err = s.otlp.config(); err == nil {
			c := export.OTLP{URL: s.otlp.URL, Proxy: s.otlp.Proxy, TLS: t, Identity: me}
			if path := s.otlp.HeadersFile; path != "" {
				c.Headers = func() (http.Header, error) { return readHeaders(path) }
			}
			x, err = export.NewOTLP(d, c)
		}
		linger = time.Second
	}
	return x, linger, err
}

func (s *exportSetting) start(ctx context.Context, log *slog.Logger) (*export.Exporter, error) {
	sender, linger, err := s.sender(ctx)
	if err != nil {
		return nil, err
	}
	x := export.Options{Name: s.Name, Sender: sender, Events: s.sends(eventsWord), Alerts: s.sends(alertsWord), Queue: int64(s.Queue), Linger: linger, Log: log}
	for _, k := range s.Kinds {
		x.Kinds = append(x.Kinds, audit.Kind(k))
	}
	return export.Start(x), nil
}

func identity() export.Identity {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	return export.Identity{Host: host, PID: os.Getpid(), Version: versionText()}
}

// config is how TLS is spoken to a target.
func (s tlsSetting) config() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.CA != "" {
		text, err := readPEM(s.CA)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool() // alone: who names an authority means that one
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("ca: %s: holds no certificate", s.CA)
		}
	}
	if s.Cert != "" {
		if err := ownersAlone("key", s.Key); err != nil {
			return nil, err
		}
		pair, err := tls.LoadX509KeyPair(s.Cert, s.Key)
		if err != nil {
			return nil, fmt.Errorf("cert and key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// maxSecret bounds a file that holds a secret, in bytes.
const maxSecret = 64 << 10

// readSecret reads a file whose end of line does not count. Errors name the
// file and nothing of what it holds.
func readSecret(what, path string) ([]byte, error) {
	if err := ownersAlone(what, path); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() || st.Size() > maxSecret {
		return nil, fmt.Errorf("%s: %s: a file of at most %s", what, path, size(maxSecret))
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSecret))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return []byte(strings.TrimRight(string(text), "\r\n")), nil
}

// readHeaders reads lines "Name: value".
func readHeaders(path string) (http.Header, error) {
	text, err := readSecret("headers_file", path)
	if err != nil {
		return nil, err
	}
	h := http.Header{}
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		if !ok || name == "" || strings.ContainsAny(name, " \t") || value == "" {
			return nil, fmt.Errorf("headers_file: %s: a line is not NAME: VALUE", path)
		}
		h.Add(name, value)
	}
	return h, nil
}
