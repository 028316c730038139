package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets tests start this binary as chromad.
func TestMain(m *testing.M) {
	if os.Getenv("CHROMAD_TEST_MAIN") != "" {
		main()
		return
	}
	// The race detector lets every process wait a second for further races before
	// it ends, and there are many here.
	if os.Getenv("GORACE") == "" {
		os.Setenv("GORACE", "atexit_sleep_ms=0")
	}
	os.Exit(m.Run())
}

func TestCommands(t *testing.T) {
	for _, c := range []struct {
		args           []string
		status         int
		stdout, stderr string
	}{
		{nil, exitUsage, "", "chromad run --path"},
		{[]string{"help"}, exitOK, "chromad run --path", ""},
		{[]string{"--help"}, exitOK, "Usage:", ""},
		{[]string{"version"}, exitOK, "chromad ", ""},
		{[]string{"help", "run"}, exitOK, "--memtable-rows ROWS", ""},
		{[]string{"run", "--help"}, exitOK, "directory of the store; made when it is missing (./chroma)", ""},
		{[]string{"rum"}, exitUsage, "", `unknown command "rum" (did you mean "run"?)`},
		{[]string{"run", "--prot", "1"}, exitUsage, "", `unknown flag --prot (did you mean "port"?); see chromad run --help`},
		{[]string{"run", "--wholly-other"}, exitUsage, "", "unknown flag --wholly-other; see"},
		{[]string{"run", "--port", "many"}, exitUsage, "", `invalid value "many" for flag --port`},
		{[]string{"run", "--port"}, exitUsage, "", "flag needs an argument: --port"},
		{[]string{"run", "--port", "65536"}, exitUsage, "", "a port is a number up to 65535"},
		{[]string{"run", "--max-body", "lots"}, exitUsage, "", "write 41943040 or 40MiB"},
		{[]string{"run", "--path="}, exitUsage, "", "--path is empty"},
		{[]string{"run", "--log-level", "loud"}, exitUsage, "", "one of debug, info, warn, error"},
		{[]string{"run", "a.yaml", "b.yaml"}, exitUsage, "", `"b.yaml": only one configuration file`},
		{[]string{"run", "missing.yaml"}, exitUsage, "", "configuration file: open missing.yaml"},
		{[]string{"run", "--host", "0.0.0.0", "--port", "0"}, exitFailed, "", "refusing to listen on 0.0.0.0:0"},
		{[]string{"run", "--host", "", "--port", "0"}, exitFailed, "", "refusing to listen on :0"},
		{[]string{"run", "--host", "::", "--port", "0"}, exitFailed, "", "--insecure if the network around it is closed"},
	} {
		var stdout, stderr bytes.Buffer
		status := command(t.Context(), c.args, &stdout, &stderr)
		if status != c.status || !strings.Contains(stdout.String(), c.stdout) || !strings.Contains(stderr.String(), c.stderr) {
			t.Errorf("chromad %s: status %d, want %d\nstdout %.300s\nstderr %.300s", strings.Join(c.args, " "), status, c.status, &stdout, &stderr)
		}
	}
}

func TestOptions(t *testing.T) {
	t.Chdir(t.TempDir())
	file := "cors.yaml" // not a flag, though it begins like one
	text := "# like Chroma's\nport: 9000\nlisten_address: \"::1\"\npersist_path: /data\nallow_reset: true\nmax_payload_size_bytes: 1048576\n" +
		"cors_allow_origins: [\"http://a\"]\nmemory: 2GiB\ndrain: 5s\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "127.0.0.1:8000 ./chroma false 40MiB [] 0 30s"},
		{[]string{"--port=1", "--path", "x", "--allow-reset", "--max-body", "2MB", "--cors", "*", "--memory=64MiB"}, "127.0.0.1:1 x true 2000000 [*] 64MiB 30s"},
		{[]string{file}, "::1:9000 /data true 1MiB [http://a] 2GiB 5s"},
		{[]string{"--port", "1", file, "--cors", "http://b", "--cors=http://c", "--allow-reset=false"}, "::1:1 /data false 1MiB [http://b http://c] 2GiB 5s"},
	} {
		o, err := parseOptions(c.args)
		if err != nil {
			t.Errorf("%v: %v", c.args, err)
			continue
		}
		if got := fmt.Sprintf("%s:%d %s %t %s %v %s %s", o.host, o.port, o.path, o.reset, o.maxBody, o.cors, o.memory, o.drain); got != c.want {
			t.Errorf("%v: %s, want %s", c.args, got, c.want)
		}
	}
}

