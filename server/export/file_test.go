package export

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func lines(t *testing.T, path string) (rows []int) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var e struct{ Rows int }
		if !strings.HasSuffix(line, "\n") {
			t.Errorf("%s: a line without an end", path)
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		rows = append(rows, e.Rows)
	}
	return rows
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	m := messages(t, event(1))
	size := int64(len(m[0].JSON) + 1)
	s, err := NewFile(File{Path: path, Size: 3 * size, Keep: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for n := range int64(11) {
		e := event(n%9 + 1) // numbers of one digit
		mustSend(t, s, messages(t, e))
	}
	for name, want := range map[string][]int{path: {1, 2}, path + ".1": {7, 8, 9}, path + ".2": {4, 5, 6}} {
		if got := lines(t, name); len(got) != len(want) || got[0] != want[0] {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
		if i, err := os.Stat(name); err != nil || i.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, i.Mode(), err)
		}
	}
	if _, err := os.Stat(path + ".3"); err == nil {
		t.Error("more files than are to be kept")
	}
	// logrotate moves the file away, and another time removes it.
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	mustSend(t, s, messages(t, event(3)))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	mustSend(t, s, messages(t, event(4), event(5)))
	if got := lines(t, path+".moved"); len(got) != 2 {
		t.Errorf("moved: %v", got)
	}
	if got := lines(t, path); len(got) != 2 || got[0] != 4 {
		t.Errorf("new: %v", got)
	}
	// logrotate moves it away and makes another.
	if err := errors.Join(os.Rename(path, path+".again"), os.WriteFile(path, nil, 0o640)); err != nil {
		t.Fatal(err)
	}
	mustSend(t, s, messages(t, event(5))) // which the old one would have room for
	if got := lines(t, path+".again"); len(got) != 2 {
		t.Errorf("moved again: %v", got)
	}
	if got := lines(t, path); len(got) != 1 || got[0] != 5 {
		t.Errorf("made by another: %v", got)
	}
	// What is there is added to.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := NewFile(File{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	mustSend(t, again, messages(t, event(6)))
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if got := lines(t, path); len(got) != 2 {
		t.Errorf("after a restart: %v", got)
	}
}

// Only regular files are written to: a link leads elsewhere, a pipe blocks.
func TestFileRefused(t *testing.T) {
	dir := t.TempDir()
	link, socket := filepath.Join(dir, "link"), filepath.Join(dir, "socket")
	if err := os.Symlink(filepath.Join(dir, "target"), link); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, f := range []File{{}, {Path: dir}, {Path: link}, {Path: socket}, {Path: filepath.Join(dir, "none", "x")}, {Path: filepath.Join(dir, "x"), Size: -1}, {Path: filepath.Join(dir, "x"), Keep: -1}} {
		if _, err := NewFile(f); err == nil {
			t.Errorf("%+v is written to", f)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "target")); err == nil {
		t.Error("the link was followed")
	}
}
