package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/server"
)

var (
	httpAddress  = flag.String("http.address", "", "`host:port` of a running server to measure; empty: chromad in this process")
	httpData     = flag.String("http.data", "data/sample", "`folder` of BenchmarkHTTP's records")
	httpRows     = flag.Int("http.rows", 20_000, "rows that BenchmarkHTTP searches; those of the folder, again and again")
	httpBatch    = flag.Int("http.batch", 500, "records of a write")
	httpAdds     = flag.Int("http.adds", 20_000, "rows that BenchmarkHTTP adds in one measurement of writes")
	httpMemtable = flag.Int("http.memtable", 0, "rows of a memtable in this process (0: the default); with more than are added, writes are measured without flushes")
)

// BenchmarkHTTP measures what a server does for a client that costs next to
// nothing: requests are bytes made beforehand, answers are read to their end
// and not decoded. What a Python client adds is load.py's to say.
//
//	go test ./bench -run '^$' -bench HTTP -benchtime 3x
//	go test ./bench -run '^$' -bench HTTP -benchtime 3x -http.address 127.0.0.1:8000   # any server of the API
func BenchmarkHTTP(b *testing.B) {
	s, err := readSet(*httpData)
	if err != nil {
		b.Fatal(err)
	}
	address := *httpAddress
	if address == "" {
		address = serve(b)
	}
	w := &wire{address: address, set: s}
	b.Run("add", func(b *testing.B) {
		for _, form := range []string{"base64", "numbers"} {
			for _, clients := range []int{1, 8} {
				b.Run(fmt.Sprintf("%s/clients=%d", form, clients), func(b *testing.B) { w.benchmarkAdd(b, form, clients) })
			}
		}
	})
	var words string
	collection := func(b *testing.B) string {
		if words == "" {
			words = w.fill(b, *httpRows)
		}
		return words
	}
	for _, q := range []struct{ name, more string }{
		{"query", `"include":["distances"]`},
		{"documents", `"include":["distances","documents","metadatas"]`},
		{"embeddings", `"include":["distances","embeddings"]`},
		{"filtered", `"include":["distances"],"where":{"lot":7}`},
	} {
		b.Run(q.name, func(b *testing.B) {
			for _, clients := range []int{1, 8} {
				b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) { w.benchmarkQuery(b, collection(b), q.more, clients) })
			}
		})
	}
	b.Run("get", func(b *testing.B) {
		for _, clients := range []int{1, 8} {
			b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) { w.benchmarkGet(b, collection(b), clients) })
		}
	})
}

// serve starts chromad on loopback until the benchmark ends.
func serve(b *testing.B) string {
	b.Helper()
	db, err := engine.Open(b.TempDir(), &engine.Options{MemtableRows: *httpMemtable})
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	log := slog.New(slog.NewTextHandler(io.Discard, nil)) // a server has one
	go func() { done <- server.New(server.Config{Store: server.EngineStore(db), Log: log}).Serve(ctx, l) }()
	b.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			b.Error(err)
		}
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	return l.Addr().String()
}

// wire makes the requests of a benchmark from a set of records.
type wire struct {
	address string
	set     *set
	made    int // collections
}

const collections = "/api/v2/tenants/default_tenant/databases/default_database/collections"

// create makes an empty collection and returns its path and its name.
func (w *wire) create(b *testing.B) (path, name string) {
	b.Helper()
	w.made++
	name = fmt.Sprintf("wire-%d-%d", time.Now().UnixNano(), w.made)
	answer := w.dial(b).ask(b, post(w.address, collections, []byte(`{"name":"`+name+`","configuration":{"hnsw":{"space":"cosine"}}}`)))
	var made struct{ ID string }
	if err := json.Unmarshal(answer, &made); err != nil || made.ID == "" {
		b.Fatalf("create: %s %v", answer, err)
	}
	return collections + "/" + made.ID, name
}

// drop deletes a collection, or its background work would be measured with the next.
func (w *wire) drop(b *testing.B, name string) {
	b.Helper()
	w.dial(b).ask(b, []byte("DELETE "+collections+"/"+name+" HTTP/1.1\r\nHost: "+w.address+"\r\n\r\n"))
}

// count asks how many records a collection has.
func (w *wire) count(b *testing.B, path string) int {
	b.Helper()
	answer := w.dial(b).ask(b, []byte("GET "+path+"/count HTTP/1.1\r\nHost: "+w.address+"\r\n\r\n"))
	n, err := strconv.Atoi(string(answer))
	if err != nil {
		b.Fatalf("count: %s", answer)
	}
	return n
}

