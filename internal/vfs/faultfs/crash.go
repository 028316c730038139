package faultfs

import (
	"fmt"
	"math/rand/v2"
	"path"
	"slices"

	"github.com/chromad/chromad/internal/vfs"
)

const (
	smallSector = 512
	largeSector = 4096
	junkMax     = 32
)

// Cut says what becomes of everything that is pending when the power is cut.
type Cut struct {
	Sector  int  // 512 or 4096 bytes are written or not as a whole
	Keep    int  // percent of sectors, truncations and, without Prefix, directory operations that are kept
	Prefix  bool // a random prefix of the directory operations is kept
	Extend  bool // files have the length they were seen with, whatever was kept
	Garbage bool // what is missing below the end of a file is garbage, not zeros
}

// RandomCut draws a cut: half of the time an ordered journal of names, nothing,
// everything, half or a random share of the sectors.
func RandomCut(r *rand.Rand) Cut {
	return Cut{
		Sector:  []int{smallSector, largeSector}[r.IntN(2)],
		Keep:    []int{0, 100, 50, r.IntN(101)}[r.IntN(4)],
		Prefix:  r.IntN(2) == 0,
		Extend:  r.IntN(4) == 0,
		Garbage: r.IntN(4) == 0,
	}
}

// Crash cuts the power now, if that has not happened yet, and returns a disk
// that may be found afterwards. It can be called again for another one.
func (f *FS) Crash(r *rand.Rand) *FS { return f.CrashWith(r, RandomCut(r)) }

// CrashWith is Crash with a given cut.
func (f *FS) CrashWith(r *rand.Rand, c Cut) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashed = true
	if c.Sector <= 0 {
		c.Sector = smallSector
	}
	cr := &crash{Cut: c, fs: f, rand: r, last: f.seq + 1, files: map[*inode]*inode{}}
	if c.Prefix {
		cr.last = cr.journal()
	}
	g := New(r.Uint64())
	g.root = cr.dir(f.root)
	g.budget, g.written, g.hook = f.budget, f.written, f.hook
	return g
}

// Clone returns a disk with what is seen of this one now, all of it durable.
func (f *FS) Clone() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := New(f.rand.Uint64())
	g.root = f.root.clone()
	g.budget, g.written, g.hook = f.budget, f.written, f.hook
	return g
}

func (d *dir) clone() *dir {
	c := newDir()
	for base, n := range d.live {
		if n.dir != nil {
			n = node{dir: n.dir.clone()}
		} else {
			n = node{file: settled(n.file.name, slices.Clone(n.file.live))}
		}
		c.live[base], c.durable[base] = n, n
	}
	return c
}

// settled is a file with nothing pending.
func settled(name string, b []byte) *inode {
	return &inode{name: name, live: b, durable: slices.Clone(b)}
}

// crash makes one disk.
type crash struct {
	Cut
	fs    *FS
	rand  *rand.Rand
	last  int               // directory operations numbered below it are in the journal
	files map[*inode]*inode // a file that has two names is one file
}

func (c *crash) keep() bool { return c.rand.IntN(100) < c.Keep }

// journal draws where the journal of directory operations ends.
func (c *crash) journal() int {
	var numbers []int
	var collect func(d *dir)
	collect = func(d *dir) {
		for _, op := range d.pending {
			numbers = append(numbers, op.seq)
		}
		for _, n := range d.live {
			if n.dir != nil {
				collect(n.dir)
			}
		}
	}
	collect(c.fs.root)
	slices.Sort(numbers)
	if i := c.rand.IntN(len(numbers) + 1); i < len(numbers) {
		return numbers[i]
	}
	return c.fs.seq + 1
}

func (c *crash) dir(d *dir) *dir {
	names := make(map[string]node, len(d.durable))
	for base, n := range d.durable {
		names[base] = n
	}
	for _, op := range d.pending {
		if op.seq < c.last && (c.Prefix || c.keep()) {
			op.apply(names)
		}
	}
	after := newDir()
	for _, base := range sorted(names) {
		n := names[base]
		if n.dir != nil {
			n = node{dir: c.dir(n.dir)}
		} else {
			n = node{file: c.file(n.file)}
		}
		after.live[base], after.durable[base] = n, n
	}
	return after
}

func (c *crash) file(n *inode) *inode {
	if done := c.files[n]; done != nil {
		return done
	}
	b := slices.Clone(n.durable)
	for _, w := range n.pending {
		b = w.apply(b, c.Sector, c.keep, c.fill)
	}
	if old := len(b); c.Extend && old < len(n.live) && len(n.pending) > 0 {
		b = resize(b, len(n.live))
		c.fill(b[old:])
	}
	done := settled(n.name, b)
	c.files[n] = done
	return done
}

// fill leaves zeros, or puts in what some other write left on the disk: whole
// old records are what a reader is most easily deceived by.
func (c *crash) fill(gap []byte) {
	if !c.Garbage {
		return
	}
	for len(gap) > 0 {
		n := 0
		if recent := min(c.fs.stored, junkMax); recent > 0 && c.rand.IntN(4) > 0 {
			n = copy(gap, c.fs.junk[c.rand.IntN(recent)])
		}
		if n == 0 {
			n = min(len(gap), 8)
			for i := range n {
				gap[i] = byte(c.rand.Uint32())
			}
		}
		gap = gap[n:]
	}
}

func sorted(names map[string]node) []string {
	keys := make([]string, 0, len(names))
	for k := range names {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// walk visits the files that are seen, by name.
func (d *dir) walk(at string, visit func(name string, n *inode)) {
	for _, base := range sorted(d.live) {
		n := d.live[base]
		if n.dir != nil {
			n.dir.walk(path.Join(at, base), visit)
		} else {
			visit(path.Join(at, base), n.file)
		}
	}
}

// Files returns the names of all files, sorted.
func (f *FS) Files() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	f.root.walk("", func(name string, _ *inode) { names = append(names, name) })
	slices.Sort(names)
	return names
}

// Content returns the bytes of a file, past all faults.
func (f *FS) Content(name string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.regular(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return slices.Clone(n.live), nil
}

// Damage replaces the bytes of a file, on the disk and as seen: what decays
// while nobody looks. It is no call of a program, so it has no number.
func (f *FS) Damage(name string, change func(b []byte) []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.regular(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	n.live = change(slices.Clone(n.live))
	n.durable, n.pending = slices.Clone(n.live), nil
	return nil
}

// Export copies the tree as it is seen to another file system, so that a
// failing disk can be looked at.
func (f *FS) Export(to vfs.FS) error {
	return export(f.Clone(), to, ".")
}

func export(from *FS, to vfs.FS, at string) error {
	infos, err := from.List(at)
	if err != nil {
		return err
	}
	for _, i := range infos {
		name := path.Join(at, i.Name)
		if i.Dir {
			if err := to.Mkdir(name); err != nil {
				return err
			}
			if err := export(from, to, name); err != nil {
				return err
			}
			continue
		}
		if err := copyFile(from, to, name); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from *FS, to vfs.FS, name string) error {
	b, err := from.Content(name)
	if err != nil {
		return err
	}
	w, err := to.Create(name)
	if err != nil {
		return err
	}
	if _, err := w.Write(b); err != nil {
		w.Close()
		return err
	}
	return w.Close()
}
