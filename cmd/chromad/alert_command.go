package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/chromad/chromad/server/alert"
	"github.com/chromad/chromad/server/export"
)

// alertsCommands are what chromad alerts does.
func alertsCommands() []subcommand {
	return []subcommand{
		{"test", "CONFIG.yaml", "send a test alert to every target and tell what became of it", alertsTest},
	}
}

// alertsCommand is chromad alerts.
func alertsCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	usage := groupUsage("alerts", "Alerts, and the targets that they are sent to.", alertsCommands(), "\nMore: chromad alerts COMMAND --help, docs/alerts.md\n")
	return group(ctx, "chromad alerts", usage, alertsCommands(), args, stdout, stderr)
}

// testTimeout is how long one target may take for the test alert.
const testTimeout = 15 * time.Second

func alertsTest(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newFlagPage("alerts test", "CONFIG.yaml", `Send a test alert to every target of the setting export, also to those that get no alerts, and tell what
became of it. Status 0: all have taken it. A server need not run, and one that runs is not asked.`, `
Examples:

  chromad alerts test /etc/chromad/chromad.yaml

Over UDP, and to a unix socket of packets, nobody says whether it has arrived: look there.
`)
	rest, err := p.read(args)
	switch {
	case err == nil && len(rest) == 0:
		err = fmt.Errorf("which configuration? name its file: chromad alerts test CONFIG.yaml")
	case err == nil && len(rest) > 1:
		err = fmt.Errorf("%q: one configuration file at a time", rest[1])
	}
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	o := defaultOptions()
	if err := o.readFile(rest[0]); err != nil {
		return p.refuse(err, stdout, stderr)
	}
	if len(o.exports) == 0 {
		return p.fail(fmt.Errorf("%s: there is no target: the setting export names them; alerts go to the log and to /metrics", rest[0]), stderr)
	}
	failed := 0
	for i := range o.exports {
		s := &o.exports[i]
		began := time.Now()
		if err := s.try(ctx); err != nil {
			fmt.Fprintf(stdout, "%s (%s): %v\n", s.Name, s.Type, err)
			failed++
			continue
		}
		fmt.Fprintf(stdout, "%s (%s): sent in %s\n", s.Name, s.Type, time.Since(began).Round(time.Millisecond))
	}
	if failed > 0 {
		return p.fail(fmt.Errorf("%d of %d targets did not take the test alert", failed, len(o.exports)), stderr)
	}
	return exitOK
}

// try sends the test alert to the target, once.
func (s *exportSetting) try(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, testTimeout)
	defer cancel()
	sender, _, err := s.sender(ctx)
	if err != nil {
		return err
	}
	m, err := alert.TestMessage(time.Now())
	if err == nil {
		err = sender.Send(ctx, []export.Message{m})
	}
	if e := sender.Close(); err == nil {
		err = e
	}
	return err
}