// batches are the bodies of writes without their ids, which must be new each time.
func (w *wire) batches(form string, size int) [][]byte {
	var out [][]byte
	for at := 0; at+size <= w.set.rows() && len(out) < 40; at += size {
		b := []byte(`],"embeddings":[`)
		for row := at; row < at+size; row++ {
			b = appendEmbedding(b, w.set.vector(row), form)
			b = append(b, ',')
		}
		b[len(b)-1] = ']'
		b = append(b, `,"documents":[`...)
		for row := at; row < at+size; row++ {
			text, _ := json.Marshal(*w.set.records[row].Document)
			b = append(append(b, text...), ',')
		}
		b[len(b)-1] = ']'
		b = append(b, `,"metadatas":[`...)
		for row := at; row < at+size; row++ {
			text := w.set.records[row].Metadata.AppendJSON(nil)
			b = append(b, text[:len(text)-1]...)
			b = fmt.Appendf(b, `,"lot":%d},`, row%100)
		}
		b[len(b)-1] = ']'
		out = append(out, append(b, `,"uris":null}`...))
	}
	return out
}

// appendEmbedding writes a vector as Python's client does: writes are base64
// of float32, where the server takes them, queries are float64 in decimal.
func appendEmbedding(b []byte, v []float32, form string) []byte {
	if form == "base64" {
		raw := make([]byte, 0, 4*len(v))
		for _, x := range v {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
		}
		b = append(b, '"')
		return append(base64.StdEncoding.AppendEncode(b, raw), '"')
	}
	b = append(b, '[')
	for i, x := range v {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendFloat(b, float64(x), 'g', -1, 64)
	}
	return append(b, ']')
}

// add writes rows in batches from so many clients and returns how long that took.
func (w *wire) add(b *testing.B, path string, batches [][]byte, rows, clients int) time.Duration {
	b.Helper()
	size := *httpBatch
	var next atomic.Int64
	began := time.Now()
	w.each(b, clients, func(c *connection) {
		var body []byte
		for n := int(next.Add(1)) - 1; n*size < rows; n = int(next.Add(1)) - 1 {
			body = append(body[:0], `{"ids":[`...)
			for i := range size {
				body = append(body, `"wn-`...)
				body = append(strconv.AppendInt(body, int64(n*size+i), 10), `",`...)
			}
			body = append(body[:len(body)-1], batches[n%len(batches)]...)
			c.ask(b, post(w.address, path+"/add", body))
		}
	})
	return time.Since(began)
}

func (w *wire) benchmarkAdd(b *testing.B, form string, clients int) {
	batches := w.batches(form, *httpBatch)
	size := 0
	for _, body := range batches {
		size += len(body)
	}
	var took, cpu time.Duration
	for b.Loop() {
		b.StopTimer()
		path, name := w.create(b)
		b.StartTimer()
		before := processor()
		took += w.add(b, path, batches, *httpAdds, clients)
		cpu += processor() - before
		b.StopTimer()
		if n := w.count(b, path); n != *httpAdds {
			b.Fatalf("%d rows", n)
		}
		w.drop(b, name)
		b.StartTimer()
	}
	b.ReportMetric(float64(b.N**httpAdds)/took.Seconds(), "rows/s")
	w.reportProcessor(b, cpu, b.N**httpAdds, "row")
	b.ReportMetric(float64(b.N**httpAdds)*float64(size)/float64(len(batches)**httpBatch)/took.Seconds()/1e6, "MB/s")
}

// fill makes a collection of so many rows and waits until the time of a query
// settles, which is when flushes and merges are over: what is left in memory is flushed
// after 2,000 queries, and the last merge comes ten seconds later.
func (w *wire) fill(b *testing.B, rows int) string {
	b.Helper()
	path, _ := w.create(b)
	w.add(b, path, w.batches("base64", *httpBatch), rows, 1)
	requests := w.queries(path, `"include":["distances"]`)
	best := time.Hour
	for calm := 0; calm < 60; {
		began := time.Now()
		w.ask(b, requests[:100], 100, 1)
		took := time.Since(began)
		if calm++; took < best*9/10 {
			calm = 0
		}
		best = min(best, took)
		time.Sleep(500 * time.Millisecond)
	}
	return path
}

// queries are requests with a vector each, a little beside those that are stored.
func (w *wire) queries(path, more string) [][]byte {
	var out [][]byte
	for row := 0; row < min(w.set.rows(), 1000); row++ {
		v := append([]float32(nil), w.set.vector(row)...)
		for i := range v {
			v[i] += 0.01 * float32((i*7+row*13)%11-5) / 5
		}
		body := appendEmbedding([]byte(`{"ids":null,"n_results":10,"query_embeddings":[`), v, "numbers")
		body = append(append(append(body, `],`...), more...), '}')
		out = append(out, post(w.address, path+"/query", body))
	}
	return out
}

