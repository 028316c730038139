package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// spawn starts this binary as chromad over path and waits until it is ready.
func spawn(t *testing.T, path string) (cmd *exec.Cmd, address string) {
	t.Helper()
	cmd = exec.Command(os.Args[0], "run", "--port", "0", "--path", path, "--memtable-rows", "30")
	cmd.Env = append(os.Environ(), "CHROMAD_TEST_MAIN=1")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	log := bufio.NewScanner(stderr)
	for log.Scan() {
		if m := readyLine.FindStringSubmatch(log.Text()); m != nil {
			go func() {
				for log.Scan() {
				}
			}()
			return cmd, m[1]
		}
	}
	t.Fatalf("never ready: %v", cmd.Wait())
	return nil, ""
}

// The process is killed while clients write. What was acknowledged is there
// afterwards, and of what was not, only whole batches.
func TestKill(t *testing.T) {
	path := t.TempDir()
	const collections = "/api/v2/tenants/default_tenant/databases/default_database/collections"
	cmd, address := spawn(t, path)
	var made struct{ ID string }
	if err := json.Unmarshal([]byte(ask(t, "POST", address+collections, `{"name":"docs"}`)), &made); err != nil {
		t.Fatal(err)
	}
	const writers, rounds = 4, 3
	var acknowledged [writers]int // batches of each writer, all of them in order
	for round := range rounds {
		var wg sync.WaitGroup
		var total atomic.Int64
		for w := range writers {
			wg.Go(func() {
				for {
					n := acknowledged[w]
					body := fmt.Sprintf(`{"ids":["%d-%d-a","%d-%d-b"],"embeddings":[[%d,0],[%d,1]]}`, w, n, w, n, n, n)
					res, err := http.Post(address+collections+"/"+made.ID+"/add", "application/json", strings.NewReader(body))
					if err != nil {
						return // killed
					}
					res.Body.Close()
					if res.StatusCode != http.StatusCreated {
						t.Errorf("status %d", res.StatusCode)
						return
					}
					acknowledged[w]++
					if total.Add(1) == 60 {
						cmd.Process.Kill()
					}
				}
			})
		}
		wg.Wait()
		cmd.Wait()
		cmd, address = spawn(t, path)
		var got struct{ IDs []string }
		if err := json.Unmarshal([]byte(ask(t, "POST", address+collections+"/"+made.ID+"/get", `{"include":[]}`)), &got); err != nil {
			t.Fatal(err)
		}
		there := map[string]bool{}
		for _, id := range got.IDs {
			if there[id] {
				t.Errorf("%s is there twice", id)
			}
			there[id] = true
		}
		for w := range writers {
			for n := range acknowledged[w] + 1 {
				a, b := there[fmt.Sprintf("%d-%d-a", w, n)], there[fmt.Sprintf("%d-%d-b", w, n)]
				if n < acknowledged[w] && !a || a != b {
					t.Errorf("round %d: batch %d of writer %d: %t %t, %d were acknowledged", round, n, w, a, b, acknowledged[w])
				}
			}
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
}
