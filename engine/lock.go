package engine

import (
	"context"
	"fmt"
)

// waitLock is a mutex whose waiters may give up: what it guards is held over
// writes to the disk, which take as long as they take.
type waitLock struct{ held chan struct{} }

func newWaitLock() waitLock { return waitLock{make(chan struct{}, 1)} }

// lock fails when ctx ends before the lock is free.
func (l waitLock) lock(ctx context.Context) error {
	select {
	case l.held <- struct{}{}:
		return nil
	default:
	}
	select {
	case l.held <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Lock waits as long as it takes.
func (l waitLock) Lock() { l.held <- struct{}{} }

// Unlock gives the lock to whoever has waited longest.
func (l waitLock) Unlock() { <-l.held }

// await runs f for a call that has entered the gate, and leaves the gate when
// f is done. When ctx ends first, f is left to itself: it looks at ctx between
// its steps, and a step that hangs in the disk holds up Close, not the caller.
func (db *DB) await(ctx context.Context, f func() error) error {
	if ctx.Done() == nil {
		defer db.leave()
		return f()
	}
	done := make(chan error, 1)
	go func() {
		err := f()
		db.leave()
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err // both had happened
	default:
		return fmt.Errorf("%w: %w", ErrUnknown, context.Cause(ctx))
	}
}
