package server

import (
	"fmt"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var sample = regexp.MustCompile(`^([a-z_]+)(\{(?:[a-z]+="[^"\\]*",?)+\})? (\S+)$`)

// parseMetrics reads the text format strictly: every family has help and type
// before its first sample, no sample is there twice, histograms are complete
// and ascend. It returns the values by name and labels.
func parseMetrics(t *testing.T, text string) map[string]float64 {
	t.Helper()
	values, kinds, helped := map[string]float64{}, map[string]string{}, map[string]bool{}
	last := 0.0 // of the buckets of one series
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if help, ok := strings.CutPrefix(line, "# HELP "); ok {
			name, _, _ := strings.Cut(help, " ")
			helped[name] = true
			continue
		}
		if typ, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(typ, " ")
			if kinds[name] != "" || !helped[name] {
				t.Errorf("%q: twice, or without help", line)
			}
			kinds[name] = kind
			continue
		}
		m := sample.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("%q is no sample", line)
			continue
		}
		v, err := strconv.ParseFloat(m[3], 64)
		if _, twice := values[m[1]+m[2]]; twice || err != nil {
			t.Errorf("%q: there twice, or no number", line)
		}
		values[m[1]+m[2]] = v
		family, part := m[1], ""
		for _, p := range []string{"_bucket", "_sum", "_count"} {
			if f, ok := strings.CutSuffix(m[1], p); ok && kinds[f] == "histogram" {
				family, part = f, p
			}
		}
		kind := kinds[family]
		if kind == "" || kind == "histogram" && part == "" || kind == "counter" && !strings.HasSuffix(m[1], "_total") {
			t.Errorf("%q is in no family, or in the wrong one", line)
		}
		switch {
		case part == "_bucket" && v < last, part == "_count" && v != last:
			t.Errorf("%q after a bucket of %v", line, last)
		case part == "_count":
			last = 0
		case part == "_bucket":
			last = v
		}
	}
	return values
}

func (r *rig) metrics() map[string]float64 {
	r.t.Helper()
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if got := w.Header().Get("Content-Type"); w.Code != 200 || got != metricsType {
		r.t.Fatalf("GET /metrics: %d, %s", w.Code, got)
	}
	return parseMetrics(r.t.(*testing.T), w.Body.String())
}

func requestCount(method, route, status string) string {
	return fmt.Sprintf(`chromad_http_request_duration_seconds_count{method=%q,route=%q,status=%q}`, method, route, status)
}

// TestMetrics compares two scrapes: what was done between them is what moved.
func TestMetrics(t *testing.T) {
	r := newRig(t, Config{}, nil)
	before := r.metrics()
	c := r.collection(`{"name":"secret-name"}`)
	r.want(201, "", "POST", c+"/add", `{"ids":["a","b"],"embeddings":[[1,2],[3,4]]}`)
	r.want(400, "", "POST", c+"/add", `{"ids":[""],"embeddings":[[1,2]]}`)
	r.want(200, "", "HEAD", "/api/v2/version", "")
	r.want(405, "", "POST", "/api/v2/version", "")
	r.want(404, `"error"`, "GET", inDefault+"/collections/secret-missing", "")
	after := r.metrics()
	want := map[string]float64{
		"chromad_collections": 1, "chromad_records": 2, "chromad_memtable_rows": 2, "chromad_log_sequence": 2,
		requestCount("POST", underDatabase+"/collections", "2xx"): 1,
		requestCount("POST", underCollection+"/add", "2xx"):       1,
		requestCount("POST", underCollection+"/add", "4xx"):       1,
		requestCount("GET", underCollection, "4xx"):               1,
		requestCount("GET", "/api/v2/version", "2xx"):             1,
		requestCount("other", "/api/v2/version", "4xx"):           1,
		requestCount("GET", "/metrics", "2xx"):                    1,
		`chromad_admission_admitted_total{of="reads"}`:            1,
		`chromad_admission_admitted_total{of="writes"}`:           3,
	}
	for name, v := range after {
		moved := v - before[name]
		switch {
		case strings.Contains(name, "secret"):
			t.Errorf("%s names what a client named", name)
		case strings.Contains(name, "_sum{"), strings.Contains(name, "_bucket{"), strings.HasSuffix(name, "_bytes"):
		case moved != want[name]:
			t.Errorf("%s moved by %v, want %v", name, moved, want[name])
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	if after["chromad_log_bytes"] <= before["chromad_log_bytes"] || after["chromad_memtable_bytes"] <= 0 || after["chromad_failed"] != 0 {
		t.Errorf("log %v bytes, memtables %v bytes, failed %v", after["chromad_log_bytes"], after["chromad_memtable_bytes"], after["chromad_failed"])
	}
}

// Whatever is asked for, there are no more series: paths, methods and names
// that the table of routes does not have are counted together.
func TestMetricsBounded(t *testing.T) {
	r := newRig(t, Config{}, nil)
	r.do("GET", "/nowhere", "")
	r.do("BREW", "/api/v2", "")
	r.do("GET", "/api/v2/tenants/"+strings.Repeat("x", 5), "")
	r.metrics()
	before := r.metrics()
	for i := range 50 {
		r.do("GET", fmt.Sprintf("/nowhere/%d", i), "")
		r.do(fmt.Sprintf("M%d", i), "/api/v2", "")
		r.do("GET", fmt.Sprintf(`/api/v2/tenants/t%d%%22%%0a`, i), "")
		r.do("GET", fmt.Sprintf("/metrics/%d", i), "")
	}
	after := r.metrics()
	if len(after) != len(before) {
		t.Errorf("%d series, were %d", len(after), len(before))
	}
	if n := after[requestCount(otherMethod, noPattern, "4xx")] - before[requestCount(otherMethod, noPattern, "4xx")]; n != 100 {
		t.Errorf("%v requests without a route are counted, want 100", n)
	}
}

// A bound belongs to its bucket, and nothing is slower than the last one.
func TestLatencies(t *testing.T) {
	for took, bucket := range map[time.Duration]int{
		0: 0, 500 * time.Microsecond: 0, 501 * time.Microsecond: 1, time.Second: 10, 30 * time.Second: 14, time.Hour: 15,
	} {
		var l latencies
		l.observe(took)
		if l.buckets[bucket].Load() != 1 || l.nanos.Load() != int64(took) {
			t.Errorf("%v is not in bucket %d", took, bucket)
		}
	}
}
