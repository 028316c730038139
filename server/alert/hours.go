package alert

import (
	"fmt"
	"strings"
	"time"
)

// Hours is when somebody is at work, by the clocks of a place.
type Hours struct {
	zone  *time.Location
	spans []span
}

// span is a time of some days, in minutes since midnight. One that ends before
// it begins goes on to the next day.
type span struct {
	days     [7]bool // Sunday first, as time.Weekday
	from, to int
}

var dayNames = []string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}

// ParseHours reads texts as "Mon-Fri 08:00-18:00", "Sat,Sun 10:00-14:00" and
// "daily 22:00-06:00". zone is a name of the time zone database, as
// "Europe/Berlin".
func ParseHours(zone string, texts ...string) (*Hours, error) {
	if zone == "" || zone == "Local" || len(texts) == 0 {
		return nil, fmt.Errorf(`hours need a time_zone, as Europe/Berlin or UTC, and one text at least, as "Mon-Fri 08:00-18:00"`)
	}
	at, err := time.LoadLocation(zone)
	if err != nil {
		return nil, fmt.Errorf("time_zone %q: a name as Europe/Berlin, or UTC", zone)
	}
	h := &Hours{zone: at}
	for _, t := range texts {
		s, err := parseSpan(t)
		if err != nil {
			return nil, fmt.Errorf(`hours %q: %w; write "Mon-Fri 08:00-18:00" or "daily 08:00-18:00"`, t, err)
		}
		h.spans = append(h.spans, s)
	}
	return h, nil
}

func parseSpan(text string) (s span, err error) {
	days, times, ok := strings.Cut(strings.TrimSpace(text), " ")
	if !ok {
		return s, fmt.Errorf("days and a time")
	}
	for part := range strings.SplitSeq(days, ",") {
		if part == "daily" {
			part = "Sun-Sat"
		}
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		a, b := day(first), day(last)
		if a < 0 || b < 0 {
			return s, fmt.Errorf("%q is no day", part)
		}
		for d := a; ; d = (d + 1) % 7 {
			s.days[d] = true
			if d == b {
				break
			}
		}
	}
	from, to, _ := strings.Cut(strings.TrimSpace(times), "-")
	if s.from, err = minutes(from); err == nil {
		s.to, err = minutes(to)
	}
	if err == nil && s.from == s.to {
		err = fmt.Errorf("no time is between %s and %s; a whole day is 00:00-24:00", from, to)
	}
	return s, err
}

func day(name string) int {
	for i, d := range dayNames {
		if strings.EqualFold(d, name) {
			return i
		}
	}
	return -1
}

// minutes reads hh:mm, up to 24:00.
func minutes(text string) (int, error) {
	var h, m int
	if n, err := fmt.Sscanf(text, "%02d:%02d", &h, &m); err != nil || n != 2 || len(text) != 5 || h < 0 || m < 0 || m > 59 || h*60+m > 24*60 {
		return 0, fmt.Errorf("%q is no time", text)
	}
	return h*60 + m, nil
}

// Contains reports whether t is within the hours. The minute at which a span
// ends is outside.
func (h *Hours) Contains(t time.Time) bool {
	t = t.In(h.zone)
	now, today := t.Hour()*60+t.Minute(), int(t.Weekday())
	yesterday := (today + 6) % 7
	for _, s := range h.spans {
		switch {
		case s.from < s.to && s.days[today] && now >= s.from && now < s.to,
			s.from > s.to && s.days[today] && now >= s.from,
			s.from > s.to && s.days[yesterday] && now < s.to:
			return true
		}
	}
	return false
}
