package main

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// visitor is the client that does nothing wrong: it writes and reads all the
// while, and must get the right answers.
type visitor struct {
	slowest time.Duration
	served  int
	err     error
	quit    chan struct{}
	done    chan struct{}
}

// longest is what a request of the visitor may take while the machine is busy
// with the attacks.
const longest = 15 * time.Second

func startVisitor(t *target) *visitor {
	v := &visitor{quit: make(chan struct{}), done: make(chan struct{})}
	client := t.plain() // with connections of its own: the attacks are in its way in the server only
	go func() {
		defer close(v.done)
		for n := 0; v.err == nil; n++ {
			select {
			case <-v.quit:
				return
			case <-time.After(20 * time.Millisecond):
			}
			v.visit(t, client, n)
		}
	}()
	return v
}

func (v *visitor) visit(t *target, client *http.Client, n int) {
	for _, c := range []struct{ route, body, want string }{
		{"/upsert", fmt.Sprintf(`{"ids":["v%d"],"embeddings":[[%d,1]]}`, n%100, 10+n%100), ""},
		{"/query", `{"query_embeddings":[[1,2]],"n_results":1}`, `"ids":[["a"]]`},
	} {
		begin := time.Now()
		status, answer, err := t.doBy(client, t.own, "POST", t.docs+c.route, c.body)
		v.slowest = max(v.slowest, time.Since(begin))
		if err != nil || status != 200 || !strings.Contains(string(answer), c.want) {
			v.err = fmt.Errorf("%s: %d %.200s %w", c.route, status, answer, err)
			return
		}
		v.served++
	}
}

func (v *visitor) stop() (served int, err error) {
	close(v.quit)
	<-v.done
	return v.served, v.err
}
