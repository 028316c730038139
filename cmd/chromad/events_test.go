package main

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/chromad/chromad/engine"
)

// Only a store that accepts no more writes ends the process; both are logged.
func TestFailedStoreEndsTheProcess(t *testing.T) {
	var log bytes.Buffer
	ended := 0
	e := events(slog.New(slog.NewTextHandler(&log, nil)), func() { ended++ }, nil)
	e.Error(engine.ErrorEvent{Op: "flush", Err: errors.New("the disk is full")})
	if ended != 0 {
		t.Error("the process ends because the disk is full")
	}
	e.Error(engine.ErrorEvent{Op: "write", Err: errors.New("a sync failed"), Failed: true})
	if ended != 1 {
		t.Error("the process goes on after the store has failed")
	}
	if got := log.String(); !strings.Contains(got, "the disk is full") || !strings.Contains(got, "writes_refused=true") {
		t.Errorf("logged: %s", got)
	}
}
