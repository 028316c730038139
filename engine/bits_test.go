package engine

import (
	"errors"
	"flag"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/chromad/chromad/internal/vfs/faultfs"
)

var bitStep = flag.Int("damage.step", 20011, "TestEveryBit flips every so many bits; 1: all of them")

// Each bit of each file of a store flips, alone: nothing that was not written
// is read, and Check finds it, but for the last frame of the log.
func TestEveryBit(t *testing.T) {
	heavy(t)
	for name, op := range map[string]OperatorKey{"plain": nil, "encrypted": operator("a")} {
		t.Run(name, func(t *testing.T) {
			fs, before, after := spoilt(t, op)
			names := slices.DeleteFunc(fs.Files(), func(n string) bool { return !strings.Contains(n, "/") })
			var next, tried, bad atomic.Int64
			var wg sync.WaitGroup
			for range runtime.GOMAXPROCS(0) {
				wg.Go(func() {
					for bad.Load() < 5 {
						n := int(next.Add(1)-1) * max(1, *bitStep)
						name, bit := bitAt(fs, names, n)
						if name == "" {
							return
						}
						tried.Add(1)
						if err := flipped(t, fs, op, name, bit, before, after); err != nil {
							bad.Add(1)
							t.Errorf("bit %d of byte %d of %s: %v", bit%8, bit/8, name, err)
						}
					}
				})
			}
			wg.Wait()
			t.Logf("%d bits of %d files", tried.Load(), len(names))
		})
	}
}

// bitAt is the n-th bit of a store, empty behind the last.
func bitAt(fs *faultfs.FS, names []string, n int) (name string, bit int) {
	for _, name := range names {
		b, _ := fs.Content(name)
		if n < len(b)*8 {
			return name, n
		}
		n -= len(b) * 8
	}
	return "", 0
}

func flipped(t *testing.T, fs *faultfs.FS, op OperatorKey, name string, bit int, before, after model) error {
	hit := fs.Clone()
	if err := hit.Damage(name, func(b []byte) []byte { b[bit/8] ^= 1 << (bit % 8); return b }); err != nil {
		return err
	}
	refused, torn, err := judge(t.Context(), hit, op, before, after)
	told, err2 := found(hit, op)
	if err = errors.Join(err, err2); err != nil {
		return err
	}
	isLog := strings.HasSuffix(name, ".wal")
	if !told && !isLog || refused && !told || torn && !isLog {
		return fmt.Errorf("refused %v, torn %v, found %v", refused, torn, told)
	}
	return nil
}
