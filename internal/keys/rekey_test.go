package keys

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"

	"github.com/chromad/chromad/internal/keys/keytest"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// busyKey is an operator's key in a service: during is what others do while it
// answers.
type busyKey struct {
	*keytest.Operator
	during func()
}

func (b *busyKey) EncryptWithContext(ctx context.Context, p, ad []byte) ([]byte, error) {
	b.during()
	return b.Operator.EncryptWithContext(ctx, p, ad)
}

func (b *busyKey) DecryptWithContext(ctx context.Context, c, ad []byte) ([]byte, error) {
	b.during()
	return b.Operator.DecryptWithContext(ctx, c, ad)
}

// isFree tells that nobody holds what every change of data keys takes.
func isFree(t *testing.T, r *Ring) bool {
	t.Helper()
	if !r.change.TryLock() {
		t.Error("held while the operator's key is asked")
		return false
	}
	r.change.Unlock()
	return true
}

// TestSlowOperator: collections are made and destroyed while the operator's
// key is asked to wrap another keyset, and neither is lost.
func TestSlowOperator(t *testing.T) {
	ctx := context.Background()
	fsys := faultfs.New(1)
	r := mustCreate(t, fsys, "a")
	if err := r.setConverting(ctx, true); err != nil {
		t.Fatal(err)
	}
	collections := 0
	var made, destroyed []letter
	during := func() {
		if !isFree(t, r) {
			return
		}
		id := numbered(collections)
		collections++
		if err := r.NewCollection(id); err != nil {
			t.Error(err)
			return
		}
		l := mustWrite(t, r, addressIn(id, 1))
		if collections%2 == 1 {
			made = append(made, l)
			return
		}
		destroyed = append(destroyed, l)
		if gone, err := r.Destroy(id); err != nil || len(gone) != 1 {
			t.Errorf("destroyed %v, %v", gone, err)
		}
	}
	rotated := func() error {
		for id := range r.Collections() {
			if err := errors.Join(renew(r, id), r.Drop(id, 1)); err != nil {
				return err
			}
		}
		return errors.Join(renew(r, seal.ID{}), r.Drop(seal.ID{}, 1))
	}
	for _, c := range []struct {
		name string
		do   func() error
	}{
		{"Rewrap", func() error { return r.Rewrap(ctx, &busyKey{keytest.New("b"), during}) }},
		{"AddPrimary", func() error { return r.AddPrimary(ctx) }},
		{"Retire", func() error {
			made = nil // what was written under keys that rotated drops
			if err := rotated(); err != nil {
				return err
			}
			destroyed = nil
			_, err := r.Retire(ctx)
			return err
		}},
		{"Settle", func() error { return r.Settle(ctx) }},
	} {
		number := r.Keyset().Number
		if err := c.do(); err != nil || r.Keyset().Number != number+1 {
			t.Fatalf("%s: keyset %d after %d, %v", c.name, r.Keyset().Number, number, err)
		}
		again := mustOpen(t, fsys, "b")
		if len(made) == 0 || len(destroyed) == 0 {
			t.Fatalf("%s: nothing went on meanwhile", c.name)
		}
		mustRead(t, again, made...)
		for _, l := range destroyed {
			if err := l.read(again); !errors.Is(err, ErrShredded) {
				t.Errorf("%s: of a destroyed collection: %v", c.name, err)
			}
		}
	}
	if k := r.Keyset(); len(k.Keys) != 1 || k.Converting {
		t.Errorf("left: %+v", k)
	}
}

func renew(r *Ring, id seal.ID) error {
	_, err := r.Renew(id)
	return err
}

// TestClosedMeanwhile: a ring that is closed while the operator's key is asked
// writes no keyset any more.
func TestClosedMeanwhile(t *testing.T) {
	fsys := faultfs.New(1)
	r := mustCreate(t, fsys, "a")
	before := names(t, fsys)
	err := r.Rewrap(context.Background(), &busyKey{keytest.New("b"), func() {
		if isFree(t, r) {
			r.Close()
		}
	}})
	if !errors.Is(err, ErrClosed) {
		t.Errorf("rewrapped: %v", err)
	}
	wantNames(t, fsys, before...)
	mustOpen(t, fsys, "a")
}

// TestKeysetsInTurn: of changes of the keyset at once none undoes another.
func TestKeysetsInTurn(t *testing.T) {
	const times = 8
	ctx := context.Background()
	fsys := faultfs.New(1)
	r := mustCreate(t, fsys, "a")
	var wg sync.WaitGroup
	for range times {
		wg.Go(func() {
			if err := r.Rewrap(ctx, &busyKey{keytest.New("a"), runtime.Gosched}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := r.Keyset().Number; n != 1+times {
		t.Errorf("keyset %d", n)
	}
	if again := mustOpen(t, fsys, "a"); again.Keyset().Number != 1+times {
		t.Errorf("opens with keyset %d", again.Keyset().Number)
	}
}
