package keys

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/chromad/chromad/internal/keys/keytest"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// A change is one call that must be there or not, whatever happens to the
// disk. base makes the disk that it finds, step is the call.
type change struct {
	name string
	base func(t *testing.T, fsys vfs.FS) []letter
	step func(ctx context.Context, r *Ring) error
}

// made is a store with two collections, as far into a rotation as there are
// steps.
func made(steps ...func(r *Ring) error) func(t *testing.T, fsys vfs.FS) []letter {
	return func(t *testing.T, fsys vfs.FS) (letters []letter) {
		r := mustCreate(t, fsys, "a", docs, notes)
		for _, step := range append(steps, func(*Ring) error { return nil }) {
			for i, id := range []seal.ID{{}, docs, notes} {
				letters = append(letters, mustWrite(t, r, addressIn(id, byte(i))))
			}
			if err := step(r); err != nil {
				t.Fatal(err)
			}
		}
		return letters
	}
}

func addPrimary(r *Ring) error { return r.AddPrimary(context.Background()) }

func renewAll(r *Ring) error {
	_, err1 := r.Renew(seal.ID{})
	_, err2 := r.Renew(docs)
	_, err3 := r.Renew(notes)
	return errors.Join(err1, err2, err3)
}

func dropAll(r *Ring) error {
	return errors.Join(r.Drop(seal.ID{}, 1), r.Drop(docs, 1), r.Drop(notes, 1))
}

func changes() []change {
	return []change{
		{"Create", func(*testing.T, vfs.FS) []letter { return nil }, nil},
		{"NewCollection", made(), func(_ context.Context, r *Ring) error { return r.NewCollection(testID(1)) }},
		{"Destroy", made(), func(_ context.Context, r *Ring) error { _, err := r.Destroy(docs); return err }},
		{"AddPrimary", made(), func(ctx context.Context, r *Ring) error { return r.AddPrimary(ctx) }},
		{"Renew", made(addPrimary), func(_ context.Context, r *Ring) error { _, err := r.Renew(docs); return err }},
		{"Drop", made(addPrimary, renewAll), func(_ context.Context, r *Ring) error { return r.Drop(docs, 1) }},
		{"Retire", made(addPrimary, renewAll, dropAll), func(ctx context.Context, r *Ring) error { _, err := r.Retire(ctx); return err }},
		{"Rewrap", made(addPrimary), func(ctx context.Context, r *Ring) error { return r.Rewrap(ctx, keytest.New("b")) }},
		{"Settle", func(t *testing.T, fsys vfs.FS) []letter {
			r, err := Create(context.Background(), fsys, testStore, keytest.New("a"), true)
			if err != nil {
				t.Fatal(err)
			}
			return []letter{mustWrite(t, r, addressIn(seal.ID{}, 1))}
		}, func(ctx context.Context, r *Ring) error { return r.Settle(ctx) }},
	}
}

// start opens the store with the operator's key that fits.
func start(fsys vfs.FS, readOnly bool) (*Ring, string, error) {
	var errs []error
	for _, name := range []string{"a", "b"} {
		r, err := Open(context.Background(), fsys, testStore, keytest.New(name), readOnly)
		if err == nil {
			return r, name, nil
		}
		if errs = append(errs, err); !errors.Is(err, seal.ErrKey) {
			break
		}
	}
	return nil, "", errors.Join(errs...)
}

// act is the whole of a change as a program makes it: open, change.
func (c change) act(fsys vfs.FS) (*Ring, error) {
	ctx := context.Background()
	if c.step == nil {
		return Create(ctx, fsys, testStore, keytest.New("a"), false)
	}
	r, _, err := start(fsys, false)
	if err != nil {
		return nil, err
	}
	return r, c.step(ctx, r)
}

