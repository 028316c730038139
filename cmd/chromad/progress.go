package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/chromad/chromad/server/admin"
)

// progress shows how far work is: as JSON lines on the output, as a bar on a
// terminal, else as a line for every tenth.
type progress struct {
	what     string // "rotating keys"
	out, err io.Writer
	json     bool
	bar      *bar // nil: not on a terminal
	now      func() time.Time
	began    time.Time
	tenth    int
}

func newProgress(what string, asJSON bool, stdout, stderr io.Writer) *progress {
	return &progress{what: what, out: stdout, err: stderr, json: asJSON, bar: newBar(what, stderr), now: time.Now, began: time.Now(), tenth: -1}
}

// bar is a progress bar on a terminal. A few lines of code are no reason for
// another dependency. A nil one draws nothing.
type bar struct {
	w     io.Writer
	name  string
	drawn bool // it is on the screen
	last  time.Time
}

// newBar makes a bar, or nil where w cannot draw over a line.
func newBar(name string, w io.Writer) *bar {
	if !onTerminal(w) {
		return nil
	}
	return &bar{w: w, name: name}
}

func (b *bar) draw(share float64, text string) {
	const width = 24
	full := int(share * width)
	fmt.Fprintf(b.w, "\r\x1b[K%s [%s%s] %s", b.name, strings.Repeat("#", full), strings.Repeat("-", width-full), text)
	b.drawn = true
}

// bytes draws how many bytes are done, ten times a second at most: it is told
// of every block.
func (b *bar) bytes(done, total int64) {
	if b == nil || total <= 0 || time.Since(b.last) < 100*time.Millisecond {
		return
	}
	b.last = time.Now()
	share := min(1, float64(done)/float64(total))
	b.draw(share, fmt.Sprintf("%3.0f%%  of %s", 100*share, bytesText(total)))
}

// clear takes the bar off the screen.
func (b *bar) clear() {
	if b != nil && b.drawn {
		fmt.Fprint(b.w, "\r\x1b[K")
		b.drawn = false
	}
}

// onTerminal tells whether w is a terminal that can draw over a line.
func onTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

// show is given every line of the work.
func (p *progress) show(l admin.Line) {
	if p.json {
		p.line(l)
		return
	}
	if l.Event == admin.Began && l.Joined {
		fmt.Fprintf(p.err, "%s: it is under way already; watching\n", p.what)
	}
	if l.Progress == nil || l.Segments == 0 {
		return
	}
	share := 1.0
	if l.Bytes > 0 {
		share = min(1, float64(l.BytesDone)/float64(l.Bytes))
	}
	text := fmt.Sprintf("%3.0f%%  %s of %s, %d of %s%s", 100*share, bytesText(l.BytesDone), bytesText(l.Bytes),
		l.SegmentsDone, counted(l.Segments, "segment"), p.left(share))
	if p.bar != nil {
		p.bar.draw(share, text)
	} else if tenth := int(10 * share); tenth > p.tenth {
		p.tenth = tenth
		fmt.Fprintf(p.err, "%s: %s\n", p.what, strings.TrimSpace(text))
	}
}

// left is a guess at the time that remains; none before there is ground for one.
func (p *progress) left(share float64) string {
	took := p.now().Sub(p.began)
	if share < 0.02 || share >= 1 || took < 2*time.Second {
		return ""
	}
	return fmt.Sprintf(", about %s left", time.Duration(float64(took)*(1-share)/share).Round(time.Second))
}

// end tells how it ended; done is what to say of success.
func (p *progress) end(err error, done string) {
	if p.bar != nil && p.bar.drawn {
		fmt.Fprintln(p.err)
	}
	switch {
	case p.json && err != nil:
		p.line(admin.Line{Event: admin.Failed, Error: err.Error()})
	case p.json:
		p.line(admin.Line{Event: admin.Done})
	case err == nil:
		fmt.Fprintln(p.out, done)
	}
}

func (p *progress) line(l admin.Line) {
	_ = json.NewEncoder(p.out).Encode(l) // who listens may have left; the work matters more
}

// took is the time since the work began, for the last line.
func (p *progress) took() string {
	d := p.now().Sub(p.began)
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(time.Second / 10).String()
}
