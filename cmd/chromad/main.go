package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// subcommand is one word behind chromad.
type subcommand struct {
	name  string
	args  string // as the synopsis shows them
	short string // what it does, in a few words
	run   func(ctx context.Context, args []string, stdout, stderr io.Writer) int
}

// commands are what chromad does, in the order in which its help lists them.
// Each answers --help itself.
func commands() []subcommand {
	return []subcommand{
		{"run", "[CONFIG.yaml] [flags]", "start a server", runCommand},
		{"check", "PATH [flags]", "read a whole store and tell what is wrong", checkCommand},
		{"inspect", "PATH [VIEW] [flags]", "show what the files of a store hold", inspectCommand},
		{"repair", "PATH [flags]", "make a new store of what can be read", repairCommand},
		{"keys", "COMMAND", "keys of encrypted stores: create, list, rotate, encrypt, rewrap, public, destroy", keysCommand},
		{"audit", "COMMAND", "who did what, and what was refused: tail, search, verify, export", auditCommand},
		{"users", "COMMAND", "who may do what: add, list, key, rotate, revoke, password, certificates, grant, ungrant, attributes, limits, disable, enable, remove, export, import", usersCommand},
		{"privacy", "COMMAND", "what may be stored of people: show, set, test, rotate, reveal", privacyCommand},
		{"retention", "COMMAND", "how long records are kept, and legal holds: show, set, off, hold, release", retentionCommand},
		{"alerts", "COMMAND", "alerts and their targets: test", alertsCommand},
		{"certs", "COMMAND", "certificates for trying TLS out: dev", certsCommand},
		{"compact", "PATH [flags]", "give the space of deleted records back", compactCommand},
		{"receipts", "PATH [flags]", "list the receipts of what was erased", receiptsCommand},
		{"verify-erasure", "RECEIPT [flags]", "check a receipt, and look for what it says is gone", verifyErasureCommand},
		{"ping", "[URL] [flags]", "ask a server whether it takes writes", pingCommand},
		{"version", "", "print the version", versionCommand},
	}
}

// usage is the text of chromad help.
func usage() string {
	var b strings.Builder
	b.WriteString("chromad is a vector database that speaks Chroma's HTTP API.\n\nUsage:\n\n")
	for _, c := range append(commands(), subcommand{name: "help", args: "[COMMAND]", short: "print this text, or that of a command"}) {
		fmt.Fprintf(&b, "  %-35s %s\n", strings.TrimSpace("chromad "+c.name+" "+c.args), c.short)
	}
	b.WriteString(`
Try it:

  chromad run --path ./chroma
  curl http://127.0.0.1:8000/api/v2/heartbeat

  import chromadb
  client = chromadb.HttpClient(host="localhost", port=8000)

More: docs/operations.md (flags, limits, signals), docs/compatibility.md (what differs from Chroma).
`)
	return b.String()
}

// sameSignal is how long after the first signal another one counts as the
// same: timeout(1), supervisors and terminals may signal a process and its
// group, and both reach it.
const sameSignal = 250 * time.Millisecond

func main() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go watch(signals, time.Now, stop, func() {
		fmt.Fprintln(os.Stderr, "chromad: second signal, leaving at once; the log keeps what was acknowledged")
		os.Exit(exitFailed)
	})
	os.Exit(command(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// watch calls stop for the first signal and leave for the second.
func watch(signals <-chan os.Signal, now func() time.Time, stop, leave func()) {
	<-signals
	first := now()
	stop()
	for range signals {
		if now().Sub(first) > sameSignal {
			leave()
			return
		}
	}
}

// command runs what the arguments say and returns the exit status.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage())
		return exitUsage
	}
	name, rest := args[0], args[1:]
	switch name {
	case "--version", "-version", "-v":
		name = "version"
	case "help", "--help", "-help", "-h":
		if len(rest) == 0 {
			fmt.Fprint(stdout, usage())
			return exitOK
		}
		name, rest = rest[0], append(slices.Clone(rest[1:]), "--help")
	}
	return dispatch(ctx, "chromad", commands(), name, rest, stdout, stderr)
}

// group runs a command that has commands of its own. name is what stands
// before them on the command line, usage the text that lists them.
func group(ctx context.Context, name, usage string, table []subcommand, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return exitUsage
	}
	word, rest := args[0], args[1:]
	if word == "help" || strings.TrimLeft(word, "-") == "help" || word == "-h" {
		if len(rest) == 0 {
			fmt.Fprint(stdout, usage)
			return exitOK
		}
		word, rest = rest[0], []string{"--help"}
	}
	return dispatch(ctx, name, table, word, rest, stdout, stderr)
}

// dispatch runs the row of the table that has the name. parent is what stands
// before it on the command line.
func dispatch(ctx context.Context, parent string, table []subcommand, name string, args []string, stdout, stderr io.Writer) int {
	var names []string
	for _, c := range table {
		if c.name == name {
			return c.run(ctx, args, stdout, stderr)
		}
		names = append(names, c.name)
	}
	fmt.Fprintf(stderr, "%s: unknown command %q%s; the commands are %s; see %s --help\n",
		parent, name, suggestion(name, names), strings.Join(names, ", "), parent)
	return exitUsage
}

func versionCommand(_ context.Context, _ []string, stdout, _ io.Writer) int {
	fmt.Fprintln(stdout, versionText())
	return exitOK
}

func runCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseOptions(args)
	switch {
	case errors.Is(err, errHelp):
		fmt.Fprint(stdout, runHelp())
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "chromad run: %v\n", err)
		return exitUsage
	}
	if err := run(ctx, o, stderr); err != nil {
		fmt.Fprintf(stderr, "chromad run: %v\n", err)
		return exitFailed
	}
	return exitOK
}

// versionText names the build: the module's version or the commit it was made from.
func versionText() string {
	version, commit := "(unknown)", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		version = info.Main.Version
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				commit = " commit " + s.Value
			}
		}
	}
	return fmt.Sprintf("chromad %s%s %s %s/%s", version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
