package main

import (
	"reflect"
	"runtime"
	"strings"
	"testing"
)

// FuzzConfig reads configuration files. One that is refused is refused in one
// line that names the file; one that is taken means the same each time, and
// no file takes memory beyond its own length, however often it refers to itself.
func FuzzConfig(f *testing.F) {
	for _, text := range []string{
		"", "# nothing\n", "port: 9000\nlisten_address: \"::1\"\npersist_path: ./x\n", "allow_reset: yes", "max_payload_size_bytes: 40MiB",
		"cors_allow_origins: [\"*\", http://a]\n", "keys: /k\nexpect_generation: 18446744073709551615\n", "memory: 1GiB\nmemtable_rows: -1\ndrain: 1h3s\n",
		"log_level: &a debug\nlog_format: *a\n", "port: 1\nport: 2\n", "sqlitedb: {}\n", "a: &a [x,x,x]\nb: &b [*a,*a,*a]\ncors_allow_origins: [*b,*b]\n",
		"---\nport: 1\n---\nport: 2\n", "- port\n", "? {port: 1}\n: 2\n", "<<: {port: 1}\n", "port: !!binary aGk=\n", "port: 0x7fffffffffffffffffff\n", "\xff\xfep",
		"export:\n- {type: file, path: /x, max_size: 1MiB, send: [events], kinds: [admin]}\n- {type: syslog, address: \"tls://h\", ca: /c}\n", "export: [{type: webhook, url: \"https://h/\", secret_file: /s}]",
		"alerts: {cool_down: 1h, time_zone: UTC, rules: [{rule: destructive_outside_hours, hours: [\"Mon-Fri 08:00-18:00\"], actions: [\"db:*\"]}, {rule: mass_export, rows: 5, by: all}]}",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		o, again := defaultOptions(), defaultOptions()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := o.readYAML("FILE", []byte(text))
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 2000*uint64(len(text))+1<<20 {
			t.Errorf("%d bytes allocated for %d", used, len(text))
		}
		if err != nil {
			if s := err.Error(); !strings.HasPrefix(s, "FILE:") || strings.Contains(s, "\n") {
				t.Errorf("%q: %q", text, s)
			}
			return
		}
		if err := again.readYAML("FILE", []byte(text)); err != nil || !reflect.DeepEqual(o, again) {
			t.Errorf("%q: %+v, then %+v, %v", text, o, again, err)
		}
		if o.check() != nil {
			return
		}
		for _, s := range []size{o.maxBody, o.memory} {
			var back size
			if err := back.Set(s.String()); err != nil || back != s {
				t.Errorf("%d is written %q and read %d, %v", s, s, back, err)
			}
		}
	})
}
