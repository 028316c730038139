package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
)

// flagPage is what a command takes, and its help.
type flagPage struct {
	*flag.FlagSet
	args  string // what stands before the flags, as "PATH"
	short string // one sentence or more: what it does
	more  string // examples and what to know, below the flags
}

// newFlagPage makes a page without flags. name is what stands behind chromad.
func newFlagPage(name, args, short, more string) *flagPage {
	p := &flagPage{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError), args: args, short: short, more: more}
	p.SetOutput(io.Discard)
	p.Usage = func() {}
	return p
}

// read sets what flags say and returns the other arguments, which may stand
// before, between and behind them.
func (p *flagPage) read(args []string) (rest []string, err error) { return parseFlags(p.FlagSet, args) }

// readPath is read for a command that takes the directory of a store.
func (p *flagPage) readPath(args []string) (path string, err error) {
	rest, err := p.read(args)
	switch {
	case err != nil:
		return "", err
	case len(rest) == 0 || rest[0] == "":
		return "", fmt.Errorf("which store? name its directory: chromad %s PATH; see chromad %s --help", p.Name(), p.Name())
	case len(rest) > 1:
		return "", fmt.Errorf("%q: one store at a time, and %q is one already", rest[1], rest[0])
	}
	return rest[0], nil
}

// refuse answers an error of the arguments, which may be the wish for help,
// and returns the exit status.
func (p *flagPage) refuse(err error, stdout, stderr io.Writer) int {
	if errors.Is(err, errHelp) {
		fmt.Fprint(stdout, p.help())
		return exitOK
	}
	fmt.Fprintf(stderr, "chromad %s: %v\n", p.Name(), err)
	return exitUsage
}

// fail tells why the command did not do what it was to, and returns the exit status.
func (p *flagPage) fail(err error, stderr io.Writer) int {
	fmt.Fprintf(stderr, "chromad %s: %s\n", p.Name(), keyText(err))
	return exitFailed
}

func (p *flagPage) help() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nUsage:\n\n  %s [flags]\n\nFlags:\n\n", p.short, strings.TrimSpace("chromad "+p.Name()+" "+p.args))
	writeFlags(&b, p.FlagSet)
	b.WriteString(p.more)
	return b.String()
}

// groupUsage is the help of a command with others behind it: what they are
// about, one line for each, and what else to know.
func groupUsage(name, about string, commands []subcommand, more string) string {
	width := 0
	for _, c := range commands {
		width = max(width, len(c.name)+1+len(c.args))
	}
	var b strings.Builder
	b.WriteString(about + "\n\nUsage:\n\n")
	for _, c := range commands {
		fmt.Fprintf(&b, "  chromad %s %-*s  %s\n", name, width, c.name+" "+c.args, c.short)
	}
	b.WriteString(more)
	return b.String()
}

// parseFlags sets flags wherever they stand, and returns the other arguments.
func parseFlags(f *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if err := f.Parse(args); err != nil {
			return nil, flagError(f, err)
		}
		if f.NArg() == 0 {
			return rest, nil
		}
		rest = append(rest, f.Arg(0))
		args = f.Args()[1:]
	}
}

// errHelp says that help was asked for.
var errHelp = errors.New("help")

// flagError says what is wrong with a flag and what may have been meant.
func flagError(f *flag.FlagSet, err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return errHelp
	}
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		var names []string
		f.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
		return fmt.Errorf("unknown flag --%s%s; see chromad %s --help", strings.TrimPrefix(name, "-"), suggestion(name, names), f.Name())
	}
	return fmt.Errorf("%s; see chromad %s --help", strings.ReplaceAll(text, " -", " --"), f.Name())
}

// writeFlags lists the flags of a set, one on each line.
func writeFlags(b *strings.Builder, f *flag.FlagSet) {
	f.VisitAll(func(f *flag.Flag) {
		value, text := flag.UnquoteUsage(f)
		line := "  --" + f.Name
		if len(f.Name) == 1 {
			line = "  -" + f.Name
		}
		if value != "" {
			line += " " + strings.ToUpper(value)
		}
		fmt.Fprintf(b, "%-25s %s", line, text)
		if f.DefValue != "" && f.DefValue != "0" && f.DefValue != "false" {
			fmt.Fprintf(b, " (%s)", f.DefValue)
		}
		b.WriteByte('\n')
	})
}
