package engine

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/chromad/chromad/internal/vfs/faultfs"
)

var repairSeeds = flag.Int("repair.seeds", 200, "random damages of the repair test")

// repaired repairs a store into a new one, which must pass its check.
func repaired(t testing.TB, fs *faultfs.FS, op OperatorKey) (*faultfs.FS, *RepairReport) {
	t.Helper()
	out := faultfs.New(2)
	r, err := Repair(context.Background(), "", "out", &Options{fs: fs, Keys: op, GraphMin: 4, Workers: 1}, RepairOptions{out: out})
	if err != nil {
		t.Fatalf("%v\n%+v", err, r)
	}
	return out, r
}

// A store that is whole is whole after a repair, and nothing is told lost.
func TestRepairWhole(t *testing.T) {
	for _, op := range []OperatorKey{nil, operator("a")} {
		fs, m := lived(t, op)
		before := fs.Clone()
		out, r := repaired(t, fs, op)
		if len(r.Lost) > 0 || len(r.Chosen) > 0 {
			t.Errorf("lost %+v, chosen %v", r.Lost, r.Chosen)
		}
		db := openOn(t, out, Options{Keys: op})
		if d, err := m.diff(t.Context(), db, ""); d != "" || err != nil {
			t.Error(d, err)
		}
		check(t, findEverything(t.Context(), db, m))
		check(t, db.Close())
		for _, name := range before.Files() {
			a, _ := before.Content(name)
			b, _ := fs.Content(name)
			if name != "LOCK" && !slices.Equal(a, b) {
				t.Errorf("%s was changed", name)
			}
		}
	}
}

// Random damage to a store: check finds it, repair makes a store that passes
// its check, with every record that no damaged block holds, and with none that
// never was.
func TestRepairRandom(t *testing.T) {
	fs, m, history := livedHistory(t, nil)
	before := checked(t, fs, nil).Findings
	seeds := uint64(*repairSeeds)
	if testing.Short() {
		seeds = min(seeds, 50)
	}
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 77))
		hit := fs.Clone()
		what, harmless := hurt(t, rng, hit)
		r := checked(t, hit, nil)
		if fmt.Sprint(r.Findings) == fmt.Sprint(before) && !harmless {
			t.Errorf("seed %d: %s: not found: %+v", seed, what, r)
		}
		if err := judgeRepair(t, hit, m, history); err != nil {
			t.Errorf("seed %d: %s: %v", seed, what, err)
		}
	}
}

// hurt damages one file somehow.
func hurt(t testing.TB, rng *rand.Rand, fs *faultfs.FS) (what string, harmless bool) {
	t.Helper()
	files := slices.DeleteFunc(fs.Files(), func(n string) bool {
		b, _ := fs.Content(n)
		return len(b) == 0 || !strings.Contains(n, "/") // the reserve, and a lock: nobody reads them
	})
	name := files[rng.IntN(len(files))]
	check(t, fs.Damage(name, func(b []byte) []byte {
		before := slices.Clone(b)
		at := rng.IntN(len(b))
		switch n := rng.IntN(10); {
		case n < 6:
			b[at] ^= byte(1 + rng.IntN(255))
			what = fmt.Sprintf("%s: byte %d of %d", name, at, len(b))
		case n < 8:
			at = at / 512 * 512
			clear(b[at:min(at+512, len(b))])
			what = fmt.Sprintf("%s: sector at %d of %d cleared", name, at, len(b))
		case n < 9:
			for i := range min(64, len(b)-at) {
				b[at+i] = byte(rng.Uint32())
			}
			what = fmt.Sprintf("%s: 64 bytes at %d of %d random", name, at, len(b))
		default:
			b = b[:at]
			what = fmt.Sprintf("%s: cut at %d of %d", name, at, len(before))
		}
		harmless = slices.Equal(b, before)
		return b
	}))
	return what, harmless
}

func judgeRepair(t testing.TB, fs *faultfs.FS, m model, history map[string]bool) error {
	ctx := context.Background()
	out := faultfs.New(2)
	report, err := Repair(ctx, "", "out", &Options{fs: fs, GraphMin: 4, Workers: 1}, RepairOptions{out: out})
	if err != nil {
		return fmt.Errorf("%w\n%+v", err, report)
	}
	db, err := Open("", &Options{fs: out})
	if err != nil {
		return err
	}
	defer db.Close()
	return compareRepaired(ctx, db, m, history, report)
}

// compareRepaired wants each record of the store to be the model's, and each
// record of the model to be there or told lost.
func compareRepaired(ctx context.Context, db *DB, m model, history map[string]bool, report *RepairReport) error {
	logLost := slices.ContainsFunc(report.Lost, func(l Loss) bool { return l.First > 0 || strings.Contains(l.Text, "log/") })
	for info, err := range db.Default().Collections(ctx) {
		if err != nil {
			return err
		}
		want := m[info.Name]
		older := logLost // a state of the collection that was, or rows of several
		if want == nil && (logLost || strings.HasPrefix(info.Name, "recovered-")) {
			want, older = &modelCollection{}, true
		}
		if want == nil {
			return fmt.Errorf("collection %s was never there", info.Name)
		}
		c, err := db.Default().Collection(ctx, info.Name)
		if err != nil {
			return err
		}
		told := map[string]bool{}
		nameless := 0
		for _, l := range report.Lost {
			if l.Name == info.Name {
				if told[l.ID] = true; l.ID == "" {
					nameless++
				}
			}
		}
		seen := map[string]bool{}
		for r, err := range c.Get(ctx, Selection{}, IncludeAll) {
			if err != nil {
				return err
			}
			seen[r.ID] = true
			i := want.find(r.ID)
			switch {
			case told[r.ID] || nameless > 0: // it may lack something
			case !history[inWords(r)]:
				return fmt.Errorf("%s: record %s was never there like this", info.Name, r.ID)
			case older:
			case i < 0:
				return fmt.Errorf("%s: record %s was not there any more", info.Name, r.ID)
			default:
				if d := diffRecord(want.records[i], r); d != "" {
					return fmt.Errorf("%s: %s", info.Name, d)
				}
			}
		}
		for _, r := range want.records {
			if !seen[r.ID] && !told[r.ID] && nameless == 0 && !logLost {
				return fmt.Errorf("%s: record %s is not there, and not told lost", info.Name, r.ID)
			}
		}
	}
	return nil
}
