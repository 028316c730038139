package main

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// sockets are those of a process: "tcp LISTEN 127.0.0.1:8000", "unix /path".
// A connection to its own port is left out.
func sockets(t *testing.T, pid int) (out []string) {
	t.Helper()
	proc := fmt.Sprintf("/proc/%d", pid)
	fds, err := os.ReadDir(proc + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	own := map[string]bool{}
	for _, fd := range fds {
		to, err := os.Readlink(filepath.Join(proc, "fd", fd.Name()))
		if inode, ok := strings.CutPrefix(to, "socket:["); ok && err == nil {
			own[strings.TrimSuffix(inode, "]")] = true
		}
	}
	for _, kind := range []string{"tcp", "tcp6", "udp", "udp6", "raw", "raw6", "unix"} {
		text, err := os.ReadFile(filepath.Join(proc, "net", kind))
		if err != nil {
			continue // a kernel without it
		}
		for _, line := range strings.Split(string(text), "\n")[1:] {
			f := strings.Fields(line)
			switch {
			case kind == "unix" && len(f) > 6 && own[f[6]]:
				out = append(out, strings.TrimSpace("unix "+strings.Join(f[7:], " ")))
			case kind != "unix" && len(f) > 9 && own[f[9]]:
				out = append(out, kind+" "+f[3]+" "+hexPort(f[1]))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// hexPort is the port of an address in /proc/net.
func hexPort(address string) string {
	_, port, _ := strings.Cut(address, ":")
	n, _ := strconv.ParseUint(port, 16, 16)
	return strconv.FormatUint(n, 10)
}

// A server listens on its port and on the admin socket, and nowhere else; it
// opens no connection, whatever it is asked for.
func TestSocketsOfServer(t *testing.T) {
	const listening, established = "0A", "01"
	path := t.TempDir()
	p := spawn(t, path)
	address, err := url.Parse(p.address)
	if err != nil {
		t.Fatal(err)
	}
	c := makeCollection(t, p, "docs")
	p.must(t, "POST", c+"/add", `{"ids":["a"],"embeddings":[[1,2]],"documents":["http://127.0.0.1:9/x"],"uris":["http://127.0.0.1:9/y"]}`)
	p.must(t, "POST", c+"/query", `{"query_embeddings":[[1,2]],"include":["uris","documents"]}`)
	for _, body := range []string{`{"searches":[]}`, `{"name":"f","function_id":"f","output_collection":"http://127.0.0.1:9/z"}`} {
		for _, route := range []string{"/search", "/functions/attach"} {
			if _, _, err := p.do("POST", c+route, []byte(body)); err != nil {
				t.Error(err)
			}
		}
	}
	got := sockets(t, p.cmd.Process.Pid)
	// The kernel tells the name under which a socket was made; it was renamed since.
	made := filepath.Join(adminTmp, "s")
	wanted := []string{"tcp " + listening + " " + address.Port(), "unix " + filepath.Join(path, made)}
	for _, s := range got {
		own := s == "tcp "+established+" "+address.Port() // ours to it
		if !own && !slices.Contains(wanted, s) {
			t.Errorf("a socket that nobody asked for: %s", s)
		}
	}
	for _, w := range wanted {
		if !slices.Contains(got, w) {
			t.Errorf("no %s in %q", w, got)
		}
	}
	p.kill()
}
