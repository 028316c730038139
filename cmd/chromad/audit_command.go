package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/server/admin"
	"github.com/chromad/chromad/server/audit"
)

func auditCommands() []subcommand {
	return []subcommand{
		{"tail", "PATH [flags]", "show the newest events, and follow", auditTail},
		{"search", "PATH [flags]", "find events", auditSearch},
		{"verify", "PATH [flags]", "tell whether the log is what was written", auditVerify},
		{"export", "PATH --out FILE [flags]", "write events to a file, one object of JSON a line", auditExport},
	}
}

func auditCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	usage := groupUsage("audit", "The audit log of a store: who did what, and what was refused. It holds names and counts, never content.", auditCommands(), `
Examples:

  chromad audit tail /var/lib/chroma -f
  chromad audit search /var/lib/chroma --outcome denied --since 24h
  chromad audit search /var/lib/chroma --principal ada --action 'collection:*' --json
  chromad audit verify /var/lib/chroma

A running server is asked by its admin socket. Without one the store is opened; an encrypted one then takes --keys.
More: docs/audit.md.
`)
	return group(ctx, "chromad audit", usage, auditCommands(), args, stdout, stderr)
}

// auditPage is the flags that its commands share.
type auditPage struct {
	*flagPage
	keys         *string
	json         *bool
	q            admin.AuditQuery
	since, until string
}

func newAuditPage(name, args, short, more string) *auditPage {
	p := &auditPage{flagPage: newFlagPage("audit "+name, args, short, more)}
	p.keys = keysFlag(p.flagPage)
	return p
}

// queryFlags adds those that say which events are meant.
func (p *auditPage) queryFlags() {
	p.json = p.Bool("json", false, "one object of JSON a line")
	p.StringVar(&p.q.Principal, "principal", "", "`user` who did it")
	p.StringVar(&p.q.Action, "action", "", "`action`, as collection:query, or access:* for all that begin so")
	p.StringVar(&p.q.Collection, "collection", "", "`name` of the collection")
	p.StringVar(&p.q.Address, "address", "", "`address` it came from")
	p.StringVar(&p.q.Request, "request", "", "`id` of the request")
	p.StringVar((*string)(&p.q.Kind), "kind", "", "`kind`: authentication, decision, access, admin, system")
	p.StringVar((*string)(&p.q.Outcome), "outcome", "", "`outcome`: allowed, denied, failed")
	p.Uint64Var(&p.q.After, "after", 0, "`number` of a record: only those behind it are read")
	p.StringVar(&p.since, "since", "", "`time` of the first: 2026-01-31, 2026-01-31T12:00:00Z, or 24h ago as 24h")
	p.StringVar(&p.until, "until", "", "`time` before which the last is")
}

// query reads the arguments.
func (p *auditPage) query(args []string) (path string, err error) {
	if path, err = p.readPath(args); err != nil {
		return "", err
	}
	if p.q.Since, err = when(p.since); err == nil {
		p.q.Until, err = when(p.until)
	}
	return path, errors.Join(err, p.q.Check())
}

