package access

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chromad/chromad/server/limit"
)

// ErrDenied says that a credential is missing or is not one that is known and
// valid. It does not say which: that goes to the log, by Denied.Reason.
var ErrDenied = errors.New("authentication failed")

// ErrBusy says that a credential could not be checked now: try again.
var ErrBusy = errors.New("the credential cannot be checked now")

// Denied is the error of a credential that is not accepted.
type Denied struct{ Reason string }

func (d *Denied) Error() string { return ErrDenied.Error() + ": " + d.Reason }

// Is makes errors.Is find ErrDenied.
func (d *Denied) Is(target error) bool { return target == ErrDenied }

// Credential is what a request shows of who it comes from. At most one kind
// of credential is set.
type Credential struct {
	Key            string // an API key
	Name, Password string
	Token          string // a bearer token that is no API key
	Certificate    string // common name of a verified client certificate
	Address        string // "host:port" that it comes from: failures are counted for it
}

// Token is what a verified bearer token says.
type Token struct {
	Name   string
	Roles  []Binding
	Strong bool                // several factors were used
	Claims map[string][]string // what rules about records may ask, see Where
}

// Verifier verifies bearer tokens of others.
type Verifier interface {
	Verify(ctx context.Context, raw string) (*Token, error)
}

// Outside is who is let in beside the users of the policy, and what is asked
// of everybody. It does not change while a server runs.
type Outside struct {
	Tokens Verifier // nil: tokens are not accepted
	// Strong are the actions that only a token may do that says that several
	// factors were used.
	Strong []Action
	// Limits are how much anybody may ask for of whom the policy says nothing.
	Limits *limit.Set
	// Failures is how often a minute authentication may fail from one address,
	// and for one name a third of that. 0: as often as one likes.
	Failures float64
}

// Directory turns credentials into principals by the policy of the moment. It
// is safe for concurrent use.
type Directory struct {
	current atomic.Pointer[directory]
	outside Outside
	weak    map[Action]bool // Outside.Strong, for everybody but strong tokens
	now     func() time.Time
	guesses *limit.Guesses

	hashing chan struct{} // a place for each password that is being hashed
	secret  [32]byte      // what known is keyed with
	mu      sync.Mutex
	known   map[[32]byte]verified // passwords that were right a moment ago
}

// directory is a policy made ready for looking up. It is never changed.
type directory struct {
	open   bool
	roles  map[string]Role
	byKey  map[string]*holder // by the key's id
	byName map[string]*entry
	byCert map[string]*entry
}

type entry struct {
	user     *User
	grants   []granted
	ruled    bool
	password password
	weak     map[Action]bool
	limits   *limit.Set
}

// holder is an API key and who shows it, made once for all his requests: a
// change of the policy makes a directory anew, and with it every holder.
type holder struct {
	Key
	name string // what its failures are counted under
	who  *Principal
	err  error // instead of who: he is not let in
	// right is when the guesses were told last that it was shown, in seconds
	// since 1970.
	right atomic.Int64
}

// verified is a password that was right, until when that may be believed, and
// under which policy it was.
type verified struct {
	until time.Time
	of    *directory
}

const (
	passwordsAtOnce  = 2 // each takes 64 MiB
	believePasswords = time.Minute
	maxKnown         = 10_000
)

// NewDirectory makes a directory of a policy.
func NewDirectory(p *Policy, outside Outside) (*Directory, error) {
	d := &Directory{outside: outside, weak: map[Action]bool{}, now: time.Now, guesses: limit.NewGuesses(outside.Failures), hashing: make(chan struct{}, passwordsAtOnce), known: map[[32]byte]verified{}}
	if _, err := rand.Read(d.secret[:]); err != nil {
		return nil, err
	}
	for _, a := range outside.Strong {
		d.weak[a] = true
	}
	return d, d.Use(p)
}

