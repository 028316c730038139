package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/chromad/chromad/engine"
)

// maxShown is how many losses of a collection are printed; JSON has them all.
const maxShown = 20

func repairCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newFlagPage("repair", "PATH",
		`Make a new store of what can be read in a damaged one. The damaged store stays as it is.

What a checksum proves is taken, nothing else. Segments that are whole are copied; of the others each record is
saved whose vector, id and metadata can be read, without its document when only that is lost; graphs and indexes
are made anew. The log is applied up to the first gap that may concern a collection: the collection is then what it
was at one time. Without a checkpoint, collections are made of the segments and the log that there are, under
names like "recovered-1a2b3c4d" where the real ones are lost. All that is not in the new store is listed, and the
new store is checked.`, `
Restore a backup if you have one: it has everything up to its day. A repair saves what came after.

Status: 0 nothing is lost, 1 the new store is whole and something is lost, 2 there is no new store.

Examples:

  chromad repair /var/lib/chroma                        makes /var/lib/chroma.repaired
  chromad repair /var/lib/chroma --out /mnt/chroma
  chromad repair /var/lib/chroma --in-place             the damaged store becomes /var/lib/chroma.damaged
  chromad repair /var/lib/chroma --json | jq '.lost[]'

More: docs/operations.md
`)
	out := p.String("out", "", "`directory` of the new store, which must be empty or missing. Without: PATH.repaired")
	inPlace := p.Bool("in-place", false, "give the new store the name of the damaged one, which becomes PATH.damaged")
	keys := p.String("keys", "", keysHelp)
	asJSON := p.Bool("json", false, "print the report as JSON")
	path, err := p.readPath(args)
	if err == nil && *inPlace && *out != "" {
		err = errors.New("--in-place and --out: choose one; --in-place gives the new store the name of the old one")
	}
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	path = filepath.Clean(path)
	to := cmp.Or(*out, path+".repaired")
	var o *engine.Options
	if err = freeNames(path, to, *inPlace); err == nil {
		o, err = storeOptions(ctx, *keys)
	}
	if err != nil {
		return unable(p, path, err, stderr)
	}
	bar := newBar("repair", stderr)
	report, err := recordedRepair(ctx, path, to, o, bar.bytes)
	bar.clear()
	if err != nil {
		return unable(p, path, err, stderr)
	}
	if *inPlace {
		if err := swap(path, to); err != nil {
			return unable(p, path, err, stderr)
		}
		to = path
	}
	if *asJSON {
		err = writeJSON(stdout, report)
	} else {
		_, err = io.WriteString(stdout, repairText(report, path, to, *inPlace))
	}
	if err != nil {
		return unable(p, path, err, stderr)
	}
	if len(report.Lost) > 0 {
		return exitDamage
	}
	return exitOK
}

// freeNames looks before the work whether the names that it will need are free.
func freeNames(path, to string, inPlace bool) error {
	if entries, err := os.ReadDir(to); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is there already and not empty: move it away, or name another directory with --out", to)
	}
	if !inPlace {
		return nil
	}
	if _, err := os.Lstat(path + ".damaged"); err == nil {
		return fmt.Errorf("%s.damaged is there already: move it away first", path)
	}
	return nil
}

// swap gives the new store the name of the old one. Both are whole under some
// name at any time.
func swap(path, repaired string) error {
	if err := os.Rename(path, path+".damaged"); err != nil {
		return err
	}
	if err := os.Rename(repaired, path); err != nil {
		return fmt.Errorf("the damaged store is %s.damaged now, the new one %s: %w", path, repaired, err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// repairText is a report for people.
func repairText(r *engine.RepairReport, path, to string, inPlace bool) string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "store\t%s\n", r.Store)
	fmt.Fprintf(t, "basis\t%s\n", r.Basis)
	for _, c := range r.Collections {
		fmt.Fprintf(t, "collection\t%q: %s; %s copied, %d made anew\n", c.Name, counted(c.Records, "record"), counted(c.Copied, "segment"), c.Rebuilt)
	}
	t.Flush()
	if len(r.Chosen) > 0 {
		b.WriteString("\nChosen:\n")
		for _, text := range r.Chosen {
			fmt.Fprintf(&b, "  %s\n", text)
		}
	}
	writeLosses(&b, r.Lost)
	if inPlace {
		fmt.Fprintf(&b, "\nThe new store is %s and passes its check. The damaged one is %s.damaged.\n", to, path)
	} else {
		fmt.Fprintf(&b, "\nThe new store is %s and passes its check. The damaged one is as it was.\n", to)
	}
	return b.String()
}

func writeLosses(b *strings.Builder, lost []engine.Loss) {
	if len(lost) == 0 {
		b.WriteString("\nNothing is lost.\n")
		return
	}
	fmt.Fprintf(b, "\nLost (%d):\n", len(lost))
	shown := map[string]int{}
	for len(lost) > 0 {
		n := inRow(lost)
		if shown[lost[0].Collection]++; shown[lost[0].Collection] <= maxShown {
			fmt.Fprintf(b, "  %s\n", lossText(lost[:n]))
		}
		lost = lost[n:]
	}
	for _, n := range shown {
		if n > maxShown {
			fmt.Fprintf(b, "  and %d more of one collection; --json lists all\n", n-maxShown)
		}
	}
}

// inRow is how many losses at the front are rows that follow each other.
func inRow(lost []engine.Loss) int {
	n := 1
	for first := lost[0]; n < len(lost) && first.Row >= 0; n++ {
		l := lost[n]
		if l.Collection != first.Collection || l.Segment != first.Segment || l.Row != first.Row+n ||
			l.Text != first.Text || !slices.Equal(l.Parts, first.Parts) {
			break
		}
	}
	return n
}

// lossText is a run of losses in one line: where, which, what.
func lossText(lost []engine.Loss) string {
	l, last := lost[0], lost[len(lost)-1]
	span := func(what, first, last string) string {
		if first == last {
			return what + " " + first
		}
		return what + "s " + first + " to " + last
	}
	var at []string
	if l.Name != "" {
		at = append(at, fmt.Sprintf("collection %q", l.Name))
	}
	if l.Segment > 0 {
		at = append(at, fmt.Sprintf("segment %d", l.Segment))
	}
	if l.Row >= 0 {
		at = append(at, span("row", strconv.Itoa(l.Row), strconv.Itoa(last.Row)))
	}
	if l.ID != "" {
		at = append(at, span("id", strconv.Quote(l.ID), strconv.Quote(last.ID)))
	}
	if l.First > 0 {
		at = append(at, span("log entry", fmt.Sprint(l.First), fmt.Sprint(l.Last)))
	}
	text := l.Text
	if len(l.Parts) > 0 {
		text += " (" + strings.Join(l.Parts, ", ") + ")"
	}
	if len(lost) > 1 {
		text = fmt.Sprintf("%d times: %s", len(lost), text)
	}
	if len(at) == 0 {
		return text
	}
	return strings.ReplaceAll(strings.Join(at, ", "), "log entrys", "log entries") + ": " + text
}