// when reads a time, or how long ago one was.
func when(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	days, ok := strings.CutSuffix(text, "d")
	if n, err := strconv.Atoi(days); ok && err == nil && n >= 0 && n < 100_000 {
		return time.Now().AddDate(0, 0, -n), nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return time.Now().Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("%.40q: a time like 2026-01-31, 2026-01-31T12:00:00Z, or how long ago, as 24h or 7d", text)
}

// auditOf is a store's audit log, by its server or by itself.
type auditOf interface {
	lines(ctx context.Context, q admin.AuditQuery) iter.Seq2[audit.Line, error]
	verify(ctx context.Context, expect engine.AuditExpect) (*engine.AuditReport, error)
}

type auditHere struct{ *engine.DB }

func (a auditHere) lines(ctx context.Context, q admin.AuditQuery) iter.Seq2[audit.Line, error] {
	return admin.AuditLines(ctx, a.DB, q)
}

func (a auditHere) verify(ctx context.Context, e engine.AuditExpect) (*engine.AuditReport, error) {
	return a.VerifyAudit(ctx, e)
}

type auditThere struct{ *admin.Client }

func (a auditThere) lines(ctx context.Context, q admin.AuditQuery) iter.Seq2[audit.Line, error] {
	return a.Audit(ctx, q)
}

func (a auditThere) verify(ctx context.Context, e engine.AuditExpect) (*engine.AuditReport, error) {
	return a.VerifyAudit(ctx, e)
}

func (p *auditPage) with(ctx context.Context, path string, do func(auditOf) error) error {
	op, err := openKey(ctx, *p.keys)
	if err != nil {
		return err
	}
	db, server, err := reach(ctx, path, engine.Options{Keys: op, ReadOnly: true})
	if err != nil {
		return err
	}
	if server != nil {
		return do(auditThere{server})
	}
	return errors.Join(do(auditHere{db}), db.Close())
}

// show writes lines, and returns the number of the last one.
func (p *auditPage) show(ctx context.Context, from auditOf, out io.Writer) (last uint64, err error) {
	for l, err := range from.lines(ctx, p.q) {
		if err != nil {
			return last, err
		}
		last = l.Seq
		if p.json != nil && !*p.json {
			_, err = fmt.Fprintln(out, auditText(&l))
		} else {
			err = json.NewEncoder(out).Encode(l)
		}
		if err != nil {
			return last, err
		}
	}
	return last, nil
}

// auditText is a line for people.
func auditText(l *audit.Line) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s %-7s %s", l.Seq, l.Time.UTC().Format(time.DateTime), l.Outcome, l.Action)
	for _, f := range [][2]string{
		{"", l.Principal}, {"of ", l.Subject}, {"by ", l.Method}, {"key ", l.Key}, {"from ", l.Address}, {"in ", strings.Trim(l.Tenant+"/"+l.Database+"/"+l.Collection, "/")},
		{"because: ", l.Reason}, {"request ", l.Request},
	} {
		if f[1] != "" {
			fmt.Fprintf(&b, "  %s%s", f[0], plainText(f[1]))
		}
	}
	if l.Rows > 0 {
		fmt.Fprintf(&b, "  %d rows", l.Rows)
	}
	return b.String()
}

// plainText keeps what somebody has put into a name from moving the cursor.
func plainText(s string) string {
	if q := strconv.QuoteToGraphic(s); q != `"`+s+`"` {
		return q
	}
	return s
}

func auditTail(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newAuditPage("tail", "PATH", "Show the newest events.", "")
	p.queryFlags()
	follow := p.Bool("f", false, "go on with those that come; a server must be running")
	p.Uint64Var(&p.q.Tail, "n", 20, "of how many records at the end")
	path, err := p.query(args)
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	err = p.with(ctx, path, func(from auditOf) error {
		last, err := p.show(ctx, from, stdout)
		if _, here := from.(auditHere); here && *follow {
			return errors.Join(err, errors.New("no server runs, so nothing comes; leave -f out"))
		}
		for err == nil && *follow {
			p.q.After, p.q.Tail = max(p.q.After, last), 0
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Second):
			}
			last, err = p.show(ctx, from, stdout)
		}
		return err
	})
	if err != nil && ctx.Err() == nil {
		return p.fail(err, stderr)
	}
	return exitOK
}

func auditSearch(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newAuditPage("search", "PATH", "Find events. Several conditions must all hold.", "")
	p.queryFlags()
	p.IntVar(&p.q.Limit, "limit", 0, "stop after so many; 0 is all")
	path, err := p.query(args)
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	err = p.with(ctx, path, func(from auditOf) error {
		_, err := p.show(ctx, from, stdout)
		return err
	})
	if err != nil {
		return p.fail(err, stderr)
	}
	return exitOK
}