// Use makes p the policy from the next request on.
func (d *Directory) Use(p *Policy) error {
	if err := p.Check(); err != nil {
		return err
	}
	roles := p.roles()
	next := &directory{open: len(p.Users) == 0 && d.outside.Tokens == nil, roles: roles, byKey: map[string]*holder{}, byName: map[string]*entry{}, byCert: map[string]*entry{}}
	for i := range p.Users {
		u := p.Users[i] // a copy: the caller may change his
		e := &entry{user: &u, grants: grantsOf(u.Roles, roles, valuesOf(u.Name, u.Attributes, nil)), weak: d.weak, limits: limitsOf(d.outside.Limits, u.Limits, u.Roles, roles)}
		e.ruled = anyRuled(e.grants)
		if u.Password != "" {
			e.password, _ = parsePassword(u.Password) // Check has read it
		}
		next.byName[u.Name] = e
		for _, k := range u.Keys {
			h := &holder{Key: k, name: attemptOfKey(k.ID)}
			h.who, h.err = e.principal("key", k.ID)
			next.byKey[k.ID] = h
		}
		for _, c := range u.Certificates {
			next.byCert[c] = e
		}
	}
	d.current.Store(next)
	return nil
}

// Open reports whether there are no users, so that everybody may do
// everything. A nil Directory is open.
func (d *Directory) Open() bool { return d == nil || d.current.Load().open }

// anybody is who asks a server without users.
var anybody = &Principal{Method: "none", open: true}

// nobody is who shows no credential: he may do what is public.
var nobody = &Principal{Method: "none"}

// Nobody is the principal of a request without a credential, for what is public.
func (d *Directory) Nobody() *Principal {
	if d.Open() {
		return anybody
	}
	return nobody
}

// Authenticate returns who shows a credential. The error is a
// *Denied, a *limit.Refused when too many have failed, ErrBusy, or what keeps a
// Verifier from telling.
func (d *Directory) Authenticate(ctx context.Context, c Credential) (*Principal, error) {
	if d.guesses == nil {
		return d.authenticate(ctx, c)
	}
	if p := d.shownLately(c.Key); p != nil {
		return p, nil
	}
	attempt := d.attempt(c)
	if err := d.guesses.May(attempt); err != nil {
		return nil, err
	}
	p, err := d.authenticate(ctx, c)
	switch {
	case err == nil:
		d.guesses.Right(attempt)
		if h := d.holderOf(c.Key); h != nil {
			h.right.Store(d.now().Unix())
		}
	case errors.Is(err, ErrDenied):
		d.guesses.Failed(attempt)
	}
	return p, err
}

// tellRight is how long the guesses need not be told again of a key that was
// right, in seconds; they remember one for longer.
const tellRight = 1800

// shownLately is who shows a key that is right and was right a while ago: what
// others have guessed wrong does not concern him, and need not be looked up for
// each of his requests. nil: the key has to go the long way.
func (d *Directory) shownLately(secret string) *Principal {
	h := d.holderOf(secret)
	if h == nil || h.err != nil {
		return nil
	}
	now := d.now()
	if since := now.Unix() - h.right.Load(); since < 0 || since >= tellRight || h.expired(now) || !h.is(secret) {
		return nil
	}
	return h.who
}

// holderOf finds a key by its id. nil: there is none.
func (d *Directory) holderOf(secret string) *holder {
	if id, ok := keyID(secret); ok {
		return d.current.Load().byKey[id]
	}
	return nil
}

// attempt is what is counted when the credential turns out to be wrong. Names
// are those of users or of keys, so that nobody's are mixed up.
func (d *Directory) attempt(c Credential) limit.Attempt {
	a := limit.Attempt{Address: limit.Prefix(c.Address), Credential: c.Key + c.Password + c.Token + c.Certificate}
	if h := d.holderOf(c.Key); h != nil {
		a.Name = h.name
	} else if id, ok := keyID(c.Key); ok {
		a.Name = attemptOfKey(id)
	}
	if c.Name != "" {
		a.Name = "user " + c.Name
	}
	return a
}