// ask sends n of the requests from so many clients.
func (w *wire) ask(b *testing.B, requests [][]byte, n, clients int) {
	b.Helper()
	var next atomic.Int64
	w.each(b, clients, func(c *connection) {
		for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
			c.ask(b, requests[i%len(requests)])
		}
	})
}

func (w *wire) benchmarkQuery(b *testing.B, path, more string, clients int) {
	w.benchmarkAsk(b, w.queries(path, more), clients)
}

func (w *wire) benchmarkAsk(b *testing.B, requests [][]byte, clients int) {
	w.ask(b, requests, 100, clients)
	const n = 2000
	began, before := time.Now(), processor()
	for b.Loop() {
		w.ask(b, requests, n, clients)
	}
	b.ReportMetric(float64(b.N*n)/time.Since(began).Seconds(), "queries/s")
	w.reportProcessor(b, processor()-before, b.N*n, "query")
}

// benchmarkGet reads a hundred whole records at a time.
func (w *wire) benchmarkGet(b *testing.B, path string, clients int) {
	var requests [][]byte
	for at := range 20 {
		body := fmt.Sprintf(`{"include":["embeddings","documents","metadatas"],"limit":100,"offset":%d}`, at*100)
		requests = append(requests, post(w.address, path+"/get", []byte(body)))
	}
	w.ask(b, requests, 20, clients)
	const n = 200
	began, before := time.Now(), processor()
	for b.Loop() {
		w.ask(b, requests, n, clients)
	}
	b.ReportMetric(float64(b.N*n*100)/time.Since(began).Seconds(), "rows/s")
	w.reportProcessor(b, processor()-before, b.N*n*100, "row")
}

// reportProcessor tells what an operation cost the processor, the client and
// background work included, when the server is in this process. On a machine that others use
// too it says more than the clock.
func (w *wire) reportProcessor(b *testing.B, cpu time.Duration, n int, of string) {
	if *httpAddress == "" && cpu > 0 {
		b.ReportMetric(float64(cpu.Nanoseconds())/1e3/float64(n), "cpu-µs/"+of)
	}
}

// each runs one function for every client, with a connection of its own.
func (w *wire) each(b *testing.B, clients int, work func(c *connection)) {
	b.Helper()
	var wg sync.WaitGroup
	for range clients {
		c := w.dial(b)
		wg.Go(func() {
			defer c.Close()
			work(c)
		})
	}
	wg.Wait()
}

func post(address, path string, body []byte) []byte {
	b := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", path, address, len(body))
	return append(b, body...)
}

// connection asks over one connection that stays open.
type connection struct {
	net.Conn
	buf []byte
}

func (w *wire) dial(b *testing.B) *connection {
	b.Helper()
	c, err := net.Dial("tcp", w.address)
	if err != nil {
		b.Fatal(err)
	}
	return &connection{Conn: c, buf: make([]byte, 256<<10)}
}

// ask sends a request and returns the body of the answer, which is valid until the next.
func (c *connection) ask(b *testing.B, request []byte) []byte {
	answer, err := c.exchange(request)
	if err != nil {
		b.Errorf("%v: %.200s", err, answer)
		panic(err) // of a goroutine that b.Fatal must not be called from
	}
	return answer
}

// exchange knows as much of HTTP as servers of this API use: a body has a
// length, or ends with an empty chunk.
func (c *connection) exchange(request []byte) ([]byte, error) {
	if _, err := c.Write(request); err != nil {
		return nil, err
	}
	n, head, length, chunked := 0, 0, -1, false
	for {
		if n == len(c.buf) {
			c.buf = append(c.buf, make([]byte, len(c.buf))...)
		}
		m, err := c.Read(c.buf[n:])
		if err != nil {
			return c.buf[:n], err
		}
		n += m
		if head == 0 {
			if head = bytes.Index(c.buf[:n], []byte("\r\n\r\n")) + 4; head < 4 {
				head = 0
				continue
			}
			for line := range strings.SplitSeq(strings.ToLower(string(c.buf[:head])), "\r\n") {
				if v, ok := strings.CutPrefix(line, "content-length: "); ok {
					if length, err = strconv.Atoi(v); err != nil {
						return c.buf[:n], err
					}
				}
				chunked = chunked || line == "transfer-encoding: chunked"
			}
			if !bytes.HasPrefix(c.buf, []byte("HTTP/1.1 2")) {
				return c.buf[:n], fmt.Errorf("refused")
			}
		}
		if length >= 0 && n >= head+length || chunked && bytes.HasSuffix(c.buf[head:n], []byte("\r\n0\r\n\r\n")) {
			return c.buf[head:n], nil
		}
	}
}