func TestConfigurationFileRefused(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"port: 1\nprot: 2\n", `f.yaml:2: unknown setting "prot" (did you mean "port"?)`},
		{"something_else: 2\n", `f.yaml:1: unknown setting "something_else"; the settings`},
		{"\n\nsqlitedb:\n  hash_type: md5\n", "f.yaml:3: sqlitedb has no meaning here: there is no SQLite database"},
		{"open_telemetry:\n  endpoint: x\n", "f.yaml:1: open_telemetry has no meaning here"},
		{"port: 1\nport: 2\n", "port is set twice, first on line 1"},
		{"port: many\n", "f.yaml:1: port: cannot unmarshal"},
		{"memory: much\n", `f.yaml:1: memory: "much" is not a size`},
		{"drain: soon\n", "f.yaml:1: drain: "},
		{"cors_allow_origins: {a: b}\n", "f.yaml:1: cors_allow_origins: "},
		{"limits: {request: 1}\n", "f.yaml:1: limits: field request not found"},
		{"limits: {requests: -2}\n", "f.yaml:1: limits: requests: -2 is no bound"},
		{"limits: {bytes: many}\n", `f.yaml:1: limits: "many" is not a size`},
		{"limits: {actions: {\"collection:fly\": {rows: 1}}}\n", `f.yaml:1: limits: unknown action "collection:fly"`},
		{"auth_failures: -1\n", "f.yaml:1: auth_failures: "},
		{"admission: {reads: -1}\n", "f.yaml:1: admission: "},
		{"admission: {places: 1}\n", "f.yaml:1: admission: field places not found"},
		{"quotas: {tenants: {acme: {recordss: 1}}}\n", "f.yaml:1: quotas: field recordss not found"},
		{"quotas: {tenants: {acme: {records: -1}}}\n", `f.yaml:1: quotas: tenant "acme": -1 is no quota`},
		{"circuit_breaker: {}\n", "f.yaml:1: circuit_breaker has no meaning here: use admission"},
		{"- port\n", "f.yaml:1: expected settings"},
		{"port: [\n", "f.yaml: yaml: "},
		{"port: 1\n---\nport: 2\n", "more than one YAML document"},
	} {
		o := defaultOptions()
		if err := o.readYAML("f.yaml", []byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %s", c.text, err, c.want)
		}
	}
	for _, text := range []string{"", "# nothing\n", "---\n"} {
		if err := defaultOptions().readYAML("f.yaml", []byte(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestLimitSettings(t *testing.T) {
	o := defaultOptions()
	text := `
limits: {requests: 100, bytes: 20MiB, concurrent: -1, actions: {"collection:query": {requests: 5.5}}}
auth_failures: 12
admission: {reads: 4, writes: 16, memory: 64MiB}
quotas: {collections: 3, bytes: 1KiB, tenants: {acme: {records: 1000}}}
`
	if err := o.readYAML("f.yaml", []byte(text)); err != nil {
		t.Fatal(err)
	}
	want := "{Requests:100 Rows:0 Bytes:2.097152e+07 Concurrent:-1} {Requests:5.5 Rows:0 Bytes:0 Concurrent:0} 12 {Reads:4 Writes:16 Memory:67108864} 3 1024 1000"
	if got := fmt.Sprintf("%+v %+v %v %+v %d %d %d", o.limits.Bounds, o.limits.Actions["collection:query"], o.failures, o.admitted(memoryPlan{}),
		o.quotas.Collections, o.quotas.Bytes, o.quotas.Tenants["acme"].Records); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestSizes(t *testing.T) {
	for in, want := range map[string]int64{"0": 0, "1": 1, "40MiB": 40 << 20, "1GB": 1e9, "7 KiB": 7 << 10, "12B": 12} {
		var s size
		if err := s.Set(in); err != nil || int64(s) != want {
			t.Errorf("%s: %d %v, want %d", in, s, err, want)
		}
	}
	for _, in := range []string{"", "-1", "MiB", "1.5GiB", "9999999999GiB", "1TB"} {
		var s size
		if err := s.Set(in); err == nil {
			t.Errorf("%s: %d", in, s)
		}
	}
}

var readyLine = regexp.MustCompile(`msg=ready address=(https?://\S+) path=(\S+)`)

// started is a chromad in this process.
type started struct {
	address string
	log     *bufio.Scanner
	stop    context.CancelFunc
	status  chan int
}

func start(t *testing.T, args ...string) *started {
	t.Helper()
	return startIn(context.Background(), t, args...)
}

func startIn(ctx context.Context, t *testing.T, args ...string) *started {
	t.Helper()
	ctx, stop := context.WithCancel(ctx)
	out, in := io.Pipe()
	s := &started{log: bufio.NewScanner(out), stop: stop, status: make(chan int, 1)}
	go func() {
		status := command(ctx, append([]string{"run", "--port", "0"}, args...), in, in)
		in.Close()
		s.status <- status
	}()
	for s.log.Scan() {
		if m := readyLine.FindStringSubmatch(s.log.Text()); m != nil {
			s.address = m[1]
			go io.Copy(io.Discard, out)
			return s
		}
	}
	t.Fatalf("never ready; status %d", <-s.status)
	return nil
}

func (s *started) finish(t *testing.T) {
	t.Helper()
	s.stop()
	if status := <-s.status; status != exitOK {
		t.Errorf("status %d", status)
	}
}

func ask(t *testing.T, method, url, body string) string {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A server keeps what it was told, and shares its store with no other one.
func TestRunTwice(t *testing.T) {
	path := t.TempDir()
	const collections = "/api/v2/tenants/default_tenant/databases/default_database/collections"
	s := start(t, "--path", path)
	if answer := ask(t, "POST", s.address+collections, `{"name":"kept"}`); !strings.Contains(answer, `"name":"kept"`) {
		t.Fatal(answer)
	}
	var stderr bytes.Buffer
	if status := command(t.Context(), []string{"run", "--path", path, "--port", "0"}, io.Discard, &stderr); status != exitFailed ||
		!strings.Contains(stderr.String(), fmt.Sprint(os.Getpid())) || !strings.Contains(stderr.String(), path) {
		t.Errorf("a second server: status %d, %s", status, &stderr)
	}
	s.finish(t)
	s = start(t, "--path", path)
	if answer := ask(t, "GET", s.address+collections+"/kept", ""); !strings.Contains(answer, `"name":"kept"`) {
		t.Error(answer)
	}
	s.finish(t)
}

func TestAddressTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	var stderr bytes.Buffer
	dir := filepath.Join(t.TempDir(), "store")
	if status := command(t.Context(), []string{"run", "--port", port, "--path", dir}, io.Discard, &stderr); status != exitFailed ||
		!strings.Contains(stderr.String(), "choose another one with --host and --port") {
		t.Errorf("status %d, %s", status, &stderr)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a server that could not listen made a store")
	}
}

func TestNotChromas(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "chroma.sqlite3"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	if status := command(t.Context(), []string{"run", "--path", dir, "--port", "0"}, io.Discard, &stderr); status != exitFailed ||
		!strings.Contains(stderr.String(), "name another directory with --path") {
		t.Errorf("status %d, %s", status, &stderr)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("the directory was changed: %v, %v", files, err)
	}
}

func TestWatch(t *testing.T) {
	at := []time.Duration{0, 0, sameSignal, sameSignal + 1}
	signals, seen, said := make(chan os.Signal, len(at)), 0, ""
	for range at {
		signals <- syscall.SIGTERM
	}
	watch(signals, func() time.Time {
		seen++
		return time.Unix(1, int64(at[seen-1]))
	}, func() { said += "stop " }, func() { said += "leave" })
	if said != "stop leave" || seen != len(at) {
		t.Errorf("%s after %d signals", said, seen)
	}
}

// The first signal drains, a later one leaves at once.
func TestSignals(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no signals to send")
	}
	for _, c := range []struct {
		name   string
		twice  bool // sent again until the process has ended
		status int
	}{{"one", false, exitOK}, {"two", true, exitFailed}} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "run", "--port", "0", "--path", t.TempDir())
			cmd.Env = append(os.Environ(), "CHROMAD_TEST_MAIN=1")
			stderr, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Process.Kill()
			log := bufio.NewScanner(stderr)
			await := func(what *regexp.Regexp) []string {
				for log.Scan() {
					if m := what.FindStringSubmatch(log.Text()); m != nil {
						return m
					}
				}
				t.Fatalf("the log never said %s", what)
				return nil
			}
			address := await(readyLine)[1]
			if c.twice {
				// A request that is not complete keeps the server from stopping.
				conn, err := net.Dial("tcp", strings.TrimPrefix(address, "http://"))
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				fmt.Fprint(conn, "POST /api/v2/tenants HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n")
				if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
					t.Fatal(err)
				}
			}
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			await(regexp.MustCompile("msg=\"stopping"))
			ended := make(chan struct{})
			if c.twice {
				go func() {
					for again := time.NewTicker(sameSignal / 5); ; {
						select {
						case <-again.C:
							cmd.Process.Signal(syscall.SIGTERM)
						case <-ended:
							again.Stop()
							return
						}
					}
				}()
			}
			for log.Scan() {
			}
			close(ended)
			cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != c.status {
				t.Errorf("status %d, want %d", got, c.status)
			}
		})
	}
}