// state is everything about a store that does not depend on chance.
func state(fsys vfs.FS, letters []letter) (string, error) {
	if there, err := Present(fsys); !there || err != nil {
		return "nothing", err
	}
	r, operator, err := start(fsys, true)
	if err != nil {
		return "", err
	}
	defer r.Close()
	var b strings.Builder
	ks := r.Keyset()
	fmt.Fprintf(&b, "operator %s, %d keys, converting %v", operator, len(ks.Keys), ks.Converting)
	for id, generations := range r.Collections() {
		fmt.Fprintf(&b, ", %v %v", id, generations)
	}
	left, err := r.Rotation()
	if err != nil {
		return "", err
	}
	fmt.Fprintf(&b, ", to renew %v, stale %d, to retire %d", left.Renew, len(left.Stale), len(left.Retire))
	for i, l := range letters {
		switch err := l.read(r); {
		case err == nil:
			fmt.Fprintf(&b, ", %d reads", i)
		case !errors.Is(err, seal.ErrKey):
			return "", fmt.Errorf("letter %d: %w", i, err)
		}
	}
	return b.String(), nil
}

// ends runs a change undisturbed and returns the states before and after it.
func (c change) ends(t *testing.T) (base *faultfs.FS, letters []letter, before, after string) {
	t.Helper()
	base = faultfs.New(1)
	letters = c.base(t, base)
	base = base.Clone()
	before, err := state(base, letters)
	if err != nil {
		t.Fatal(err)
	}
	done := base.Clone()
	if _, err := c.act(done); err != nil {
		t.Fatal(err)
	}
	after, err = state(done, letters)
	if err != nil || before == after {
		t.Fatalf("%v: %s\nbecame %s", err, before, after)
	}
	if done.Handles() != 0 {
		t.Errorf("%d handles left open", done.Handles())
	}
	return base, letters, before, after
}

// TestPowerCut: whenever the power is cut, the store is as before the change or
// as after it, as after it once the call has returned, and the call made again
// completes.
func TestPowerCut(t *testing.T) {
	for _, c := range changes() {
		t.Run(c.name, func(t *testing.T) {
			base, letters, before, after := c.ends(t)
			seen := map[string]int{}
			for op, done := 0, false; !done; op++ {
				disk := base.Clone()
				disk.CrashAt(op)
				_, err := c.act(disk)
				if done = err == nil; !done && !errors.Is(err, faultfs.ErrCrashed) {
					t.Fatalf("op %d: %v", op, err)
				}
				for seed := range uint64(20) {
					found := disk.Crash(rand.New(rand.NewPCG(seed, uint64(op))))
					s, err := state(found, letters)
					if seen[s]++; err != nil || s != after && (done || s != before) {
						t.Fatalf("op %d, seed %d: %v\n%s\nis neither %s\nnor     %s", op, seed, err, s, before, after)
					}
					if seed%4 == 0 {
						c.completes(t, found, letters, after)
					}
				}
			}
			if seen[before] == 0 || seen[after] == 0 {
				t.Errorf("states seen: %v", seen)
			}
		})
	}
}

// completes makes the change, again, on a disk on which it may be done, and
// cuts the power: it must be there.
func (c change) completes(t *testing.T, disk *faultfs.FS, letters []letter, after string) {
	t.Helper()
	if _, err := c.act(disk); err != nil {
		t.Fatalf("again: %v", err)
	}
	for seed := range uint64(4) {
		// Everything that is pending is lost, or some of it.
		found := disk.CrashWith(rand.New(rand.NewPCG(seed, 99)), faultfs.Cut{Keep: int(seed) * 33})
		if s, err := state(found, letters); err != nil || s != after {
			t.Fatalf("again: %v\n%s\nis not %s", err, s, after)
		}
		if files := names(t, found); countSuffix(files, keysetSuffix) != 1 {
			t.Fatalf("again: keysets that were replaced are still there: %q", files)
		}
	}
}

func countSuffix(names []string, suffix string) (n int) {
	for _, name := range names {
		if strings.HasSuffix(name, suffix) {
			n++
		}
	}
	return n
}

// mortal ends a process, not the power: from some call on, none that changes
// the disk happens, and what happened before is seen by the next process
// though it is not durable.
type mortal struct {
	*faultfs.FS
	left int
}

var errKilled = errors.New("killed")

