package export

import (
	"context"
	"errors"
	"strconv"
	"sync"

	"github.com/chromad/chromad/server/audit"
)

// Set is the exporters of a server. nil is usable: it has none.
type Set []*Exporter

// Event gives an event to those that want it.
func (s Set) Event(e audit.Event) {
	for _, x := range s {
		x.Event(e)
	}
}

// Alert gives an alert to those that want it.
func (s Set) Alert(m Message) {
	for _, x := range s {
		x.Alert(m)
	}
}

// Close closes all of them at the same time.
func (s Set) Close(ctx context.Context) error {
	failed := make([]error, len(s))
	var wg sync.WaitGroup
	for i, x := range s {
		wg.Go(func() { failed[i] = x.Close(ctx) })
	}
	wg.Wait()
	return errors.Join(failed...)
}

// AppendMetrics appends what was sent and dropped, in Prometheus' text format.
func (s Set) AppendMetrics(b []byte) []byte {
	if len(s) == 0 {
		return b
	}
	family := func(name, kind, help string, value func(x *Exporter) int64) {
		b = append(b, "# HELP "+name+" "+help+"\n# TYPE "+name+" "+kind+"\n"...)
		for _, x := range s {
			b = append(b, name+`{target="`+x.o.Name+`"} `...)
			b = append(strconv.AppendInt(b, value(x), 10), '\n')
		}
	}
	family("chromad_export_sent_total", "counter", "Events and alerts that a target has taken.", func(x *Exporter) int64 { return x.sent.Load() })
	family("chromad_export_dropped_total", "counter", "Events and alerts that a target did not get: its queue was full, or it rejected them.", func(x *Exporter) int64 { return x.dropped.Load() })
	family("chromad_export_failures_total", "counter", "Attempts to send that failed; most are tried again.", func(x *Exporter) int64 { return x.failures.Load() })
	family("chromad_export_queue_bytes", "gauge", "Estimated memory of what waits for a target.", func(x *Exporter) int64 {
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.bytes
	})
	return b
}
