package limit

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// Guesses slows down who tries credentials. Failures are counted for the
// address they come from and for the name they are about, since either can be
// spread over many of the other. Who showed a right credential lately may show
// it again meanwhile: a wrong key in a loop locks nobody else out, behind the
// same address or under the same name. It is safe for concurrent use.
type Guesses struct {
	address, name *Table
	byAddress     *Set
	byName        *Set
	seed          maphash.Seed

	mu        sync.Mutex
	now, then map[uint64]struct{} // credentials that were right, and those of the hour before
	turned    time.Time
}

const (
	maxGuessers   = 10_000
	maxRight      = 10_000
	believeRight  = time.Hour
	namePerSource = 3 // an address may fail so many times as often as a name: many users can be behind one
)

// NewGuesses lets an address fail so many times a minute, after as many at
// once, and a name a third of it. None is nil, which stops nobody.
func NewGuesses(perMinute float64) *Guesses {
	if perMinute <= 0 {
		return nil
	}
	return &Guesses{
		address: newTable(maxGuessers, time.Minute), name: newTable(maxGuessers, time.Minute), seed: maphash.MakeSeed(),
		byAddress: &Set{Bounds: Bounds{Requests: perMinute}}, byName: &Set{Bounds: Bounds{Requests: perMinute / namePerSource}},
		now: map[uint64]struct{}{}, then: map[uint64]struct{}{}, turned: time.Now(),
	}
}

// Attempt is one credential from one address.
type Attempt struct {
	Address, Name string // Name: of the user or the key; may be empty
	Credential    string // all that is secret and not; empty: none was shown
}

// May refuses an attempt, by a *Refused, where too many have failed.
func (g *Guesses) May(a Attempt) error {
	if g == nil {
		return nil
	}
	now := time.Now()
	r := later(g.address.lacking(a.Address, now), g.name.lacking(a.Name, now))
	if r == nil || a.Credential != "" && g.wasRight(a) {
		return nil
	}
	return r
}

// Failed counts an attempt that was wrong.
func (g *Guesses) Failed(a Attempt) {
	if g == nil {
		return
	}
	now := time.Now()
	g.address.fail(a.Address, g.byAddress, now)
	if a.Name != "" {
		g.name.fail(a.Name, g.byName, now)
	}
}

// Right remembers an attempt that was right.
func (g *Guesses) Right(a Attempt) {
	if g == nil || a.Credential == "" {
		return
	}
	id := g.fingerprint(a)
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.now) >= maxRight || now.Sub(g.turned) > believeRight {
		g.now, g.then, g.turned = map[uint64]struct{}{}, g.now, now
	}
	g.now[id] = struct{}{}
}

func (g *Guesses) wasRight(a Attempt) bool {
	id := g.fingerprint(a)
	g.mu.Lock()
	defer g.mu.Unlock()
	if time.Since(g.turned) > 2*believeRight {
		return false
	}
	_, now := g.now[id]
	_, then := g.then[id]
	return now || then
}

// fingerprint names a credential without keeping it. Two that share one are
// no harm: the worst is that a wrong one is looked at, and refused then.
func (g *Guesses) fingerprint(a Attempt) uint64 {
	var h maphash.Hash
	h.SetSeed(g.seed)
	h.WriteString(a.Name)
	h.WriteByte(0)
	h.WriteString(a.Credential)
	return h.Sum64()
}

// lacking says whether a bucket of failures is empty.
func (t *Table) lacking(who string, now time.Time) *Refused {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[who]
	if e == nil && len(t.entries) >= t.most {
		e = t.entries[overflow]
	}
	if e == nil || who == "" {
		return nil
	}
	return lacking(e.parts[0].requests, now, "failures", "")
}

func (t *Table) fail(who string, set *Set, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entry(who, set, now)
	take(e.parts[0].requests, now, 1)
}

// Prefix is the part of an address ("host:port") that one customer of a
// network has: all of an IPv4 address, the first 64 bits of an IPv6 one.
func Prefix(remote string) string {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return remote
	}
	ip := at.Addr().Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return remote
	}
	return p.Addr().String()
}