func attemptOfKey(id string) string { return "key " + id }

func (d *Directory) authenticate(ctx context.Context, c Credential) (*Principal, error) {
	at := d.current.Load()
	switch {
	case at.open:
		return anybody, nil
	case c.Key != "":
		return at.key(c.Key, d.now())
	case c.Name != "":
		return d.password(at, c.Name, c.Password)
	case c.Token != "":
		return d.token(ctx, at, c.Token)
	case c.Certificate != "":
		e := at.byCert[c.Certificate]
		if e == nil {
			return nil, &Denied{"no user has this certificate"}
		}
		return e.principal("certificate", "")
	}
	return nil, &Denied{"no credential"}
}

func (d *Directory) token(ctx context.Context, at *directory, raw string) (*Principal, error) {
	if d.outside.Tokens == nil {
		return nil, &Denied{"neither an API key, nor are tokens accepted"}
	}
	t, err := d.outside.Tokens.Verify(ctx, raw)
	if errors.Is(err, ErrBusy) {
		return nil, err
	}
	if err != nil {
		return nil, &Denied{err.Error()}
	}
	p := &Principal{Name: t.Name, Method: "token", grants: grantsOf(t.Roles, at.roles, valuesOf(t.Name, nil, t.Claims)), Limits: limitsOf(d.outside.Limits, nil, t.Roles, at.roles)}
	p.ruled = anyRuled(p.grants)
	if !t.Strong {
		p.weak = d.weak
	}
	return p, nil
}

func (at *directory) key(secret string, now time.Time) (*Principal, error) {
	id, ok := keyID(secret)
	if !ok {
		return nil, &Denied{"not an API key"}
	}
	h := at.byKey[id]
	switch {
	case h == nil:
		return nil, &Denied{"unknown API key " + id}
	case !h.is(secret):
		return nil, &Denied{"wrong secret of API key " + id}
	case h.expired(now):
		return nil, &Denied{"API key " + id + " has expired"}
	}
	return h.who, h.err
}

func (d *Directory) password(at *directory, name, text string) (*Principal, error) {
	e := at.byName[name]
	if len(text) > maxPassword {
		return nil, &Denied{"a password that is too long"}
	}
	p := password{salt: make([]byte, argonSalt), sum: make([]byte, argonSum)} // of nobody: takes as long
	known := e != nil && e.user.Password != ""
	if known {
		p = e.password
	}
	id := d.fingerprint(name, text)
	if known && d.believed(id, at) {
		return e.principal("password", "")
	}
	select {
	case d.hashing <- struct{}{}:
	default:
		return nil, ErrBusy
	}
	right := p.is(text)
	<-d.hashing
	if !known || !right {
		return nil, &Denied{"wrong name or password"}
	}
	d.believe(id, at)
	return e.principal("password", "")
}

// fingerprint names a pair of name and password without keeping it.
func (d *Directory) fingerprint(name, text string) (id [32]byte) {
	h := hmac.New(sha256.New, d.secret[:])
	h.Write([]byte(name))
	h.Write([]byte{0})
	h.Write([]byte(text))
	h.Sum(id[:0])
	return id
}

func (d *Directory) believed(id [32]byte, at *directory) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	v, ok := d.known[id]
	return ok && v.of == at && d.now().Before(v.until)
}

func (d *Directory) believe(id [32]byte, at *directory) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.known) >= maxKnown {
		clear(d.known)
	}
	d.known[id] = verified{d.now().Add(believePasswords), at}
}

func (e *entry) principal(method, key string) (*Principal, error) {
	if e.user.Disabled {
		return nil, &Denied{"user " + e.user.Name + " is disabled"}
	}
	return &Principal{Name: e.user.Name, Method: method, Key: key, Tenant: e.user.Tenant, Database: e.user.Database, grants: e.grants, ruled: e.ruled, weak: e.weak, Limits: e.limits}, nil
}
