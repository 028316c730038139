package engine

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"

	"github.com/chromad/chromad/internal/race"
	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// secretsIn are all keys of a store: of the keyset, data keys, file keys.
func secretsIn(t testing.TB, fs *faultfs.FS, op OperatorKey) (out [][]byte) {
	t.Helper()
	th := newThief(t, fs, op)
	th.read()
	for _, k := range th.keyset {
		out = append(out, k)
	}
	for _, k := range th.data {
		out = append(out, k)
	}
	for _, k := range th.files {
		out = append(out, k)
	}
	return out
}

// tells wants no key in a text, in any form in which Go prints bytes.
func tells(t testing.TB, what string, text string, secrets [][]byte) {
	t.Helper()
	for _, k := range secrets {
		half := k[:16]
		list := strings.Trim(fmt.Sprint(half), "[]")
		for _, form := range []string{
			string(half), hex.EncodeToString(half), strings.ToUpper(hex.EncodeToString(half)), list,
			strings.ReplaceAll(list, " ", ","), strings.Trim(fmt.Sprintf("%#v", half), "[]byte{}"), string(mustJSON(k)[1:20]),
		} {
			if strings.Contains(text, form) {
				t.Errorf("%s tells a key: %.300q", what, text)
				return
			}
		}
	}
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		return []byte(err.Error() + strings.Repeat(" ", 20))
	}
	return b
}

// everyForm prints v in all the ways in which a log might.
func everyForm(v any) string {
	var b strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&b, verb+"\n", v)
	}
	b.Write(mustJSON(v))
	return b.String()
}

// TestNoKeyIsTold: no key is in what values of exported types print, in
// errors, events or profiles.
func TestNoKeyIsTold(t *testing.T) {
	if race.Enabled {
		t.Skip("heavy, and it looks at what all goroutines hold")
	}
	ctx := t.Context()
	fs, _ := housed(t)
	secrets := secretsIn(t, fs, operator("a"))
	if len(secrets) < 10 {
		t.Fatalf("only %d keys", len(secrets))
	}
	var events []any
	o := Options{Keys: operator("a"), fs: fs.Clone(), reserve: testReserve, GraphMin: 4, Events: &Events{
		Flushed: func(e FlushEvent) { events = append(events, e) }, Compacted: func(e CompactEvent) { events = append(events, e) },
		Checkpointed: func(e CheckpointEvent) { events = append(events, e) }, Error: func(e ErrorEvent) { events = append(events, e) },
	}}
	db, err := Open("", &o)
	check(t, err)
	db.jobs.stop()
	c := collection(t, db, "c0")
	_, err = c.Query(ctx, []float32{1}, 3, nil)
	check(t, err)
	for db.cores.busy.Load() > 0 { // a search does not wait for helpers that came too late; printing would race with them
		runtime.Gosched()
	}
	info, err := db.KeyInfo(ctx)
	check(t, err)
	stats := db.Stats()
	for what, v := range map[string]any{
		"DB": db, "Options": o, "Collection": c, "Namespace": db.Default(), "KeyInfo": info,
		"Stats": stats, "Info": c.Info(), "ring": db.ring, "keys": db.keys, "session": &c.sealing, "sealer": c.sealing.sealer,
	} {
		tells(t, what, everyForm(v), secrets)
	}
	for _, profile := range pprof.Profiles() {
		for debug := range 3 {
			var b bytes.Buffer
			check(t, profile.WriteTo(&b, debug))
			tells(t, "profile "+profile.Name(), b.String(), secrets)
		}
	}
	check(t, db.Compact(ctx))
	check(t, db.Close())
	tells(t, "events", fmt.Sprintf("%+v", events), secrets)
	// What is said of damage and of the wrong key.
	r := rand.New(rand.NewPCG(3, 37))
	const tries = 200
	said := 0
	for range tries {
		hit := fs.Clone()
		names := hit.Files()
		name := names[r.IntN(len(names))]
		check(t, hit.Damage(name, func(b []byte) []byte {
			if len(b) > 0 {
				b[r.IntN(len(b))] ^= 1 << r.IntN(8)
			}
			return b
		}))
		key := operator("a")
		if r.IntN(4) == 0 {
			key = operator("b")
		}
		db, err := Open("", &Options{Keys: key, ReadOnly: true, fs: hit})
		if err == nil {
			err = errors.Join(findEverything(ctx, db, model{"c0": {}, "c1": {}}), db.Close())
		}
		if err != nil {
			said++
			tells(t, name, everyForm(err)+err.Error(), secrets)
		}
	}
	if said < tries/4 {
		t.Errorf("only %d errors", said)
	}
}

// fails is a test that is to fail.
type fails struct {
	testing.TB
	failed bool
}

func (f *fails) Helper()               {}
func (f *fails) Errorf(string, ...any) { f.failed = true }

// TestTells: each form in which a key may be printed is found.
func TestTells(t *testing.T) {
	k := []byte("0123456789abcdef\xff\x00\x80ghijklmnopqrs")
	for _, text := range []string{
		everyForm(k), string(k), fmt.Sprint(k), fmt.Sprintf("%x", k), fmt.Sprintf("%#v", struct{ K []byte }{k}), string(mustJSON(k)), fmt.Sprint([32]byte(k)),
		string(mustJSON([32]byte(k))),
	} {
		f := &fails{TB: t}
		if tells(f, "", text, [][]byte{k}); !f.failed {
			t.Errorf("no key is found in %q", text)
		}
	}
}
