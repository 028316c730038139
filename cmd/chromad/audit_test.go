package main

import (
	"strings"
	"testing"
	"time"

	"github.com/chromad/chromad/server/audit"
)

// What the setting audit says is what is done, and what it cannot mean is an
// error that says what it may.
func TestAuditSetting(t *testing.T) {
	usual := defaultAudit()
	for text, want := range map[string]any{
		"":                                usual,
		"audit: {}":                       usual,
		"audit: off":                      auditSetting{off: true, config: usual.config, fileSize: usual.fileSize, keepFor: usual.keepFor, keep: usual.keep},
		"audit: {reads: true, wait: all}": auditSetting{config: audit.Config{Reads: true, Changes: true, Wait: true}, fileSize: 16 << 20, keepFor: 365 * 24 * time.Hour, keep: 1 << 30},
		"audit: {changes: false, writes: true, when_failing: reads, keep_for: forever, keep: -1, file_size: 1MiB}": auditSetting{config: audit.Config{Writes: true, ReadsGoOn: true}, fileSize: 1 << 20},
		"audit: {read: true}":       "not found",
		"audit: on":                 "audit",
		"audit: {wait: none}":       "acts or all",
		"audit: {when_failing: go}": "refuse or reads",
		"audit: {keep_for: 1h}":     "24h or more",
		"audit: {keep_for: soon}":   "24h or more",
		"audit: {file_size: 1KB}":   "64KiB to 512MiB",
		"audit: {keep: 1MB}":        "two files",
	} {
		o := defaultOptions()
		err := o.readYAML("f", []byte(text))
		if message, fails := want.(string); fails {
			if err == nil || !strings.Contains(err.Error(), message) {
				t.Errorf("%s: %v, want %q", text, err, message)
			}
		} else if err != nil || o.audit != want {
			t.Errorf("%s: %+v, %v, want %+v", text, o.audit, err, want)
		}
	}
}

// Times are written in several ways; none is taken for another.
func TestAuditWhen(t *testing.T) {
	for text, want := range map[string]time.Time{
		"2026-01-31":           time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC),
		"2026-01-31T12:30:00Z": time.Date(2026, 1, 31, 12, 30, 0, 0, time.UTC),
		"2026-01-31 12:30:00":  time.Date(2026, 1, 31, 12, 30, 0, 0, time.UTC),
		"":                     {},
	} {
		if got, err := when(text); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for text, ago := range map[string]time.Duration{"24h": 24 * time.Hour, "7d": 7 * 24 * time.Hour} {
		if got, err := when(text); err != nil || time.Since(got) < ago-2*time.Hour || time.Since(got) > ago+2*time.Hour {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"yesterday", "-1h", "-3d", "31.1.2026"} {
		if got, err := when(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// A name that somebody has chosen moves no cursor and makes no line.
func TestAuditText(t *testing.T) {
	l := audit.Line{Seq: 7, Event: audit.Event{Time: time.Unix(0, 0), Action: "a", Outcome: audit.Denied, Tenant: "t\n8 forged\x1b[2J", Rows: 3}}
	if got := auditText(&l); strings.ContainsAny(got, "\n\x1b") || !strings.HasPrefix(got, "7 1970-01-01 00:00:00 denied  a") || !strings.HasSuffix(got, "3 rows") {
		t.Errorf("%q", got)
	}
}
