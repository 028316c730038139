package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/chromad/chromad/engine"
)

// atSocket asks the admin socket of the store in dir.
func atSocket(t testing.TB, dir, method, path string) (status int, answer string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dialAdmin(ctx, dir) }}}
	req, err := http.NewRequest(method, "http://chromad"+path, http.NoBody)
	must(t, err)
	res, err := client.Do(req)
	must(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must(t, err)
	return res.StatusCode, string(text)
}

// The socket is the owner's alone, whatever the umask; one that a killed
// server has left is replaced; none stays behind; and none of its routes is on the port.
func TestAdminSocket(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	path := t.TempDir()
	must(t, os.Mkdir(filepath.Join(path, adminTmp), 0o755)) // a process was killed here
	must(t, os.WriteFile(filepath.Join(path, adminTmp, "s"), nil, 0o666))
	var last os.FileInfo
	for range 2 {
		p := spawn(t, path)
		st, err := os.Lstat(filepath.Join(path, adminSocket))
		must(t, err)
		if st.Mode() != fs.ModeSocket|0o600 {
			t.Errorf("mode %v", st.Mode())
		}
		if _, err := os.Lstat(filepath.Join(path, adminTmp)); err == nil {
			t.Error("the directory where it was made is still there")
		}
		if last != nil && os.SameFile(last, st) {
			t.Error("the stale socket was not replaced")
		}
		last = st
		status, answer := atSocket(t, path, "GET", "/admin/v1/status")
		var s struct {
			PID     int
			Address string
			Path    string
		}
		must(t, json.Unmarshal([]byte(answer), &s))
		if status != 200 || s.PID != p.cmd.Process.Pid || s.Address != p.address || s.Path != path {
			t.Errorf("status %d, %s", status, answer)
		}
		for _, route := range []string{"GET /admin/v1/status", "GET /admin/v1/keys", "POST /admin/v1/keys/rotate", "POST /admin/v1/compact", "GET /admin.sock"} {
			method, at, _ := strings.Cut(route, " ")
			if status, answer, err := p.do(method, at, nil); status != 404 || err != nil {
				t.Errorf("%s on the port: %d %s %v", route, status, answer, err)
			}
		}
		if status, _ := atSocket(t, path, "GET", "/api/v2/heartbeat"); status != 404 {
			t.Errorf("the API on the socket: %d", status)
		}
		p.kill()
	}
	stopped(t, spawn(t, path))
	if _, err := os.Lstat(filepath.Join(path, adminSocket)); err == nil {
		t.Error("the socket stays when the server has stopped")
	}
}

// A store whose path is too long for a socket has one all the same.
func TestAdminSocketLongPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("long/", 40))
	p := spawn(t, path)
	makeCollection(t, p, "docs")
	if out := works(t, "compact", path); !strings.Contains(out, "0 segments now") && !strings.Contains(out, "1 segment now") {
		t.Error(out)
	}
	stopped(t, p)
}

// A server starts where no socket can be made, and says so.
func TestAdminSocketImpossible(t *testing.T) {
	path := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(path, adminSocket, "in the way"), 0o700))
	p := spawn(t, path)
	if !strings.Contains(p.logged(), "there is no admin socket") {
		t.Error(p.logged())
	}
	refused(t, "it does not answer at admin.sock", "compact", path)
	stopped(t, p)
	if _, err := os.Stat(filepath.Join(path, adminSocket, "in the way")); err != nil {
		t.Error(err)
	}
}

// Nobody else gets in, should the mode of the socket let him.
func TestAdminSocketOthers(t *testing.T) {
	for _, c := range []struct {
		uid, owner int
		want       bool
	}{{0, 1000, true}, {1000, 1000, true}, {1001, 1000, false}, {65534, 0, false}} {
		if mayAdminister(c.uid, c.owner) != c.want {
			t.Errorf("user %d at the socket of %d", c.uid, c.owner)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	path := t.TempDir()
	p := spawn(t, path)
	for dir := path; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		must(t, os.Chmod(dir, 0o711))
	}
	must(t, os.Chmod(filepath.Join(path, adminSocket), 0o666))
	somebodyElse(t)
	c, err := dialAdmin(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /admin/v1/status HTTP/1.0\r\n\r\n")
	if text, _ := io.ReadAll(c); len(text) > 0 {
		t.Errorf("somebody else was answered: %s", text)
	}
	p.kill()
	if !strings.Contains(p.logged(), "somebody else was refused at the admin socket") {
		t.Error(p.logged())
	}
}

// somebodyElse has the process of the test act as user 65534 until it ends.
func somebodyElse(t *testing.T) {
	t.Helper()
	if err := syscall.Setreuid(-1, 65534); err != nil {
		t.Skipf("acting as somebody else: %v", err)
	}
	t.Cleanup(func() { must(t, syscall.Setreuid(-1, 0)) })
}

// Somebody who has the store open and is no server is named, not waited for.
func TestAdminNoServer(t *testing.T) {
	path := t.TempDir()
	db, err := engine.Open(path, nil)
	must(t, err)
	refused(t, fmt.Sprint("pid ", os.Getpid()), "compact", path)
	must(t, db.Close())
	works(t, "compact", path)
	refused(t, "there is no store in this directory", "compact", path+"-missing")
	if _, err := os.Stat(path + "-missing"); err == nil {
		t.Error("a store was made")
	}
}

// Compaction in a server, and without one.
func TestCompact(t *testing.T) {
	path := t.TempDir()
	p := spawn(t, path, "--memtable-rows", "100")
	docs := fill(t, p)
	p.must(t, "POST", docs[0]+"/delete", fmt.Sprintf(`{"ids":[%q]}`, canary+"-1"))
	if out := works(t, "compact", path); !strings.Contains(out, "6 segments now") {
		t.Error(out)
	}
	if out := works(t, "compact", path, "--json"); out != "{\"event\":\"began\"}\n{\"event\":\"done\"}\n" {
		t.Error(out)
	}
	stopped(t, p)
	if out := works(t, "compact", path); !strings.Contains(out, "6 segments now") {
		t.Error(out)
	}
}
