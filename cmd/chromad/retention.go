package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/server/admin"
)

// retentionCommands are what chromad retention does.
func retentionCommands() []subcommand {
	return []subcommand{
		{"show", "PATH [COLLECTION]", "list the collections that have a retention or a hold", retentionShow},
		{"set", "PATH COLLECTION [flags]", "have records expire at the time that they name", retentionSet},
		{"off", "PATH COLLECTION", "have them stay", retentionOff},
		{"hold", "PATH COLLECTION --reason TEXT", "put a collection under legal hold", retentionHold},
		{"release", "PATH COLLECTION", "end the legal hold", retentionRelease},
	}
}

func retentionCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return group(ctx, "chromad retention", retentionUsage(), retentionCommands(), args, stdout, stderr)
}

func retentionUsage() string {
	return groupUsage("retention", "How long the records of a collection are kept, and legal holds.", retentionCommands(), `
COLLECTION is a name in the default database, or TENANT/DATABASE/NAME.

Records that go after thirty days, or when they say themselves:

  chromad retention set ./chroma docs --default 30d

  collection.add(ids=["a"], documents=["…"], metadatas=[{"expires_at": "2027-01-31T00:00:00Z"}])

Nothing of a collection is deleted or changed, by anybody, while there is a case about it:

  chromad retention hold ./chroma docs --reason "Smith v. Acme"
  chromad retention release ./chroma docs

Works on a running server's store too, and then at once. More: docs/retention.md
`)
}

// retentionPage is a command of chromad retention.
type retentionPage struct {
	*flagPage
	*changeFlags
}

func newRetentionPage(name, args, short, more string) *retentionPage {
	p := newFlagPage("retention "+name, args, short, more)
	return &retentionPage{flagPage: p, changeFlags: newChangeFlags(p)}
}

// parse reads the flags, the store's directory and the collection; optional: there may be none.
func (p *retentionPage) parse(args []string, optional bool) (path string, c admin.RetentionCommand, err error) {
	rest, err := p.read(args)
	switch {
	case err != nil:
		return "", c, err
	case len(rest) == 0:
		return "", c, fmt.Errorf("PATH is missing: chromad %s %s", p.Name(), p.args)
	case len(rest) == 1 && !optional:
		return "", c, fmt.Errorf("COLLECTION is missing: chromad %s %s", p.Name(), p.args)
	case len(rest) > 2:
		return "", c, fmt.Errorf("%q: one argument too many: chromad %s %s", rest[2], p.Name(), p.args)
	case len(rest) == 2:
		c, err = parseCollection(rest[1])
	}
	return rest[0], c, err
}

// parseCollection reads a name in the default database, or tenant/database/name.
func parseCollection(text string) (c admin.RetentionCommand, err error) {
	c.Tenant, c.Database, c.Collection = engine.DefaultTenant, engine.DefaultDatabase, text
	switch parts := strings.Split(text, "/"); {
	case len(parts) == 3:
		c.Tenant, c.Database, c.Collection = parts[0], parts[1], parts[2]
	case len(parts) != 1:
		return c, fmt.Errorf("%q: a name, or tenant/database/name", text)
	}
	if c.Tenant == "" || c.Database == "" || c.Collection == "" {
		return c, fmt.Errorf("%q: a name, or tenant/database/name", text)
	}
	return c, nil
}

// retentionOf is a store whose retentions are asked for or changed: a server's, or its own.
type retentionOf interface {
	Retentions(ctx context.Context) ([]admin.KeptCollection, error)
	Retention(ctx context.Context, c admin.RetentionCommand) (admin.KeptCollection, error)
}

type ownRetention struct {
	*engine.DB
	over *expiries
}

func (o ownRetention) Retentions(ctx context.Context) ([]admin.KeptCollection, error) {
	return admin.ListRetention(ctx, o.DB)
}

func (o ownRetention) Retention(ctx context.Context, c admin.RetentionCommand) (admin.KeptCollection, error) {
	return recordedRetention(ctx, o.DB, o.over, c)
}

// with calls do with the store in dir, which is only read when nothing is to change.
func (p *retentionPage) with(ctx context.Context, dir string, read bool, do func(retentionOf) error) error {
	op, err := openKey(ctx, *p.keys)
	if err != nil {
		return err
	}
	var over expiries
	opts := offlineOptions(op, p.expectGeneration)
	opts.ReadOnly, opts.Events = read, &engine.Events{Expired: func(e engine.ExpireEvent) { over.add(e.Collection, e.Records) }}
	db, server, err := reach(ctx, dir, opts)
	if err != nil {
		return err
	}
	if server != nil {
		return do(server)
	}
	return errors.Join(do(ownRetention{db, &over}), db.Close())
}

// run makes the change of one collection, and tells what holds then.
func (p *retentionPage) run(ctx context.Context, dir string, c admin.RetentionCommand, stdout, stderr io.Writer) int {
	err := p.with(ctx, dir, false, func(to retentionOf) error {
		k, err := to.Retention(ctx, c)
		if err == nil {
			writeKept(stdout, []admin.KeptCollection{k})
		}
		return err
	})
	if err != nil {
		return p.fail(err, stderr)
	}
	return exitOK
}

