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
	"syscall"
	"time"
)

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

const usage = `chromad is a vector database that speaks Chroma's HTTP API.

Usage:

  chromad run [CONFIG.yaml] [flags]   start a server
  chromad version                     print the version
  chromad help [run]                  print this text, or that of a command

Try it:

  chromad run --path ./chroma
  curl http://127.0.0.1:8000/api/v2/heartbeat

  import chromadb
  client = chromadb.HttpClient(host="localhost", port=8000)

More: docs/operations.md (flags, limits, signals), docs/compatibility.md (what differs from Chroma).
`

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
		fmt.Fprint(stderr, usage)
		return exitUsage
	}
	switch args[0] {
	case "run":
		return runCommand(ctx, args[1:], stdout, stderr)
	case "version", "--version", "-version", "-v":
		fmt.Fprintln(stdout, versionText())
		return exitOK
	case "help", "--help", "-help", "-h":
		if len(args) > 1 && args[1] == "run" {
			return runCommand(ctx, []string{"--help"}, stdout, stderr)
		}
		fmt.Fprint(stdout, usage)
		return exitOK
	}
	fmt.Fprintf(stderr, "chromad: unknown command %q%s; the commands are run, version and help\n",
		args[0], suggestion(args[0], []string{"run", "version", "help"}))
	return exitUsage
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