func (m *mortal) step() error {
	if m.left--; m.left < 0 {
		return errKilled
	}
	return nil
}

func (m *mortal) Create(name string) (vfs.File, error) {
	if err := m.step(); err != nil {
		return nil, err
	}
	f, err := m.FS.Create(name)
	return &mortalFile{f, m}, err
}

func (m *mortal) Rename(from, to string) error {
	return errors.Join(m.step(), lazily(m, func() error { return m.FS.Rename(from, to) }))
}

func (m *mortal) Remove(name string) error {
	return errors.Join(m.step(), lazily(m, func() error { return m.FS.Remove(name) }))
}

func (m *mortal) Mkdir(name string) error {
	return errors.Join(m.step(), lazily(m, func() error { return m.FS.Mkdir(name) }))
}

func (m *mortal) SyncDir(name string) error {
	return errors.Join(m.step(), lazily(m, func() error { return m.FS.SyncDir(name) }))
}

func lazily(m *mortal, call func() error) error {
	if m.left < 0 {
		return nil
	}
	return call()
}

type mortalFile struct {
	vfs.File
	m *mortal
}

func (f *mortalFile) Write(p []byte) (int, error) {
	if err := f.m.step(); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

func (f *mortalFile) Sync() error {
	return errors.Join(f.m.step(), lazily(f.m, f.File.Sync))
}

var _ io.Writer = (*mortalFile)(nil)

// TestKill: a process that dies leaves names that are seen and not durable.
// The next one must not take them for durable: when its call returns and the
// power is cut, the change is there.
func TestKill(t *testing.T) {
	for _, c := range changes() {
		t.Run(c.name, func(t *testing.T) {
			base, letters, before, after := c.ends(t)
			for op := 0; ; op++ {
				disk := base.Clone()
				_, err := c.act(&mortal{disk, op})
				if err != nil && !errors.Is(err, errKilled) {
					t.Fatalf("op %d: %v", op, err)
				}
				if s, err := state(disk, letters); err != nil || s != before && s != after {
					t.Fatalf("op %d: %v\n%s\nis neither %s\nnor     %s", op, err, s, before, after)
				}
				c.completes(t, disk, letters, after)
				if err == nil {
					break
				}
			}
		})
	}
}

// TestFailingCalls: when the k-th call of a kind fails, the change says so and
// leaves no handle open. Made again with the same ring it is done, for good,
// or refused until the store is opened again.
func TestFailingCalls(t *testing.T) {
	const tries = 6
	kinds := []faultfs.Op{faultfs.OpStat, faultfs.OpList, faultfs.OpOpen, faultfs.OpMap, faultfs.OpRead, faultfs.OpMkdir, faultfs.OpCreate,
		faultfs.OpWrite, faultfs.OpSync, faultfs.OpClose, faultfs.OpRename, faultfs.OpRemove, faultfs.OpSyncDir}
	for _, c := range changes() {
		t.Run(c.name, func(t *testing.T) {
			base, letters, before, after := c.ends(t)
			for _, op := range kinds {
				for k := 0; ; k++ {
					disk := base.Clone() // each draws anew what a failing sync loses
					in := disk.Inject(faultfs.Rule{Op: op, Nth: k / tries})
					r, err := c.act(disk)
					if in.Fired() == 0 {
						break
					}
					where := fmt.Sprintf("%v %d", op, k/tries)
					if err != nil && !errors.Is(err, syscall.EIO) || disk.Handles() != 0 {
						t.Fatalf("%s: %v, %d handles", where, err, disk.Handles())
					}
					if s, err := state(disk, letters); err != nil || s != before && s != after {
						t.Fatalf("%s: %v\n%s", where, err, s)
					}
					if r != nil && err != nil {
						err = c.step(context.Background(), r)
						if err != nil && !errors.Is(err, ErrFailed) {
							t.Fatalf("%s, again: %v", where, err)
						}
					}
					if err != nil {
						continue // opening again is for the next start of the machine
					}
					found := disk.CrashWith(rand.New(rand.NewPCG(uint64(k), 7)), faultfs.Cut{})
					if s, err := state(found, letters); err != nil || s != after {
						t.Fatalf("%s: returned without an error: %v\n%s\nis not %s", where, err, s, after)
					}
				}
			}
		})
	}
}

// TestFullDisk: what does not fit is not there, and the same ring does it once
// there is room.
func TestFullDisk(t *testing.T) {
	for _, c := range changes() {
		if c.step == nil {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			base, letters, before, after := c.ends(t)
			used := base.Used()
			for budget := used; ; budget += 60 {
				disk := base.Clone()
				disk.Budget(budget)
				r, err := c.act(disk)
				if err == nil {
					break
				}
				if !errors.Is(err, vfs.ErrNoSpace) || disk.Used() != used {
					t.Fatalf("budget %d: %v, %d bytes used of %d", budget, err, disk.Used(), used)
				}
				if s, err := state(disk, letters); err != nil || s != before {
					t.Fatalf("budget %d: %v\n%s", budget, err, s)
				}
				disk.Budget(-1)
				if err := c.step(context.Background(), r); err != nil {
					t.Fatal(err)
				}
				if s, err := state(disk, letters); err != nil || s != after {
					t.Fatalf("budget %d, then room: %v\n%s", budget, err, s)
				}
			}
		})
	}
}