func retentionShow(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newRetentionPage("show", "PATH [COLLECTION]", "List the collections that have a retention or are under legal hold, or show one.", `
Examples:

  chromad retention show ./chroma
  chromad retention show ./chroma acme/main/docs --json

EXPIRED is the number of records whose time is over and that are still there: in a collection that is not under
hold they go within a minute, and no read has them before. UNCLEAR have a value that is no time, and stay.
`)
	asJSON := p.Bool("json", false, "print one line of JSON for each")
	path, c, err := p.parse(args, true)
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	var all []admin.KeptCollection
	err = p.with(ctx, path, true, func(from retentionOf) (err error) {
		if c.Collection == "" {
			all, err = from.Retentions(ctx)
			return err
		}
		c.Do = admin.ShowOne
		k, err := from.Retention(ctx, c)
		all = append(all, k)
		return err
	})
	if err != nil {
		return p.fail(err, stderr)
	}
	switch {
	case *asJSON:
		out := json.NewEncoder(stdout)
		for _, k := range all {
			if err := out.Encode(k); err != nil {
				return p.fail(err, stderr)
			}
		}
	case len(all) == 0:
		fmt.Fprintln(stderr, "no collection has a retention, and none is under legal hold")
	default:
		writeKept(stdout, all)
	}
	return exitOK
}

func writeKept(stdout io.Writer, all []admin.KeptCollection) {
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "COLLECTION\tEXPIRES BY\tDEFAULT\tEXPIRED\tUNCLEAR\tHOLD")
	for _, k := range all {
		// Names are others' words: quoted, they do nothing to a terminal.
		byDefault, hold := "-", "-"
		if k.Default > 0 {
			byDefault = daysText(time.Duration(k.Default) * time.Second)
		}
		if k.Held {
			hold = "since " + k.Since.UTC().Format(time.RFC3339) + ": " + strconv.Quote(k.Reason)
		}
		fmt.Fprintf(w, "%q\t%s\t%s\t%d\t%d\t%s\n", k.Tenant+"/"+k.Database+"/"+k.Collection, quotedText(k.Key), byDefault, k.Over, k.Unclear, hold)
	}
	_ = w.Flush() // as with every print: who reads is gone
}

func quotedText(s string) string {
	if s == "" {
		return "-"
	}
	return strconv.Quote(s)
}

const day = 24 * time.Hour

func daysText(d time.Duration) string {
	if d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return d.String()
}

// parseDays reads 30d, or a time of Go's: 12h, 90m.
func parseDays(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n > 0 && n <= 36500 {
			return time.Duration(n) * day, nil
		}
	} else if d, err := time.ParseDuration(text); err == nil && d >= time.Second {
		return d.Truncate(time.Second), nil
	}
	return 0, fmt.Errorf("--default %q: a time like 30d or 12h", text)
}

func retentionSet(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newRetentionPage("set", "PATH COLLECTION", "Have the records of a collection expire at the time that stands in their metadata.", `
Examples:

  chromad retention set ./chroma docs                    those that have expires_at
  chromad retention set ./chroma docs --default 30d      and new ones without it thirty days after they are written
  chromad retention set ./chroma acme/main/docs --key delete_on

The time is a number of seconds since 1970 or text like 2027-01-31T00:00:00Z. What has expired is gone from all
reads that second, deleted within a minute, and its bytes are erased within chromad run's --erase-within.
It counts for records that are there already: look at what they have under the key before.
`)
	key := p.String("key", engine.DefaultRetentionKey, "metadata `key` of the time")
	byDefault := p.String("default", "", "how long new records stay that come without it: `time`, as 30d or 12h; for ever when left out")
	path, c, err := p.parse(args, false)
	c.Do, c.Key = admin.SetRetention, *key
	if err == nil && *byDefault != "" {
		var d time.Duration
		d, err = parseDays(*byDefault)
		c.DefaultSeconds = int64(d / time.Second)
	}
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	return p.run(ctx, path, c, stdout, stderr)
}

func retentionOff(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newRetentionPage("off", "PATH COLLECTION", "Have the records of a collection stay, whatever time they name. What has expired before is deleted first.", `
Example:

  chromad retention off ./chroma docs
`)
	return p.only(ctx, admin.EndRetention, args, stdout, stderr)
}

func retentionHold(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newRetentionPage("hold", "PATH COLLECTION --reason TEXT", "Put a collection under legal hold: nothing that it has is deleted, changed or renamed by anybody, and nothing expires.", `
Example:

  chromad retention hold ./chroma docs --reason "Smith v. Acme, 12 May"

New records are welcome. What was deleted before the hold is erased from the files as ever; make a copy of the
store first where that matters too. The reason is shown to those who may read retentions, and in no error.
`)
	reason := p.String("reason", "", "`text` that says what the hold is for")
	path, c, err := p.parse(args, false)
	c.Do, c.Reason = admin.PlaceHold, *reason
	if err == nil && strings.TrimSpace(*reason) == "" {
		err = errors.New("what is the hold for? write --reason TEXT")
	}
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	return p.run(ctx, path, c, stdout, stderr)
}

func retentionRelease(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newRetentionPage("release", "PATH COLLECTION", "End the legal hold of a collection. What has expired meanwhile is gone at once.", `
Example:

  chromad retention release ./chroma docs
`)
	return p.only(ctx, admin.ReleaseHold, args, stdout, stderr)
}

// only runs a command that takes nothing but a collection.
func (p *retentionPage) only(ctx context.Context, do string, args []string, stdout, stderr io.Writer) int {
	path, c, err := p.parse(args, false)
	if c.Do = do; err != nil {
		return p.refuse(err, stdout, stderr)
	}
	return p.run(ctx, path, c, stdout, stderr)
}
