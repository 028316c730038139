package main

import (
	"bytes"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPing(t *testing.T) {
	status := http.StatusOK
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v2/healthcheck" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.WriteHeader(status)
	})
	plain, secured := httptest.NewServer(answer), httptest.NewUnstartedServer(answer)
	secured.Config.ErrorLog = nil
	secured.StartTLS()
	defer plain.Close()
	defer secured.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secured.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	nothing := filepath.Join(t.TempDir(), "nothing.pem")
	if err := os.WriteFile(nothing, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	gone := httptest.NewServer(answer)
	gone.Close()
	for _, c := range []struct {
		args   []string
		status int
		want   int
		says   string
	}{
		{[]string{plain.URL}, 200, exitOK, "ok"},
		{[]string{plain.URL + "/"}, 200, exitOK, "ok"},
		{[]string{plain.URL}, 503, exitFailed, "503"},
		{[]string{secured.URL, "--ca", ca}, 200, exitOK, "ok"},
		{[]string{secured.URL}, 200, exitFailed, "certificate"},
		{[]string{secured.URL, "--ca", nothing}, 200, exitFailed, "no certificate in it"},
		{[]string{gone.URL}, 200, exitFailed, "refused"},
		{[]string{"a", "b"}, 200, exitUsage, "one server"},
	} {
		status = c.status
		var out, errs bytes.Buffer
		if got := pingCommand(t.Context(), c.args, &out, &errs); got != c.want || !strings.Contains(out.String()+errs.String(), c.says) {
			t.Errorf("%v: %d %s%s", c.args, got, &out, &errs)
		}
	}
}
