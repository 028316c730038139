package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/chromad/chromad/engine"
)

// views are what inspect can show.
var views = []string{"summary", "collections", "checkpoints", "segments", "log"}

func inspectCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newFlagPage("inspect", "PATH [VIEW [NUMBER]]",
		`Show what the files of a store hold. Nothing is changed, and a server may have the store open.

Views:

  summary         identity, generation, encryption, sizes (the default)
  collections     collections with their records, segments and keys
  checkpoints     checkpoints
  segments [N]    segments; with a number, the sections of that one
  log [N]         files of the log; with a number, the frames of that one`, `
Of an encrypted store without --keys you see what headers and names tell. Inspect does not judge: check does.

Examples:

  chromad inspect /var/lib/chroma
  chromad inspect /var/lib/chroma segments 12
  chromad inspect /var/lib/chroma log 3 --hex          fields with offsets, as docs/format draws them
  chromad inspect /var/lib/chroma --json | jq '.collections[].records'

More: docs/operations.md, docs/format
`)
	keys := p.String("keys", "", keysHelp)
	asJSON := p.Bool("json", false, "print all views as JSON")
	hex := p.Bool("hex", false, "print the fields of the files of a view: offset, bytes, name, meaning")
	rest, err := p.read(args)
	var path, view string
	var number uint64
	if err == nil {
		path, view, number, err = viewOf(rest)
	}
	if err == nil && *hex && !slices.Contains([]string{"checkpoints", "segments", "log"}, view) {
		err = errors.New("--hex is for files: name a view, checkpoints, segments or log")
	}
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	o, err := storeOptions(ctx, *keys)
	if err != nil {
		return unable(p, path, err, stderr)
	}
	v, err := engine.Inspect(ctx, path, o)
	if err != nil {
		return unable(p, path, err, stderr)
	}
	if number > 0 && !slices.Contains(numbersOf(v, view), number) {
		return unable(p, path, fmt.Errorf("there is no file %d in %s", number, view), stderr)
	}
	switch {
	case *hex:
		err = writeHex(ctx, stdout, path, o, filesOf(v, view, number), *asJSON)
	case *asJSON:
		err = writeJSON(stdout, v)
	default:
		_, err = io.WriteString(stdout, viewText(v, view, number))
	}
	if err != nil {
		return unable(p, path, err, stderr)
	}
	return exitOK
}

// viewOf reads what stands beside the flags.
func viewOf(rest []string) (path, view string, number uint64, err error) {
	view = views[0]
	if len(rest) == 0 || rest[0] == "" {
		return "", "", 0, errors.New("which store? name its directory: chromad inspect PATH; see chromad inspect --help")
	}
	path = rest[0]
	if len(rest) > 1 {
		if view = rest[1]; !slices.Contains(views, view) {
			return "", "", 0, fmt.Errorf("unknown view %q%s; the views are %s", view, suggestion(view, views), strings.Join(views, ", "))
		}
	}
	if len(rest) > 2 {
		if number, err = strconv.ParseUint(rest[2], 10, 64); err != nil || number == 0 || view != "segments" && view != "log" {
			return "", "", 0, fmt.Errorf("%q: a number goes with segments and log, and counts from 1", rest[2])
		}
	}
	if len(rest) > 3 {
		return "", "", 0, fmt.Errorf("%q: one view at a time", rest[3])
	}
	return path, view, number, nil
}

func filesOf(v *engine.Inspection, view string, number uint64) (files []engine.FileView) {
	switch view {
	case "checkpoints":
		files = v.Checkpoints
	case "segments":
		for _, s := range v.Segments {
			files = append(files, s.FileView)
		}
	case "log":
		for _, l := range v.Log {
			files = append(files, l.FileView)
		}
	}
	return slices.DeleteFunc(slices.Clone(files), func(f engine.FileView) bool { return number > 0 && f.Number != number })
}

func numbersOf(v *engine.Inspection, view string) (numbers []uint64) {
	for _, f := range filesOf(v, view, 0) {
		numbers = append(numbers, f.Number)
	}
	return numbers
}

// maxHex is how many bytes of a field are printed.
const maxHex = 16

func writeHex(ctx context.Context, w io.Writer, path string, o *engine.Options, files []engine.FileView, asJSON bool) error {
	all := map[string][]engine.Field{}
	for _, f := range files {
		fields, err := engine.InspectFile(ctx, path, o, f.Name)
		if err != nil {
			return err
		}
		if all[f.Name] = fields; asJSON {
			continue
		}
		fmt.Fprintf(w, "%s\n", f.Name)
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		for _, field := range fields {
			digits := field.Hex
			if len(digits) > 2*maxHex {
				digits = digits[:2*maxHex] + "…"
			}
			fmt.Fprintf(t, "%d\t  %-33s  %-12s  %s\n", field.Offset, digits, field.Name, field.Meaning)
		}
		if err := t.Flush(); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	if asJSON {
		return writeJSON(w, all)
	}
	return nil
}

// viewText is a view for people.
func viewText(v *engine.Inspection, view string, number uint64) string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	switch view {
	case "summary":
		summaryView(t, v)
	case "collections":
		collectionsView(t, v)
	case "checkpoints":
		fmt.Fprint(t, "NUMBER\tBYTES\tKEY\tFILE\n")
		for _, f := range v.Checkpoints {
			fmt.Fprintf(t, "%d\t%d\t%s\t%s\n", f.Number, f.Bytes, generationText(f.Key), f.File)
		}
	case "segments":
		segmentsView(t, v, number)
	case "log":
		logView(t, v, number)
	}
	t.Flush()
	for _, problem := range v.Problems {
		fmt.Fprintf(&b, "\nnot shown: %s\n", problem)
	}
	return b.String()
}

