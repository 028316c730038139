package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// target is a chromad that runs for this purpose, and what its users know.
type target struct {
	dir, binary, store, address string
	admin, own, other, password string // keys of the administrator, of tenants acme and beta; the administrator's password
	roots                       *x509.CertPool
	client                      *http.Client // speaks HTTP/2
	docs                        string       // path of acme's collection
	large                       string       // path of a collection whose record is 256 KiB
	command                     *exec.Cmd
	ended                       atomic.Bool
	exit                        chan error
}

const largeDocument = 256 << 10

func newTarget(binary string) (*target, error) {
	dir, err := os.MkdirTemp("", "attack")
	if err != nil {
		return nil, err
	}
	t := &target{dir: dir, binary: binary, store: filepath.Join(dir, "store"), password: "correct horse battery", exit: make(chan error, 1)}
	if err := t.prepare(); err != nil {
		t.remove()
		return nil, fmt.Errorf("%w\n%s", err, t.logTail())
	}
	return t, nil
}

// prepare makes certificates, a store with users, and starts the server over it.
func (t *target) prepare() (err error) {
	if t.binary == "" {
		t.binary = filepath.Join(t.dir, "chromad")
		if _, err := t.tool("", "go", "build", "-o", t.binary, "./cmd/chromad"); err != nil {
			return err
		}
	}
	certs := filepath.Join(t.dir, "certs")
	if _, err := t.tool("", t.binary, "certs", "dev", "--out", certs); err != nil {
		return err
	}
	if err := t.start(); err != nil { // makes the store
		return err
	}
	if err := t.interrupt(); err != nil {
		return err
	}
	for _, u := range []struct {
		key  *string
		args []string
	}{
		{&t.admin, []string{"add", t.store, "ada", "--role", "admin", "--key"}},
		{&t.own, []string{"add", t.store, "acme", "--role", "admin", "--on", "acme", "--key"}},
		{&t.other, []string{"add", t.store, "beta", "--role", "admin", "--on", "beta", "--key"}},
	} {
		if *u.key, err = t.tool("", t.binary, append([]string{"users"}, u.args...)...); err != nil {
			return err
		}
	}
	if _, err := t.tool(t.password+"\n", t.binary, "users", "password", t.store, "ada"); err != nil {
		return err
	}
	ca, err := os.ReadFile(filepath.Join(certs, "ca.pem"))
	if err != nil {
		return err
	}
	t.roots = x509.NewCertPool()
	t.roots.AppendCertsFromPEM(ca)
	t.client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: t.tls(), ForceAttemptHTTP2: true}}
	var settings []string
	if *timing > 0 { // what is timed are refusals of keys, not of those who guess too often
		settings = []string{filepath.Join(t.dir, "settings.yaml")}
		if err := os.WriteFile(settings[0], []byte("auth_failures: 0\n"), 0o600); err != nil {
			return err
		}
	}
	if err := t.start(append(settings, "--tls-cert", filepath.Join(certs, "server.pem"), "--tls-key", filepath.Join(certs, "server.key"), "--memory", fmt.Sprint(memoryLimit))...); err != nil {
		return err
	}
	return t.fill()
}

// fill makes what the attacks are after.
func (t *target) fill() error {
	for _, c := range []struct{ path, body string }{
		{"/api/v2/tenants", `{"name":"acme"}`}, {"/api/v2/tenants", `{"name":"beta"}`},
		{"/api/v2/tenants/acme/databases", `{"name":"main"}`}, {"/api/v2/tenants/beta/databases", `{"name":"main"}`},
	} {
		if status, answer, err := t.do(t.admin, "POST", c.path, c.body); err != nil || status != 200 {
			return fmt.Errorf("%s: %d %s %w", c.path, status, answer, err)
		}
	}
	for _, c := range []struct {
		path           *string
		name, document string
	}{{&t.docs, "docs", "a cat"}, {&t.large, "large", strings.Repeat("x", largeDocument)}} {
		const in = "/api/v2/tenants/acme/databases/main/collections"
		_, answer, err := t.do(t.admin, "POST", in, `{"name":"`+c.name+`"}`)
		var made struct{ ID string }
		if err := errors.Join(err, json.Unmarshal(answer, &made)); err != nil {
			return fmt.Errorf("%s: %w", answer, err)
		}
		*c.path = in + "/" + made.ID
		if status, answer, err := t.do(t.admin, "POST", *c.path+"/add", `{"ids":["a"],"embeddings":[[1,2]],"documents":["`+c.document+`"]}`); err != nil || status != 201 {
			return fmt.Errorf("add: %d %s %w", status, answer, err)
		}
	}
	return nil
}

// tool runs a program and returns the last line that it prints.
func (t *target) tool(input, name string, args ...string) (string, error) {
	c := exec.Command(name, args...)
	c.Stdin = strings.NewReader(input)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, stderr.String())
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1], nil
}

var ready = regexp.MustCompile(`msg=ready address=https?://(\S+)`)

