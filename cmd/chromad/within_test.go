package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestRestAfter(t *testing.T) {
	for text, want := range map[string]time.Duration{"10s": 10 * time.Second, "off": -1, "1h": time.Hour} {
		file := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(file, []byte("rest_after: "+text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"--rest-after", text}, {file}} {
			if o, err := parseOptions(args); err != nil || o.restAfter.Duration != want {
				t.Errorf("%s: %v, %v", args, o, err)
			}
		}
	}
	for _, text := range []string{"0", "-1s", "10ms", "soon"} {
		if _, err := parseOptions([]string{"--rest-after", text}); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
