package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/chromad/chromad/engine"
)

// What check and repair end with.
const (
	exitDamage = 1 // something is wrong, or was lost
	exitUnable = 2 // it could not be told: the store is in use, a key is missing, the arguments are wrong
)

const keysHelp = "operator's key of an encrypted store: path of a key file, or a `uri`; see chromad keys"

func checkCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newFlagPage("check", "PATH",
		`Read every byte of a store that no server has open, and tell all that is wrong with it.

Nothing is changed. Every block of every file is compared with its checksum; graphs, filter indexes and
documents are decoded; every record is looked up by its id and searched for by its own vector; and what should
agree is compared: the catalog with the files, indexes with records, segments of a collection with each other.`, `
Findings are damage (something is lost), repairable (an index that can be made again: reads are right and
slower) and note (nothing is wrong, but you may wonder).

Status: 0 nothing is wrong, 1 there is damage or something repairable, 2 it could not be checked.

Examples:

  chromad check /var/lib/chroma
  chromad check /var/lib/chroma --json | jq '.findings[]'
  chromad check /var/lib/chroma --keys file:///etc/chroma.key
  chromad check /var/lib/chroma --quiet || chromad repair /var/lib/chroma

More: docs/operations.md
`)
	keys := p.String("keys", "", keysHelp)
	asJSON := p.Bool("json", false, "print the report as JSON")
	quiet := p.Bool("quiet", false, "print findings of damage and nothing else")
	path, err := p.readPath(args)
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	o, err := storeOptions(ctx, *keys)
	if err != nil {
		return unable(p, path, err, stderr)
	}
	bar := newBar("check", stderr)
	if *quiet {
		bar = nil
	}
	report, err := engine.Check(ctx, path, o, engine.CheckOptions{Progress: bar.bytes})
	bar.clear()
	if err != nil {
		return unable(p, path, err, stderr)
	}
	if *asJSON {
		err = writeJSON(stdout, report)
	} else {
		err = writeReport(stdout, report, *quiet)
	}
	if err != nil {
		return unable(p, path, err, stderr)
	}
	if !report.Clean() {
		return exitDamage
	}
	return exitOK
}

// storeOptions open a store that is looked at.
func storeOptions(ctx context.Context, uri string) (*engine.Options, error) {
	key, err := openKey(ctx, uri)
	opts := offlineOptions(key, 0)
	return &opts, err
}

// unable tells why nothing is known about the store, and what to do.
func unable(p *flagPage, path string, err error, stderr io.Writer) int {
	hint := ""
	switch {
	case errors.Is(err, engine.ErrLocked):
		hint = "; stop the server first, or look at a copy"
	case errors.Is(err, engine.ErrKey):
		hint = "; name the right key with --keys"
	case errors.Is(err, context.Canceled):
		hint = "; stopped by a signal"
	}
	text := strings.TrimPrefix(err.Error(), p.Name()+": ") // the path says it too
	fmt.Fprintf(stderr, "chromad %s: %s: %s%s\n", p.Name(), path, text, hint)
	return exitUnable
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// writeReport prints a report for people.
func writeReport(w io.Writer, r *engine.Report, quiet bool) error {
	var b strings.Builder
	if !quiet {
		writeSummary(&b, r)
	}
	writeFindings(&b, r.Findings, quiet)
	if !quiet {
		b.WriteString(verdict(r))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeSummary(b *strings.Builder, r *engine.Report) {
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	kind := "not encrypted"
	if r.Encrypted {
		kind = "encrypted"
	}
	if r.Store != "" {
		fmt.Fprintf(t, "store\t%s, %s, checkpoint %d\n", r.Store, kind, r.Checkpoint)
	} else {
		fmt.Fprintf(t, "store\tunknown, %s\n", kind)
	}
	fmt.Fprintf(t, "read\t%s, %s\n", bytesText(r.Bytes), counted(r.Files, "file"))
	fmt.Fprintf(t, "found\t%s, %s, %s\n", counted(r.Collections, "collection"), counted(r.Segments, "segment"), counted(int(r.Records), "record"))
	t.Flush()
}

func writeFindings(b *strings.Builder, findings []engine.Finding, quiet bool) {
	for _, f := range findings {
		if quiet && f.Severity == engine.Note {
			continue
		}
		place := f.File
		if f.Offset > 0 {
			place += fmt.Sprintf(" at byte %d", f.Offset)
		}
		if f.Section != "" {
			place += ", " + f.Section
		}
		if f.Name != "" {
			place += fmt.Sprintf(", collection %q", f.Name)
		}
		fmt.Fprintf(b, "\n%s: %s\n    %s\n", f.Severity, strings.TrimPrefix(place, ", "), f.Text)
	}
}

// verdict is the last line.
func verdict(r *engine.Report) string {
	n := map[engine.Severity]int{}
	for _, f := range r.Findings {
		n[f.Severity]++
	}
	notes := ""
	if n[engine.Note] > 0 {
		notes = ", " + counted(n[engine.Note], "note")
	}
	switch {
	case n[engine.Damage] > 0:
		return fmt.Sprintf("\nDAMAGED: %s of damage, %d repairable%s. What can be read is saved by chromad repair; a backup may have it all.\n",
			counted(n[engine.Damage], "finding"), n[engine.Repairable], notes)
	case n[engine.Repairable] > 0:
		return fmt.Sprintf("\nREPAIRABLE: %s%s. Nothing is lost: a server makes these indexes anew when it meets them, and so does chromad repair.\n",
			counted(n[engine.Repairable], "damaged index"), notes)
	}
	return "\nclean: nothing is wrong" + notes + "\n"
}

func counted(n int, what string) string {
	switch {
	case n == 1:
		return "1 " + what
	case strings.HasSuffix(what, "x"):
		return fmt.Sprintf("%d %ses", n, what)
	case strings.HasSuffix(what, "y"):
		return fmt.Sprintf("%d %sies", n, strings.TrimSuffix(what, "y"))
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// bytesText is a number of bytes as people read it.
func bytesText(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 10<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return counted(int(n), "byte")
}