// start runs chromad on a port that it takes itself, and waits for it.
func (t *target) start(flags ...string) error {
	log, err := os.Create(t.logFile())
	if err != nil {
		return err
	}
	defer log.Close()
	t.command = exec.Command(t.binary, append([]string{"run", "--path", t.store, "--port", "0"}, flags...)...)
	t.command.Stderr = log
	if err := t.command.Start(); err != nil {
		return err
	}
	t.ended.Store(false)
	go func(c *exec.Cmd) {
		err := c.Wait()
		t.ended.Store(true)
		t.exit <- err
	}(t.command)
	for range 300 {
		if text, err := os.ReadFile(t.logFile()); err == nil {
			if m := ready.FindSubmatch(text); m != nil {
				_, port, err := net.SplitHostPort(string(m[1]))
				t.address = "localhost:" + port
				return err
			}
		}
		if !t.alive() {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("chromad does not get ready")
}

func (t *target) logFile() string { return filepath.Join(t.dir, "log") }

func (t *target) logTail() string {
	text, err := os.ReadFile(t.logFile())
	if err != nil {
		return ""
	}
	return string(text[max(0, len(text)-4000):])
}

func (t *target) alive() bool { return !t.ended.Load() }

// interrupt stops the server as an operator would.
func (t *target) interrupt() error {
	if err := t.command.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-t.exit:
		return err
	case <-time.After(time.Minute):
		return errors.New("the server does not stop within a minute of SIGTERM")
	}
}

func (t *target) remove() {
	if t.command != nil && t.alive() {
		if err := t.command.Process.Kill(); err == nil {
			<-t.exit
		}
	}
	os.RemoveAll(t.dir)
}

// stack is the first line of what Go prints of a goroutine.
var stack = regexp.MustCompile(`goroutine \d+ \[`)

// end stops the server and looks at what it leaves behind.
func (t *target) end() (findings []string) {
	if status, answer, err := t.do("", "GET", "/api/v2/healthcheck", ""); err != nil || status != 200 {
		findings = append(findings, fmt.Sprintf("healthcheck in the end: %d %s %v", status, answer, err))
	}
	t.client.CloseIdleConnections()
	if err := t.interrupt(); err != nil {
		findings = append(findings, "stopping the server: "+err.Error())
	}
	text, err := os.ReadFile(t.logFile())
	if err != nil {
		return append(findings, err.Error())
	}
	for _, secret := range []string{t.admin, t.own, t.other, t.password} {
		if bytes.Contains(text, []byte(secret)) {
			findings = append(findings, "a secret is in the log")
		}
	}
	if at := stack.FindIndex(text); at != nil {
		findings = append(findings, fmt.Sprintf("a stack is in the log: %.600s", text[max(0, at[0]-300):]))
	}
	if out, err := t.tool("", t.binary, "check", "--quiet", t.store); err != nil {
		findings = append(findings, fmt.Sprintf("chromad check: %s %v", out, err))
	}
	return findings
}

// peakMemory is the most that the process has held, in bytes; 0 where the
// system does not tell.
func (t *target) peakMemory() int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", t.command.Process.Pid))
	if err != nil {
		fmt.Println("NOT CHECKED: this system does not tell how much memory a process has held")
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n << 10
		}
	}
	return 0
}

func (t *target) tls() *tls.Config { return &tls.Config{RootCAs: t.roots, ServerName: "localhost"} }

// plain makes a client that speaks HTTP/1.1.
func (t *target) plain() *http.Client {
	return &http.Client{Timeout: longest, Transport: &http.Transport{TLSClientConfig: t.tls(), TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}}
}

// do sends a request as clients do.
func (t *target) do(key, method, path, body string) (status int, answer []byte, err error) {
	return t.doBy(t.client, key, method, path, body)
}

func (t *target) doBy(client *http.Client, key, method, path, body string) (status int, answer []byte, err error) {
	r, err := http.NewRequest(method, "https://"+t.address+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	if key != "" {
		r.Header.Set("X-Chroma-Token", key)
	}
	res, err := client.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(res.Body)
	return res.StatusCode, answer, err
}

// patience is how long a connection may take before the attack calls it hung.
const patience = 20 * time.Second

// dial connects with TLS, for a protocol of ALPN.
func (t *target) dial(protocol string) (*tls.Conn, error) {
	c := t.tls()
	c.NextProtos = []string{protocol}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", t.address, c)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(patience))
}

// raw sends bytes and returns the statuses of all answers until the server
// closes, and the end of what it said. cut says that nothing more will come.
func (t *target) raw(in string, cut bool) (statuses []int, last string, err error) {
	conn, err := t.dial("http/1.1")
	if err != nil {
		return nil, "", err
	}
	defer conn.Close()
	go func() {
		// The server may close before it has read everything.
		if _, err := io.WriteString(conn, in); err == nil && cut {
			conn.CloseWrite()
		}
	}()
	br := bufio.NewReader(conn)
	for {
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
				return statuses, last, fmt.Errorf("the connection is still open after %s", patience)
			}
			return statuses, last, nil
		}
		body, _ := io.ReadAll(res.Body)
		statuses, last = append(statuses, res.StatusCode), string(body)
	}
}
