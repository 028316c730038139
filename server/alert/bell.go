package alert

import (
	"time"

	"github.com/chromad/chromad/server/audit"
)

// maxSounding is how many subjects of one rule have alerts of their own within a
// cool-down. Those beyond are told together, as "others".
const maxSounding = 100

// others stands for all subjects beyond: no name begins with a zero byte.
const others = "\x00others"

// bell tells of a subject once, counts for the length of the cool-down, and then
// tells how much came since, if it was again enough for an alert.
type bell struct {
	rule   Rule
	ring   func(Alert)
	active map[string]*sounding
	order  []*sounding // as active, by end
}

type sounding struct {
	subject string
	end     time.Time
	held    int64 // events, or rows, since the alert
	again   bool  // they were enough for another one
	last    audit.Event
}

func newBell(r Rule, ring func(Alert)) *bell {
	return &bell{rule: r, ring: ring, active: map[string]*sounding{}}
}

// count adds to what is told at the end of a subject's cool-down.
func (b *bell) count(subject string, n int64) {
	if s := b.active[subject]; s != nil {
		s.held += n
	}
}

// hit tells that subject has n events, or rows, which are enough for an alert.
func (b *bell) hit(subject string, n int64, e *audit.Event, now time.Time) {
	s := b.active[subject]
	if s == nil && len(b.active) >= maxSounding && subject != others {
		b.count(others, n)
		b.hit(others, n, e, now)
		return
	}
	if s != nil {
		s.again, s.last = true, *e
		return
	}
	s = &sounding{subject: subject, end: now.Add(b.rule.CoolDown)}
	b.active[subject] = s
	b.order = append(b.order, s)
	b.ring(Alert{Rule: b.rule, Subject: subject, Count: n, Event: *e, Time: e.Time})
}

// next is when expire has something to do; zero: never.
func (b *bell) next() time.Time {
	if len(b.order) == 0 {
		return time.Time{}
	}
	return b.order[0].end
}

// expire ends cool-downs. Who goes on is told again, and cools down again.
func (b *bell) expire(now time.Time) {
	for len(b.order) > 0 && !b.order[0].end.After(now) {
		s := b.order[0]
		b.order = append(b.order[:0], b.order[1:]...)
		if !s.again {
			delete(b.active, s.subject)
			continue
		}
		b.repeat(s, now)
		s.end, s.held, s.again = now.Add(b.rule.CoolDown), 0, false
		b.order = append(b.order, s)
	}
}

// flush tells what has not been told yet: nobody would, later.
func (b *bell) flush(now time.Time) {
	for _, s := range b.order {
		if s.again {
			b.repeat(s, now)
		}
	}
	clear(b.active)
	b.order = nil
}

func (b *bell) repeat(s *sounding, now time.Time) {
	b.ring(Alert{Rule: b.rule, Subject: s.subject, Count: s.held, Repeated: true, Event: s.last, Time: now})
}
