package fuzz

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/internal/keys/keytest"
)

// maxRepairAllocated bounds what looking at a damaged store, checking and
// repairing it may allocate altogether; undamaged ones take a tenth.
const maxRepairAllocated = 256 << 20

// FuzzRepair damages one or two files of a store, plain or encrypted, and has
// it inspected, checked and repaired. Nothing of that changes it. What the
// check finds nothing in reads as it was written. What a repair gives opens,
// passes its own check, has every record that is not told lost, and none that
// never was.
//
// With forge the checksums are made to fit, and in encrypted stores the seals:
// nobody can tell then what is right, and a repair may say that its result does
// not pass the check. Where it does not, that can be read, as a whole, and
// be written to.
func FuzzRepair(f *testing.F) {
	key := keytest.New("operator")
	stores := []damaged{crashedStore(f, nil), closedStore(f, key), closedStore(f, nil), crashedStore(f, key)}
	var insides []*opened
	for n, s := range stores {
		insides = append(insides, s.unseal(f))
		for i, name := range s.names {
			f.Add(byte(n), byte(i), byte(n+i), uint32(len(s.files[name])-9), []byte{4}, byte(i+1), i%3 == 0, i%3 == 1)
			f.Add(byte(n), byte(i), byte(remove), uint32(0), []byte{}, byte(0), false, false)
			f.Add(byte(n), byte(i), byte(flip), uint32(200+i*531), []byte{0x40}, byte(i), false, i%4 == 0)
		}
	}
	f.Fuzz(func(t *testing.T, store, file, how byte, offset uint32, data []byte, second byte, twice, forge bool) {
		s := stores[int(store)%len(stores)]
		name := s.names[int(file)%len(s.names)]
		d := damage{file: name, how: how, offset: offset, data: data, other: s.files[s.names[int(second)%len(s.names)]]}
		im := image(nil)
		if forge {
			im = insides[int(store)%len(stores)].change(t, file, second, how, offset, data).reseal(t)
		} else if im = d.apply(s.files); twice {
			d.file, d.how, d.offset = s.names[int(second)%len(s.names)], how/ways, offset>>8
			im = d.apply(im)
		}
		dir := scratch(t)
		place(t, dir, im)
		before := allocated()
		if err := s.repair(t, dir, im, forge); err != nil {
			t.Fatalf("%s, %d at %d of %d, %d bytes: %v", name, how%ways, offset, len(s.files[name]), len(data), err)
		}
		if n := allocated() - before; n > maxRepairAllocated {
			t.Fatalf("%s: %d bytes allocated", name, n)
		}
	})
}

func (s damaged) options() *engine.Options {
	return &engine.Options{Keys: s.key, GraphMin: 8, Workers: 1}
}

// repair has the store in dir inspected, checked and repaired.
func (s damaged) repair(t *testing.T, dir string, im image, forged bool) error {
	_, err := engine.Inspect(ctx, dir, s.options())
	t.Log("inspect:", err)
	for name := range im {
		if _, err := engine.InspectFile(ctx, dir, s.options(), name); err != nil {
			t.Log("inspect:", name, err)
		}
	}
	found, err := engine.Check(ctx, dir, s.options(), engine.CheckOptions{})
	t.Log("check:", err)
	if err == nil && found.Clean() {
		if err := s.checkClean(t, dir, im, forged); err != nil {
			return fmt.Errorf("the check is clean: %w", err)
		}
	}
	out := filepath.Join(scratch(t), "out")
	report, err := engine.Repair(ctx, dir, out, s.options(), engine.RepairOptions{})
	t.Log("repair:", err)
	if now := files(t, dir); !maps.EqualFunc(withoutLock(now), map[string][]byte(im), bytes.Equal) {
		return errors.New("the damaged store was changed")
	}
	if err != nil {
		if strings.Contains(err.Error(), "the new store") && !forged {
			return err
		}
		return nil
	}
	return s.checkRepaired(out, report, forged)
}

func withoutLock(all map[string][]byte) map[string][]byte {
	delete(all, "LOCK")
	return all
}

// checkClean reads a store of which a check found nothing to say. Nothing says
// that the last entry of a log was there, once it is gone as a whole.
func (s damaged) checkClean(t *testing.T, dir string, im image, forged bool) error {
	read := scratch(t) // opening leaves a lock
	place(t, read, im)
	o := s.options()
	o.ReadOnly = true
	db, err := engine.Open(read, o)
	if err != nil {
		return err
	}
	got := readAll(db)
	err = errors.Join(s.checkReceipts(db), db.Close())
	for _, a := range got {
		if a.err != nil {
			return fmt.Errorf("%s: %w", a.read, a.err)
		}
	}
	if forged {
		return nil
	}
	return errors.Join(err, fits(got, slices.DeleteFunc(slices.Clone(s.cuts), func(c []answer) bool { return c == nil })))
}

// checkRepaired reads what a repair gave, and writes to it.
func (s damaged) checkRepaired(dir string, report *engine.RepairReport, forged bool) error {
	db, err := engine.Open(dir, s.options())
	if err != nil {
		return fmt.Errorf("what was repaired does not open: %w", err)
	}
	for _, a := range readAll(db) {
		if err == nil && a.err != nil {
			err = fmt.Errorf("what was repaired does not read: %s: %w", a.read, a.err)
		}
	}
	if err == nil && !forged {
		err = s.compareRepaired(db, report)
	}
	for info, e := range db.Default().Collections(ctx) {
		if err = errors.Join(err, e); err != nil {
			break
		}
		c, e := db.Default().Collection(ctx, info.Name)
		if e == nil {
			e = c.Upsert(ctx, engine.Record{ID: "after", Embedding: make([]float32, max(1, info.Dimension))})
		}
		if e != nil {
			err = fmt.Errorf("what was repaired is not written to: %s: %w", info.Name, e)
		}
	}
	return errors.Join(err, db.Close())
}

// compareRepaired wants each record to be one that was, and each that was to
// be there or told lost.
func (s damaged) compareRepaired(db *engine.DB, report *engine.RepairReport) error {
	logLost := slices.ContainsFunc(report.Lost, func(l engine.Loss) bool { return l.First > 0 || strings.Contains(l.Text, "log/") })
	for info, err := range db.Default().Collections(ctx) {
		if err != nil {
			return err
		}
		c, err := db.Default().Collection(ctx, info.Name)
		if err != nil {
			return err
		}
		want := s.want[info.Name]
		older := logLost
		if want == nil && (logLost || strings.HasPrefix(info.Name, "recovered-")) {
			want, older = &model{}, true
		}
		if want == nil {
			return fmt.Errorf("collection %s was never there", info.Name)
		}
		told, nameless := map[string]bool{}, false
		for _, l := range report.Lost {
			if l.Name == info.Name {
				told[l.ID] = true
				nameless = nameless || l.ID == ""
			}
		}
		seen := map[string]bool{}
		for r, err := range c.Get(ctx, engine.Selection{}, engine.IncludeAll) {
			if err != nil {
				return err
			}
			seen[r.ID] = true
			i := want.find(r.ID)
			switch {
			case told[r.ID] || nameless: // it may lack something
			case !s.history[text(r)]:
				return fmt.Errorf("%s: %s was never there", info.Name, text(r))
			case !older && (i < 0 || text(want.records[i]) != text(r)):
				return fmt.Errorf("%s: %s is not the newest", info.Name, text(r))
			}
		}
		for _, r := range want.records {
			if !seen[r.ID] && !told[r.ID] && !nameless && !logLost {
				return fmt.Errorf("%s: %s is not there, and not told lost", info.Name, r.ID)
			}
		}
	}
	return nil
}
