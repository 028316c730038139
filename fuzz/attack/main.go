package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

// An attack is one thing that somebody may try.
type attack struct {
	name   string
	expect string // what a server that withstands it does
	run    func(*target) error
}

// limits of the process under attack.
const (
	memoryLimit = 256 << 20 // of --memory: soft
	// memoryBound is what the process may hold at its worst, in bytes: the
	// limit, two passwords that are hashed, and the bodies that are read at once.
	memoryBound = 1 << 30
)

var (
	chromad = flag.String("binary", "", "chromad to attack; made from the sources when left out")
	long    = flag.Bool("long", false, "more of everything, and attacks that take minutes")
	timing  = flag.Int("timing", 0, "wrong keys of each kind whose answers are timed; 0: none")
	only    = flag.String("only", "", "attacks whose name holds this `text`")
	seed    = flag.Uint64("seed", 1, "of what is drawn by chance")
)

func main() {
	flag.Parse()
	findings, err := campaign()
	for _, f := range findings {
		fmt.Println("FINDING", f)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "attack:", err)
		os.Exit(2)
	}
	fmt.Printf("%d findings\n", len(findings))
	if len(findings) > 0 {
		os.Exit(1)
	}
}

// campaign runs all attacks against a server of its own.
func campaign() (findings []string, err error) {
	t, err := newTarget(*chromad)
	if err != nil {
		return nil, err
	}
	defer t.remove()
	good := startVisitor(t)
	slow := startSlow(t, *long)
	var all []attack
	for _, some := range [][]attack{rawRequests(), paths(), bodies(), frames(), handshakes(), credentials()} {
		all = append(all, some...)
	}
	for _, a := range append(all, slow) {
		if !strings.Contains(a.name, *only) {
			continue
		}
		begin := time.Now()
		err := a.run(t)
		fmt.Printf("%-7s %-44s %5.1f s  expects: %s\n", map[bool]string{true: "ok", false: "FINDING"}[err == nil], a.name, time.Since(begin).Seconds(), a.expect)
		if err != nil {
			findings = append(findings, fmt.Sprintf("%s (seed %d): %v", a.name, *seed, err))
		}
		if !t.alive() {
			return append(findings, a.name+": the server has ended:\n"+t.logTail()), nil
		}
	}
	served, err := good.stop()
	if err != nil {
		findings = append(findings, "the client that did nothing wrong: "+err.Error())
	}
	peak := t.peakMemory()
	fmt.Printf("the client that did nothing wrong got %d answers, the slowest after %.1f s; the process held %d MiB at its worst\n", served, good.slowest.Seconds(), peak>>20)
	if served == 0 {
		findings = append(findings, "the client that did nothing wrong got no answer")
	}
	if peak > memoryBound {
		findings = append(findings, fmt.Sprintf("memory: %d MiB, at most %d", peak>>20, memoryBound>>20))
	}
	return append(findings, t.end()...), nil
}
