package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// overheard is a server whose log is kept to the last line.
type overheard struct {
	*process
	mu   sync.Mutex
	said bytes.Buffer
}

func overhear(t testing.TB, path string, args ...string) *overheard {
	t.Helper()
	p, log := launch(t, path, args...)
	o := &overheard{process: p}
	ready := make(chan bool, 1)
	go func() {
		for log.Scan() {
			o.mu.Lock()
			fmt.Fprintln(&o.said, log.Text())
			o.mu.Unlock()
			if m := readyLine.FindStringSubmatch(log.Text()); m != nil && p.address == "" {
				p.address = m[1]
				ready <- true
			}
		}
		p.cmd.Wait()
		close(p.ended)
		ready <- false
	}()
	if !<-ready {
		t.Fatalf("never ready\n%s", &o.said)
	}
	return o
}

// TestNothingIsTold: of what a server with keys is given nothing is found in its
// directory, in the system's directory for temporary files, in its log, be it
// the most talkative one, and in its metrics; whatever is asked of it, and when
// a file is damaged. Nor is the operator's key.
func TestNothingIsTold(t *testing.T) {
	key, path, tmp := keyFile(t), t.TempDir(), t.TempDir()
	if n := tellTales(t, path, tmp, key, "--keys", key); n != 0 {
		t.Errorf("%d kinds were found", n)
	}
	// The same without keys: what is there to be found is found.
	if n := tellTales(t, t.TempDir(), t.TempDir(), ""); n < 8 {
		t.Errorf("of a plain store only %d kinds were found: the test is blind", n)
	}
}

func tellTales(t *testing.T, path, tmp, key string, args ...string) (found int) {
	t.Helper()
	t.Setenv("TMPDIR", tmp)
	args = append(args, "--log-level", "debug")
	o := overhear(t, path, args...)
	tales := map[string]string{}
	tale := func(kind string) string {
		tales[kind] = fmt.Sprintf("Canary%x-%s", len(tales)*7919+4711, strings.ReplaceAll(kind, " ", "-"))
		return tales[kind]
	}
	tenant, database := tale("tenant"), tale("database")
	o.must(t, "POST", "/api/v2/tenants", fmt.Sprintf(`{"name":%q}`, tenant))
	o.must(t, "POST", "/api/v2/tenants/"+tenant+"/databases", fmt.Sprintf(`{"name":%q}`, database))
	base := "/api/v2/tenants/" + tenant + "/databases/" + database + "/collections"
	var made struct{ ID string }
	must(t, json.Unmarshal(o.must(t, "POST", base, fmt.Sprintf(`{"name":%q,"metadata":{%q:%q}}`,
		tale("collection"), tale("collection key"), tale("collection value"))), &made))
	c := base + "/" + made.ID
	var raw []byte
	for _, f := range []float32{0.1234567, -7.654321, 31.41592, 2.7182818} {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(f))
	}
	tales["vector"], tales["vector in digits"] = string(raw), "-7.654321"
	record := fmt.Sprintf(`{"ids":[%q],"documents":[%q],"uris":[%q],"metadatas":[{%q:%q}],"embeddings":[[0.1234567,-7.654321,31.41592,2.7182818]]}`,
		tale("id"), tale("document"), tale("uri"), tale("key"), tale("value"))
	o.must(t, "POST", c+"/add", record)
	o.must(t, "POST", c+"/upsert", record)
	o.must(t, "POST", c+"/get", fmt.Sprintf(`{"where":{%q:%q},"where_document":{"$contains":%q}}`, tales["key"], tale("asked value"), tale("asked text")))
	for _, bad := range [][3]string{
		{"POST", c + "/add", strings.Replace(record, "0.1234567,", "", 1)}, // dimension
		{"POST", c + "/add", record[:len(record)-20]},
		{"POST", c + "/query", fmt.Sprintf(`{"query_embeddings":[[1,2,3,4]],"where":{%q:{"$no":%q}}}`, tales["key"], tales["value"])},
		{"GET", base + "/" + tales["collection"] + "-not", ""}, {"GET", "/api/v2/tenants/" + tale("nobody"), ""},
		{"POST", base, fmt.Sprintf(`{"name":%q}`, tales["collection"])}, {"DELETE", base + "/" + tale("not there"), ""},
		{"POST", c + "/" + tale("no route"), record}, {"POST", c + "/upsert", `{"ids":["` + strings.Repeat(tales["id"], 9000) + `"],"embeddings":[[1,2,3,4]]}`},
	} {
		if status, answer, err := o.do(bad[0], bad[1], []byte(bad[2])); err != nil || status < 400 || status >= 500 {
			t.Errorf("%s %s: %d %s %v", bad[0], bad[1], status, answer, err)
		}
	}
	metrics := o.must(t, "GET", "/metrics", "")
	must(t, o.cmd.Process.Signal(syscall.SIGTERM))
	<-o.ended
	again := overhear(t, path, args...)
	segments, err := filepath.Glob(filepath.Join(path, "seg", "*.seg"))
	must(t, err)
	for _, name := range segments { // what it says of damage
		b, err := os.ReadFile(name)
		must(t, err)
		copy(b[128:], bytes.Repeat([]byte{0x55}, 100))
		must(t, os.WriteFile(name, b, 0o600))
	}
	status, answer, err := again.do("POST", c+"/query", []byte(`{"query_embeddings":[[1,2,3,4]]}`))
	if err != nil || status < 500 || len(segments) == 0 {
		t.Errorf("a query of %d damaged segments: %d %s %v", len(segments), status, answer, err)
	}
	metrics = append(metrics, again.must(t, "GET", "/metrics", "")...)
	again.kill()
	if key != "" {
		b, err := os.ReadFile(key)
		must(t, err)
		value := regexp.MustCompile(`"value":\s*"([^"]{20,})"`).FindSubmatch(b)
		tales["operator's key"] = string(value[1][8:40])
	}
	for kind, tale := range tales {
		in := append(holding(t, path, tale), holding(t, tmp, tale)...)
		for where, text := range map[string][]byte{"log": o.said.Bytes(), "log of the second run": again.said.Bytes(), "metrics": metrics, "error": answer} {
			if bytes.Contains(text, []byte(tale)) {
				in = append(in, where)
			}
		}
		if len(in) == 0 {
			continue
		}
		found++
		if key != "" {
			t.Errorf("%s %q is in %q", kind, tale, in)
		}
	}
	return found
}
