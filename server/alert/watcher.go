package alert

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chromad/chromad/server/audit"
)

// maxQueue is how many events wait for the rules, which take a microsecond each.
const maxQueue = 8192

// detector is a rule at work.
type detector interface {
	see(e *audit.Event, now time.Time)
	learn(e *audit.Event) // without alerts
	next() time.Time
	expire(now time.Time)
	flush(now time.Time)
}

// Watcher looks at events. Event may be called by any goroutine.
type Watcher struct {
	rules     []Rule
	detectors []detector
	fired     []atomic.Int64 // by rule
	dropped   atomic.Int64
	events    chan audit.Event
	close     chan struct{}
	once      sync.Once
	done      chan struct{}
}

// New makes a watcher that gives alerts to tell, one after the other. Start
// starts it.
func New(rules []Rule, tell func(Alert)) (*Watcher, error) {
	rules, err := Check(rules)
	if err != nil {
		return nil, err
	}
	w := &Watcher{rules: rules, fired: make([]atomic.Int64, len(rules)), events: make(chan audit.Event, maxQueue), close: make(chan struct{}), done: make(chan struct{})}
	for i, r := range rules {
		w.detectors = append(w.detectors, detectorOf(r, func(a Alert) {
			w.fired[i].Add(1)
			tell(a)
		}))
	}
	return w, nil
}

func detectorOf(r Rule, ring func(Alert)) detector {
	switch r.Kind {
	case OutsideHours:
		return outside{newBell(r, ring)}
	case NewPrincipal:
		return principals{newBell(r, ring), newRecent[struct{}](maxNames)}
	case RetiredKey:
		return retired{newBell(r, ring), newRecent[struct{}](maxNames)}
	case NewAddress:
		return addresses{newBell(r, ring), newRecent[[]string](maxKeys)}
	}
	return newBurst(r, ring)
}

// Learn takes an event of before, so that who was there then is not new. Before
// Start only.
func (w *Watcher) Learn(e audit.Event) {
	for _, d := range w.detectors {
		d.learn(&e)
	}
}

// Start looks at events from now on, until Close.
func (w *Watcher) Start() { go w.run() }

// Event takes an event and does not wait: when the rules are behind, it is
// counted and not looked at.
func (w *Watcher) Event(e audit.Event) {
	select {
	case w.events <- e:
	default:
		w.dropped.Add(1)
	}
}

// Close looks at what waits, tells what was counted and not told, and ends.
func (w *Watcher) Close() {
	w.once.Do(func() { close(w.close) })
	<-w.done
}

func (w *Watcher) run() {
	defer close(w.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case e := <-w.events:
			w.see(&e)
		case <-timer.C:
		case <-w.close:
			w.drain()
			return
		}
		now := time.Now()
		var next time.Time
		for _, d := range w.detectors {
			d.expire(now)
			if at := d.next(); !at.IsZero() && (next.IsZero() || at.Before(next)) {
				next = at
			}
		}
		if next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(max(next.Sub(now), time.Millisecond))
		}
	}
}

// see asks the rules. They go by the clock of the process, which never jumps,
// and not by the event's.
func (w *Watcher) see(e *audit.Event) {
	now := time.Now()
	for _, d := range w.detectors {
		d.see(e, now)
	}
}

func (w *Watcher) drain() {
	for {
		select {
		case e := <-w.events:
			w.see(&e)
		default:
			for _, d := range w.detectors {
				d.flush(time.Now())
			}
			return
		}
	}
}

// AppendMetrics appends how often rules have found something, in Prometheus'
// text format.
func (w *Watcher) AppendMetrics(b []byte) []byte {
	const name, dropped = "chromad_alerts_total", "chromad_alert_events_dropped_total"
	b = append(b, "# HELP "+name+" Alerts, by rule.\n# TYPE "+name+" counter\n"...)
	for i := range w.rules {
		b = append(b, name+`{rule="`+w.rules[i].Name+`"} `...)
		b = append(strconv.AppendInt(b, w.fired[i].Load(), 10), '\n')
	}
	b = append(b, "# HELP "+dropped+" Events that the rules had no time for.\n# TYPE "+dropped+" counter\n"+dropped+" "...)
	return append(strconv.AppendInt(b, w.dropped.Load(), 10), '\n')
}
