package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/chromad/chromad/internal/mutant"
)

// InTurn is f for several writers. A sync of a directory that fails may drop
// what others have renamed there, and tells only its own caller; a sync that
// another of them makes afterwards has nothing to write and succeeds. So a
// directory is synced by one caller at a time, and after one sync of it has
// failed all others fail too, until the files are opened anew.
func InTurn(f FS) FS { return &inTurn{FS: f, dirs: map[string]*syncedDir{}} }

type inTurn struct {
	FS
	mu   sync.Mutex
	dirs map[string]*syncedDir
}

type syncedDir struct {
	turn chan struct{} // holds one while the directory is being synced
	lost error
}

// SyncDir implements FS.
func (t *inTurn) SyncDir(dir string) error {
	d := t.dir(dir)
	d.turn <- struct{}{}
	defer func() { <-d.turn }()
	if d.lost != nil && !mutant.On(mutant.DirSyncRetried) {
		// Not of the same kind: a disk that was full, say, and is not any
		// more has not brought the names back.
		return fmt.Errorf("sync directory %s: an earlier sync of it failed (%v)", dir, d.lost)
	}
	err := t.FS.SyncDir(dir)
	if !errors.Is(err, ErrNoHandle) && !errors.Is(err, fs.ErrNotExist) { // then it was not tried
		d.lost = err
	}
	return err
}

func (t *inTurn) dir(name string) *syncedDir {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.dirs[name]
	if d == nil {
		d = &syncedDir{turn: make(chan struct{}, 1)}
		t.dirs[name] = d
	}
	return d
}
