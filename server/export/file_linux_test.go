package export

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A disk that is full in the middle of a batch leaves no torn line, and the batch
// is there once when there is room again.
func TestFileFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	s, err := NewFile(File{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	mustSend(t, s, messages(t, event(1)))
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	full := before
	full.Cur = uint64(2*st.Size() + 10) // room for the second line, and a part of the third
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &full); err != nil {
		t.Fatal(err)
	}
	batch := messages(t, event(2), event(3))
	err = s.Send(t.Context(), batch)
	if e := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); e != nil {
		t.Fatal(e)
	}
	if err == nil {
		t.Fatal("the disk was not full")
	}
	if got := lines(t, path); len(got) != 1 {
		t.Errorf("%v is left", got)
	}
	mustSend(t, s, batch)
	if got := lines(t, path); len(got) != 3 || got[2] != 3 {
		t.Errorf("%v", got)
	}
}
