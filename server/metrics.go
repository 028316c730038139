package server

import (
	"sort"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/chromad/chromad/engine"
)

// metricsType is the version of Prometheus' text format that GET /metrics answers with.
const metricsType = "text/plain; version=0.0.4; charset=utf-8"

// latencyBounds are the upper bounds of the histogram's buckets, in seconds.
// One more bucket takes what is slower.
var latencyBounds = [...]float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}

// latencies is a histogram of how long requests took.
type latencies struct {
	buckets [len(latencyBounds) + 1]atomic.Uint64
	nanos   atomic.Int64 // sum
}

func (l *latencies) observe(d time.Duration) {
	i := sort.SearchFloat64s(latencyBounds[:], d.Seconds())
	l.buckets[i].Add(1)
	l.nanos.Add(int64(d))
}

// endpoint names the series of requests. Both parts come from the table of
// routes, never from a request, so there are no more series than rows,
// whatever is asked for.
type endpoint struct{ method, route string }

// What the table does not know is counted together.
const (
	otherMethod = "other" // the path is there, the method is not
	noPattern   = "none"  // no such path, or answered before routing
)

// statusClasses are 1xx to 5xx; status 0 is a request whose connection ended
// before it was answered.
const statusClasses = 6

// requestMetrics count what was answered. The map is complete when it is made and
// never changes, so counting takes no lock.
type requestMetrics struct {
	series map[endpoint]*[statusClasses]latencies
	order  []endpoint
}

func newRequestMetrics(table []route) *requestMetrics {
	m := &requestMetrics{series: map[endpoint]*[statusClasses]latencies{}}
	add := func(e endpoint) {
		if m.series[e] == nil {
			m.series[e] = &[statusClasses]latencies{}
			m.order = append(m.order, e)
		}
	}
	for _, r := range table {
		add(endpoint{r.method, r.pattern})
		add(endpoint{otherMethod, r.pattern})
	}
	add(endpoint{otherMethod, noPattern})
	return m
}

// observe counts a request that ended.
func (m *requestMetrics) observe(p *pattern, r *route, status int, took time.Duration) {
	e := endpoint{otherMethod, noPattern}
	if p != nil {
		e.route = p.text
	}
	if r != nil {
		e.method = r.method // HEAD counts as GET
	}
	class := status / 100
	if class >= statusClasses {
		class = 0
	}
	l := m.series[e]
	if l == nil { // a row of another table
		l = m.series[endpoint{otherMethod, noPattern}]
	}
	l[class].observe(took)
}

// scrape answers GET /metrics.
func (s *Server) scrape(c *call) error {
	buf := c.buffer()
	b := appendStoreMetrics(*buf, s.store.Stats())
	b = s.answered.append(s.appendAudit(s.appendLoad(b)))
	if s.config.Metrics != nil {
		b = s.config.Metrics(b)
	}
	*buf = b
	c.media = metricsType
	c.json(*buf)
	return nil
}

