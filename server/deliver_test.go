package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/chromad/chromad/engine"
)

// stuck is a log whose lines wait until they may be written.
type stuck struct {
	slog.Handler
	may chan struct{}
}

func (s stuck) Handle(ctx context.Context, r slog.Record) error {
	<-s.may
	return s.Handler.Handle(ctx, r)
}

// An answer does not wait for its line of the access log.
func TestAnswerBeforeLog(t *testing.T) {
	db, err := engine.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	log := stuck{slog.NewTextHandler(io.Discard, nil), make(chan struct{})}
	r := &rig{Server: New(Config{Store: EngineStore(db), Log: slog.New(log), CORSOrigins: []string{"http://a.example"}}), t: t}
	address, stop := r.serve()
	free := sync.OnceFunc(func() { close(log.may) })
	t.Cleanup(free)
	conn := dial(t, address)
	in := bufio.NewReader(conn)
	requests := []string{
		"GET /api/v2/version HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET /api/v2/nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"POST /api/v2/tenants HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15\r\n\r\n{\"name\":\"here\"}",
		"OPTIONS /api/v2/version HTTP/1.1\r\nHost: localhost\r\nOrigin: http://a.example\r\nAccess-Control-Request-Method: GET\r\n\r\n",
		"HEAD /api/v2/version HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET /api/v2/version HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
		"PUT /api/v2/version HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nnot", // its body does not arrive
	}
	for _, request := range requests {
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		method, _, _ := strings.Cut(request, " ")
		res, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("%.30q: %v", request, err)
		}
		if _, err := io.ReadAll(res.Body); err != nil {
			t.Fatalf("%.30q: %v", request, err)
		}
		log.may <- struct{}{} // only now
	}
	free()
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// The memory of a query's vectors is lent to other queries, but only to one at a time.
func TestQueryVectorsLent(t *testing.T) {
	r := newRig(t, Config{}, nil)
	c := r.collection(`{"name":"docs"}`)
	var ids, list []string
	const n = 60
	for i := range n {
		ids, list = append(ids, fmt.Sprintf(`"%d"`, i)), append(list, fmt.Sprintf("[%d,%d,1]", i, i*i))
	}
	r.want(201, "", "POST", c+"/add", `{"ids":[`+strings.Join(ids, ",")+`],"embeddings":[`+strings.Join(list, ",")+`]}`)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 200 {
				first := (i*7 + g) % n
				some := 1 + i%5*(g+1) // of any number, so that memory grows
				var asked, want []string
				for j := range some {
					at := (first + j) % n
					asked, want = append(asked, list[at]), append(want, "["+ids[at]+"]")
				}
				_, answer := r.do("POST", c+"/query", `{"query_embeddings":[`+strings.Join(asked, ",")+`],"n_results":1,"include":[]}`)
				if !strings.Contains(answer, `"ids":[`+strings.Join(want, ",")+`]`) {
					t.Errorf("asked %v: %s", asked, answer)
					return
				}
			}
		})
	}
	wg.Wait()

	var p vectorPool
	p.put(nil)
	p.put(&vectors{all: make([]float32, keptVectors+1)})
	if v := p.get(); cap(v.all) > 0 {
		t.Errorf("%d numbers are kept", cap(v.all))
	}
}