func auditExport(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newAuditPage("export", "PATH --out FILE", "Write events to a file, one object of JSON a line.", "")
	p.queryFlags()
	p.json = nil // always
	out := p.String("out", "", "`file` to make; none is replaced")
	path, err := p.query(args)
	if err == nil && *out == "" {
		err = errors.New("where to? write --out FILE")
	}
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	err = p.with(ctx, path, func(from auditOf) error {
		f, err := os.OpenFile(*out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = p.show(ctx, from, f)
		return errors.Join(err, f.Close())
	})
	if err != nil {
		return p.fail(err, stderr)
	}
	fmt.Fprintf(stdout, "wrote the audit log of %s to %s\n", path, *out)
	return exitOK
}

func auditVerify(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newAuditPage("verify", "PATH", "Read the whole audit log and tell what was altered, removed, put in another order or cut off.", `
Examples:

  chromad audit verify /var/lib/chroma
  chromad audit verify /var/lib/chroma --public-key chromad.public    as chromad keys public wrote it
  chromad audit verify /var/lib/chroma --expect 1041:9f86d081…         a number and hash that were noted before

It ends with the number and the hash of the last record. Keep them elsewhere: what comes later has to build on them.
A store that is not encrypted signs nothing: there, who can write to its files can make another chain,
and only what was noted tells.
`)
	public := p.String("public-key", "", "`file` with the store's public key; without, the store's own word is taken")
	expect := p.String("expect", "", "`number:hash` of a record that was there")
	asJSON := p.Bool("json", false, "as an object of JSON")
	path, err := p.readPath(args)
	var e engine.AuditExpect
	if err == nil {
		e, err = expected(*public, *expect)
	}
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	var report *engine.AuditReport
	err = p.with(ctx, path, func(from auditOf) (err error) {
		report, err = from.verify(ctx, e)
		return err
	})
	if err != nil {
		return p.fail(err, stderr)
	}
	if *asJSON {
		err = json.NewEncoder(stdout).Encode(report)
	} else {
		_, err = io.WriteString(stdout, verifiedText(path, report))
	}
	if err != nil {
		return p.fail(err, stderr)
	}
	if len(report.Findings) > 0 {
		return exitFailed
	}
	return exitOK
}

func expected(public, point string) (e engine.AuditExpect, err error) {
	if public != "" {
		if e.Public, err = os.ReadFile(public); err != nil {
			return e, err
		}
	}
	if point == "" {
		return e, nil
	}
	number, hash, ok := strings.Cut(point, ":")
	e.Seq, err = strconv.ParseUint(number, 10, 64)
	if e.Hash = hash; !ok || err != nil || e.Seq == 0 || len(hash) != 64 {
		return e, fmt.Errorf("--expect %.80q: a number and a hash of 64 digits, as 1041:9f86…", point)
	}
	return e, nil
}

func verifiedText(path string, r *engine.AuditReport) string {
	var b strings.Builder
	for _, f := range r.Findings {
		b.WriteString("record " + strconv.FormatUint(f.Seq, 10))
		if f.File != "" {
			b.WriteString(" in " + f.File)
		}
		b.WriteString(": " + f.Text + "\n")
	}
	switch {
	case r.Records == 0:
		fmt.Fprintf(&b, "%s has no audit records\n", path)
		return b.String()
	case len(r.Findings) == 0:
		b.WriteString("the audit log is whole: ")
	}
	fmt.Fprintf(&b, "records %d to %d, %d that could be read", r.First, r.Last, r.Records)
	switch {
	case r.Signed > 0:
		fmt.Fprintf(&b, ", signed up to %d on %s", r.Signed, r.SignedAt.Format(time.DateTime))
	case r.Encrypted:
		b.WriteString(", not signed yet")
	default:
		b.WriteString(", not signed: the store is not encrypted, so who can write to its files could have made another chain")
	}
	fmt.Fprintf(&b, "\nlast %d:%s\n", r.Last, r.Hash)
	return b.String()
}