func summaryView(w io.Writer, v *engine.Inspection) {
	fmt.Fprintf(w, "store\t%s\ngeneration\t%d\n", v.Store, v.Generation)
	switch {
	case !v.Encrypted:
		fmt.Fprint(w, "encrypted\tno\n")
	case v.Readable:
		fmt.Fprintf(w, "encrypted\tyes, operator's key %q\n", v.OperatorKey)
	default:
		fmt.Fprintf(w, "encrypted\tyes, operator's key %q, which was not given: headers only\n", v.OperatorKey)
	}
	records, live := 0, 0
	for _, c := range v.Collections {
		records, live = records+c.Records, live+len(c.Segments)
	}
	if v.Readable {
		fmt.Fprintf(w, "holds\t%s, %s, %s\n", counted(len(v.Collections), "collection"), counted(records, "record"), counted(live, "segment"))
	}
	for _, s := range v.Sizes {
		fmt.Fprintf(w, "%s/\t%s, %s\n", s.Directory, bytesText(s.Bytes), counted(s.Files, "file"))
	}
}

func collectionsView(w io.Writer, v *engine.Inspection) {
	fmt.Fprint(w, "NAME\tDATABASE\tRECORDS\tIN LOG\tDIMENSION\tMETRIC\tSEGMENTS\tBYTES\tKEYS\tEXPIRES BY\tHELD SINCE\tID\n")
	for _, c := range v.Collections {
		fmt.Fprintf(w, "%q\t%q\t%d\t%d\t%d\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", c.Name, c.Tenant+"/"+c.Database, c.Records, c.InLog, c.Dimension, c.Metric,
			numbersText(c.Segments), c.Bytes, numbersText(c.Generations), quotedText(c.ExpiresBy), cmp.Or(c.HeldSince, "-"), c.ID)
	}
}

func segmentsView(w io.Writer, v *engine.Inspection, number uint64) {
	if number == 0 {
		fmt.Fprint(w, "NUMBER\tBYTES\tROWS\tDEAD\tORDERS\tKEY\tCOLLECTION\n")
	}
	for _, s := range v.Segments {
		of := strconv.Quote(s.Of)
		if s.Of == "" {
			of = s.Collection
		}
		switch {
		case number == 0:
			fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%d-%d\t%s\t%s\n", s.Number, s.Bytes, s.Rows, s.Dead, s.FirstOrder, s.LastOrder, generationText(s.Key), of)
		case number == s.Number:
			fmt.Fprintf(w, "file\t%s\nid\t%s\ncollection\t%s\nrows\t%d, %d dead\nkey\t%s\nindex\t%s\n\n", s.Name, s.File, of, s.Rows, s.Dead, generationText(s.Key), indexText(s.Index))
			fmt.Fprint(w, "SECTION\tKIND\tOFFSET\tBYTES\tBLOCKS\tBLOCK SIZE\n")
			for _, p := range s.Sections {
				fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\n", p.Name, p.Kind, p.Offset, p.Bytes, p.Blocks, p.BlockSize)
			}
		}
	}
}

func logView(w io.Writer, v *engine.Inspection, number uint64) {
	if number == 0 {
		fmt.Fprint(w, "NUMBER\tBYTES\tEPOCH\tFIRST\tFRAMES\tKEY\tENTRIES\n")
	}
	for _, l := range v.Log {
		switch {
		case number == 0:
			fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%d\t%s\t%s\n", l.Number, l.Bytes, l.Epoch, l.First, len(l.Frames), generationText(l.Key), engine.KindsText(l.Kinds))
		case number == l.Number:
			fmt.Fprintf(w, "file\t%s\nid\t%s\nepoch\t%d\nkey\t%s\n\n", l.Name, l.File, l.Epoch, generationText(l.Key))
			fmt.Fprint(w, "FRAME\tOFFSET\tBYTES\tFIRST\tENTRIES\n")
			for _, f := range l.Frames {
				fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%s\n", f.Index, f.Offset, f.Bytes, f.First, engine.KindsText(f.Kinds))
			}
		}
	}
}

func indexText(x *engine.IndexView) string {
	if x == nil {
		return "none: rows are compared one by one"
	}
	if x.CodeBits == 32 {
		return fmt.Sprintf("graph with M %d over the vectors; %d bytes are kept in memory", x.M, x.Bytes)
	}
	return fmt.Sprintf("graph with M %d over codes of %d bits a number, %d bytes a row; %d bytes are kept in memory", x.M, x.CodeBits, x.CodeBytes, x.Bytes)
}

func generationText(key uint32) string {
	if key == 0 {
		return "none"
	}
	return strconv.FormatUint(uint64(key), 10)
}

// numbersText is numbers in one word, the first few of many.
func numbersText[T uint32 | uint64](numbers []T) string {
	if len(numbers) == 0 {
		return "-"
	}
	var parts []string
	for _, n := range numbers[:min(len(numbers), 5)] {
		parts = append(parts, fmt.Sprint(n))
	}
	if len(numbers) > 5 {
		parts = append(parts, fmt.Sprintf("… (%d)", len(numbers)))
	}
	return strings.Join(parts, ",")
}
