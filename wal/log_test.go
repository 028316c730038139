package wal

import (
	"context"
	"fmt"
	"testing"

	"github.com/chromad/chromad/internal/vfs"
)

// replayAll opens the log's entries as strings.
func replayAll(t *testing.T, l *Log) (got []string) {
	t.Helper()
	for e, err := range l.Replay() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%v %s", e.Position, e.Payload))
	}
	return got
}

func TestReopen(t *testing.T) {
	fs, err := vfs.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for round := range 5 {
		l, err := Open(fs, Position{}, Options{MaxFile: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if got := replayAll(t, l); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("round %d: %v, want %v", round, got, want)
			}
		}
		for i := range round * 5 {
			p := fmt.Sprintf("entry %d of %d", i, round)
			at, err := l.Commit(context.Background(), []byte(p))
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, fmt.Sprintf("%v %s", at, p))
		}
		if got := replayAll(t, l); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("round %d, live: %v, want %v", round, got, want)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