// TestDestroyMany: a cut in the middle leaves some of the keys, each of them
// whole; destroying again takes the rest.
func TestDestroyMany(t *testing.T) {
	base := faultfs.New(1)
	made(addPrimary, renewAll)(t, base)
	base = base.Clone()
	destroy := func(fsys vfs.FS) ([]KeyInfo, error) {
		r, _, err := start(fsys, false)
		if err != nil {
			return nil, err
		}
		return r.Destroy(docs, notes)
	}
	partly := 0
	for op, done := 0, false; !done; op++ {
		disk := base.Clone()
		disk.CrashAt(op)
		gone, err := destroy(disk)
		if done = err == nil; done && len(gone) != 4 {
			t.Fatalf("destroyed %+v", gone)
		}
		for seed := range uint64(20) {
			found := disk.Crash(rand.New(rand.NewPCG(seed, uint64(op))))
			r, _, err := start(found, false)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Rotation(); err != nil {
				t.Fatalf("op %d, seed %d: %v", op, seed, err)
			}
			left := 0
			for _, generations := range r.Collections() {
				left += len(generations)
			}
			if left > 0 && left < 4 {
				partly++
			}
			if done && left > 0 {
				t.Fatalf("op %d, seed %d: %d keys are back", op, seed, left)
			}
			gone, err := r.Destroy(notes, docs)
			if err != nil || len(gone) != left || r.Has(docs) || r.Has(notes) {
				t.Fatalf("op %d, seed %d: again: %d of %d, %v", op, seed, len(gone), left, err)
			}
		}
	}
	if partly == 0 {
		t.Error("no cut fell between two keys")
	}
}

// TestTraces: the order in which a change reaches the disk.
func TestTraces(t *testing.T) {
	fsys := faultfs.New(1)
	r := mustCreate(t, fsys, "a", docs)
	for _, c := range []struct {
		name string
		step func() error
		want []string
	}{
		{"NewCollection", func() error { return r.NewCollection(notes) }, []string{"create", "write", "sync", "rename", "syncdir keys", "syncdir tmp"}},
		{"AddPrimary", func() error { return r.AddPrimary(context.Background()) },
			[]string{"create", "write", "sync", "rename", "syncdir keys", "syncdir tmp", "remove keys/0000000000000001.keyset", "syncdir keys"}},
		{"Destroy", func() error { _, err := r.Destroy(docs, notes); return err },
			[]string{"remove keys/" + docsKey, "remove keys/" + notesKey, "syncdir keys"}},
		{"nothing", func() error { _, err := r.Destroy(docs, notes); return err }, nil},
	} {
		fsys.ClearTrace()
		if err := c.step(); err != nil {
			t.Fatal(err)
		}
		got := fsys.Trace()
		if !slices.EqualFunc(got, c.want, strings.HasPrefix) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
