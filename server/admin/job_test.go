package admin

import (
	"context"
	"errors"
	"testing"
)

// The end of the work is the last line, also when work that was given up
// tells of a step that it was at: who looks late waits for no further one.
func TestLateStep(t *testing.T) {
	w := &job{changed: make(chan struct{})}
	w.tell(Line{Event: Failed}, true)
	w.tell(Line{Event: Progressed}, false)
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("waited for another line"))
	var last Line
	err := w.watch(ended, func(l Line) error { last = l; return nil })
	if err != nil || last.Event != Failed {
		t.Errorf("%+v, %v", last, err)
	}
}
