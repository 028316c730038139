package vfs_test

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// After a sync of a directory has failed no other is believed, of any kind of
// failure that may have lost names; other directories go on.
func TestInTurn(t *testing.T) {
	for _, tc := range []struct {
		err   error
		loses bool
	}{{nil, true}, {vfs.ErrNoSpace, true}, {vfs.ErrNoHandle, false}} {
		mem := faultfs.New(1)
		f := vfs.InTurn(mem)
		must(t, f.Mkdir("a"), f.Mkdir("b"), f.SyncDir("."), f.SyncDir("a"))
		mem.Inject(faultfs.Rule{Op: faultfs.OpSyncDir, Path: "a", Err: tc.err})
		first, second := f.SyncDir("a"), f.SyncDir("a")
		if first == nil || tc.err != nil && !errors.Is(first, tc.err) {
			t.Errorf("%v: the sync that fails: %v", tc.err, first)
		}
		if (second != nil) != tc.loses || errors.Is(second, vfs.ErrNoSpace) {
			t.Errorf("%v: the sync after it: %v", tc.err, second)
		}
		must(t, f.SyncDir("b"), f.SyncDir("."), vfs.InTurn(mem).SyncDir("a"))
		is(t, "a directory that is not there", f.SyncDir("c"), fs.ErrNotExist)
		must(t, f.Mkdir("c"), f.SyncDir("c"))
	}
}