// storeMetrics are the engine's figures under the names that Prometheus
// stores them by: base units, and _total for what only grows.
var storeMetrics = []struct {
	name, kind, help string
	value            func(s *engine.Stats) int64
}{
	{"collections", "gauge", "Collections of all databases.", func(s *engine.Stats) int64 { return int64(s.Collections) }},
	{"records", "gauge", "Records of all collections.", func(s *engine.Stats) int64 { return s.Records }},
	{"segments", "gauge", "Segments that collections consist of.", func(s *engine.Stats) int64 { return int64(s.Segments) }},
	{"segment_bytes", "gauge", "Length of the files of these segments.", func(s *engine.Stats) int64 { return s.SegmentBytes }},
	{"open_segments", "gauge", "Segment files that are open.", func(s *engine.Stats) int64 { return int64(s.OpenSegments) }},
	{"degraded_segments", "gauge", "Segments with a damaged index, which are read without it.", func(s *engine.Stats) int64 { return int64(s.DegradedSegments) }},
	{"memtable_rows", "gauge", "Rows that are in memory and in no segment yet.", func(s *engine.Stats) int64 { return s.MemtableRows }},
	{"memtable_bytes", "gauge", "Estimated memory of these rows.", func(s *engine.Stats) int64 { return s.MemtableBytes }},
	{"segment_memory_bytes", "gauge", "What is held of segments in memory: codes and links, and what is decrypted.", func(s *engine.Stats) int64 { return s.SegmentMemory }},
	{"log_bytes", "gauge", "Length of the log's files.", func(s *engine.Stats) int64 { return s.LogBytes }},
	{"log_sequence", "gauge", "Sequence number of the last durable log entry.", func(s *engine.Stats) int64 { return int64(s.LogSeq) }},
	{"checkpoint_number", "gauge", "Number of the newest checkpoint.", func(s *engine.Stats) int64 { return int64(s.Checkpoint) }},
	{"unerased_seconds", "gauge", "Age of the oldest deletion whose bytes may still be in files.", func(s *engine.Stats) int64 { return int64(s.Unerased.Seconds()) }},
	{"erasure_overdue_seconds", "gauge", "By how much that is more than it may be.", func(s *engine.Stats) int64 { return int64(s.EraseOverdue.Seconds()) }},
	{"held_collections", "gauge", "Collections under legal hold.", func(s *engine.Stats) int64 { return int64(s.Held) }},
	{"expired_records_total", "counter", "Records that were deleted because their time was over.", func(s *engine.Stats) int64 { return s.Expired }},
	{"expiry_overdue_seconds", "gauge", "How long the deletion of such records has not succeeded.", func(s *engine.Stats) int64 { return int64(s.ExpireOverdue.Seconds()) }},
	{"failed", "gauge", "1 when the store accepts no more writes.", func(s *engine.Stats) int64 {
		if s.Failed {
			return 1
		}
		return 0
	}},
	{"flushes_total", "counter", "Memtables that were flushed.", func(s *engine.Stats) int64 { return s.Flushes.Runs }},
	{"flushed_rows_total", "counter", "Rows that flushes wrote.", func(s *engine.Stats) int64 { return s.Flushes.Rows }},
	{"flushed_bytes_total", "counter", "Bytes of segments that flushes wrote.", func(s *engine.Stats) int64 { return s.Flushes.Bytes }},
	{"compactions_total", "counter", "Merges of segments.", func(s *engine.Stats) int64 { return s.Compactions.Runs }},
	{"compacted_rows_total", "counter", "Rows that merges wrote.", func(s *engine.Stats) int64 { return s.Compactions.Rows }},
	{"compacted_bytes_total", "counter", "Bytes of segments that merges wrote.", func(s *engine.Stats) int64 { return s.Compactions.Bytes }},
	{"checkpoints_total", "counter", "Checkpoints that were written.", func(s *engine.Stats) int64 { return s.Checkpoints.Runs }},
	{"checkpoint_bytes_total", "counter", "Bytes of checkpoints that were written.", func(s *engine.Stats) int64 { return s.Checkpoints.Bytes }},
}

func appendStoreMetrics(b []byte, stats engine.Stats) []byte {
	for _, m := range storeMetrics {
		b = appendFamily(b, "chromad_"+m.name, m.kind, m.help)
		b = append(b, "chromad_"+m.name+" "...)
		b = append(strconv.AppendInt(b, m.value(&stats), 10), '\n')
	}
	return b
}

func appendFamily(b []byte, name, kind, help string) []byte {
	return append(b, "# HELP "+name+" "+help+"\n# TYPE "+name+" "+kind+"\n"...)
}

// append adds the series that have counted something.
func (m *requestMetrics) append(b []byte) []byte {
	const name = "chromad_http_request_duration_seconds"
	b = appendFamily(b, name, "histogram", "Time from the header of a request to the end of its answer; _count is the number of requests.")
	for _, e := range m.order {
		for class := range statusClasses {
			l := &m.series[e][class]
			labels := `method="` + e.method + `",route="` + e.route + `",status="` + className(class) + `"`
			var counts [len(latencyBounds) + 1]uint64
			total := uint64(0)
			for i := range counts {
				total += l.buckets[i].Load()
				counts[i] = total
			}
			if total == 0 {
				continue
			}
			for i, n := range counts {
				bound := "+Inf"
				if i < len(latencyBounds) {
					bound = strconv.FormatFloat(latencyBounds[i], 'g', -1, 64)
				}
				b = append(b, name+"_bucket{"+labels+`,le="`+bound+`"} `...)
				b = append(strconv.AppendUint(b, n, 10), '\n')
			}
			b = append(b, name+"_sum{"+labels+"} "...)
			b = append(strconv.AppendFloat(b, time.Duration(l.nanos.Load()).Seconds(), 'g', -1, 64), '\n')
			b = append(b, name+"_count{"+labels+"} "...)
			b = append(strconv.AppendUint(b, total, 10), '\n')
		}
	}
	return b
}

func className(class int) string {
	if class == 0 {
		return "none"
	}
	return string('0'+byte(class)) + "xx"
}
