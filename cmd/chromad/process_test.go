package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

const collectionsPath = "/api/v2/tenants/default_tenant/databases/default_database/collections"

// process is a chromad in a process of its own: this binary, which TestMain
// turns into the command.
type process struct {
	cmd     *exec.Cmd
	address string
	client  *http.Client
	ended   chan struct{} // closed when it has ended and its log is read

	mu  sync.Mutex
	log bytes.Buffer
}

// launch starts chromad over path and does not wait for it. Whatever the test
// does, it does not outlive it.
func launch(t testing.TB, path string, args ...string) (p *process, log *bufio.Scanner) {
	t.Helper()
	p = &process{client: &http.Client{Transport: &http.Transport{}}, ended: make(chan struct{})}
	p.cmd = exec.Command(os.Args[0], append([]string{"run", "--port", "0", "--path", path}, args...)...)
	p.cmd.Env = append(os.Environ(), "CHROMAD_TEST_MAIN=1")
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p, bufio.NewScanner(stderr)
}

// follow reads the log to its end.
func (p *process) follow(log *bufio.Scanner) {
	for log.Scan() {
		p.note(log.Text())
	}
	p.cmd.Wait()
	close(p.ended)
}

func (p *process) note(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.log.Len() < 1<<20 && !strings.Contains(line, " status=2") { // what went well needs no telling
		fmt.Fprintln(&p.log, line)
	}
}

func (p *process) logged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// spawn starts chromad over path and waits until it is ready.
func spawn(t testing.TB, path string, args ...string) *process {
	t.Helper()
	p, log := launch(t, path, args...)
	for log.Scan() {
		p.note(log.Text())
		if m := readyLine.FindStringSubmatch(log.Text()); m != nil {
			p.address = m[1]
			go p.follow(log)
			return p
		}
	}
	p.follow(log)
	t.Fatalf("never ready: %v\n%s", p.cmd.ProcessState, p.logged())
	return nil
}

// kill ends the process without a word and waits until it is gone.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.ended
	p.client.CloseIdleConnections()
}

// do sends a request. An error: there was no answer.
func (p *process) do(method, path string, body []byte) (status int, answer []byte, err error) {
	req, err := http.NewRequest(method, p.address+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	res, err := p.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(res.Body)
	return res.StatusCode, answer, err
}

// must sends a request that is to succeed.
func (p *process) must(t testing.TB, method, path, body string) []byte {
	t.Helper()
	status, answer, err := p.do(method, path, []byte(body))
	if err != nil || status >= 300 {
		t.Fatalf("%s %s: status %d, %.300s, %v\n%s", method, path, status, answer, err, p.logged())
	}
	return answer
}

// again runs the test that calls it once more, in a process of its own, with
// this variable set; what must not happen to the process of the tests (limits,
// mounts, faults) happens to that one. It reports whether this is that process.
func again(t *testing.T, prepare func(cmd *exec.Cmd)) (child bool) {
	t.Helper()
	const variable = "CHROMAD_TEST_CHILD"
	if os.Getenv(variable) == t.Name() {
		return true
	}
	var pattern []string
	for name := range strings.SplitSeq(t.Name(), "/") {
		pattern = append(pattern, "^"+name+"$")
	}
	cmd := exec.Command(os.Args[0], "-test.run="+strings.Join(pattern, "/"), "-test.v", "-test.timeout=100s")
	flag.Visit(func(f *flag.Flag) {
		if !strings.HasPrefix(f.Name, "test.") || f.Name == "test.short" {
			cmd.Args = append(cmd.Args, "-"+f.Name+"="+f.Value.String())
		}
	})
	cmd.Env = append(os.Environ(), variable+"="+t.Name(), "TMPDIR="+t.TempDir())
	if prepare != nil {
		prepare(cmd)
	}
	out, err := cmd.CombinedOutput()
	switch {
	case errors.Is(err, fs.ErrPermission) && cmd.Process == nil:
		t.Skipf("the system starts no process of this kind: %v", err)
	case err != nil:
		t.Fatalf("in a process of its own: %v\n%s", err, out)
	case bytes.Contains(out, []byte("--- SKIP")):
		t.Skipf("%s", out)
	}
	t.Logf("in a process of its own:\n%s", out)
	return false
}
