package admin_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/engine/keys"
	"github.com/chromad/chromad/server/access"
	"github.com/chromad/chromad/server/admin"
)

// open opens a store with a collection, encrypted or not.
func open(t *testing.T, encrypted bool) *engine.DB {
	t.Helper()
	dir, o := t.TempDir(), &engine.Options{}
	if encrypted {
		file := filepath.Join(dir, "key")
		if err := keys.CreateFile(file); err != nil {
			t.Fatal(err)
		}
		op, err := keys.OpenFile(file)
		if err != nil {
			t.Fatal(err)
		}
		o.Keys = op
	}
	db, err := engine.Open(filepath.Join(dir, "store"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	c, err := db.Default().Create(t.Context(), "c", engine.Spec{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Upsert(t.Context(), engine.Record{ID: "1", Embedding: []float32{1, 2}}); err != nil {
		t.Fatal(err)
	}
	return db
}

// serve answers for a store until the test ends, or stop is called.
func serve(t *testing.T, store admin.Store) (c *admin.Client, url string, a *admin.Admin, stop context.CancelFunc) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var who admin.Access
	if db, ok := store.(*engine.DB); ok {
		keeper, err := access.Open(ctx, db, access.Outside{})
		if err != nil {
			t.Fatal(err)
		}
		who = keeper
	}
	a = admin.New(ctx, store, who, admin.Status{PID: 7, Path: "/p"}, nil)
	s := httptest.NewServer(a)
	t.Cleanup(func() {
		stop()
		a.Wait()
		s.Close()
	})
	return admin.NewClient(func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", s.Listener.Addr().String())
	}), s.URL, a, stop
}

func TestStatusAndKeys(t *testing.T) {
	ctx := t.Context()
	db := open(t, true)
	c, _, _, _ := serve(t, db)
	if s, err := c.Status(ctx); err != nil || s.PID != 7 || s.Path != "/p" || s.Records != 1 || s.Collections != 1 || s.Generation == 0 || s.Failed != "" || s.Running != "" {
		t.Errorf("%+v, %v", s, err)
	}
	k, err := c.Keys(ctx)
	if err != nil || !strings.HasPrefix(k.Operator, "file:///") || len(k.Keyset) != 1 || !k.Keyset[0].Primary || len(k.Collections) != 1 || fmt.Sprint(k.Store) != "[1]" {
		t.Errorf("%+v, %v", k, err)
	}
	plain, _, _, _ := serve(t, open(t, false))
	if k, err := plain.Keys(ctx); err == nil || !strings.Contains(err.Error(), "the store is not encrypted") {
		t.Errorf("of a plain store: %+v, %v", k, err)
	}
	if err := plain.RotateKeys(ctx, nil); err == nil || !strings.Contains(err.Error(), "the store is not encrypted") {
		t.Errorf("rotated a plain store: %v", err)
	}
}

func TestWork(t *testing.T) {
	ctx := t.Context()
	db := open(t, true)
	if err := db.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	c, _, _, _ := serve(t, db)
	var lines []admin.Line
	if err := c.RotateKeys(ctx, func(l admin.Line) { lines = append(lines, l) }); err != nil {
		t.Fatal(err)
	}
	if len(lines) == 0 || lines[0].Event != admin.Began || lines[0].Joined {
		t.Errorf("%+v", lines)
	}
	for _, l := range lines[1:] {
		if l.Event != admin.Progressed || l.Progress == nil || l.Segments != 1 || l.Bytes == 0 {
			t.Errorf("%+v %+v", l, l.Progress)
		}
	}
	if k, err := c.Keys(ctx); err != nil || fmt.Sprint(k.Store, k.Collections[0].Generations) != "[2] [2]" || k.OldFiles != 0 {
		t.Errorf("%+v, %v", k, err)
	}
	if err := c.Compact(ctx, nil); err != nil {
		t.Error(err)
	}
}

// Only what is known is done: a parameter of a later version is no wish to do less.
func TestRefused(t *testing.T) {
	_, url, _, _ := serve(t, open(t, false))
	for _, r := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/admin/v1/status", "", 200},
		{"GET", "/admin/v1/keys", "", 409},
		{"POST", "/admin/v1/compact?erase=all", "", 400},
		{"POST", "/admin/v1/compact", "{}", 400},
		{"GET", "/admin/v1/compact", "", 405},
		{"GET", "/admin/v1/keys/rotate", "", 405},
		{"POST", "/admin/v1/status", "", 405},
		{"GET", "/admin/v1/", "", 404},
		{"GET", "/admin/v2/status", "", 404},
		{"GET", "/api/v2/heartbeat", "", 404},
	} {
		req, err := http.NewRequest(r.method, url+r.path, strings.NewReader(r.body))
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != r.status {
			t.Errorf("%s %s %s: %d, want %d", r.method, r.path, r.body, res.StatusCode, r.status)
		}
	}
}

// slow is a store whose change of keys takes until it is released, or ended.
type slow struct {
	*engine.DB
	mu      sync.Mutex
	runs    int
	release chan error
}

func (s *slow) RotateKeys(ctx context.Context, progress func(engine.RotateProgress)) error {
	s.mu.Lock()
	s.runs++
	s.mu.Unlock()
	progress(engine.RotateProgress{Segments: 2, SegmentsDone: 1})
	select {
	case err := <-s.release:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// watching asks for a change of keys, and returns when it is seen to be under way.
func watching(t *testing.T, ctx context.Context, c *admin.Client) (joined bool, ended chan error) {
	t.Helper()
	ended = make(chan error, 1)
	under := make(chan struct{})
	go func() {
		ended <- c.RotateKeys(ctx, func(l admin.Line) {
			if joined = joined || l.Joined; l.Event == admin.Progressed {
				close(under)
			}
		})
	}()
	select {
	case <-under:
	case err := <-ended:
		t.Fatalf("ended: %v", err)
	}
	return joined, ended
}

// Work is done once however many ask, goes on when they leave, and ends with
// the server.
func TestWatching(t *testing.T) {
	s := &slow{DB: open(t, false), release: make(chan error)}
	c, _, a, stop := serve(t, s)
	ctx, leave := context.WithCancel(t.Context())
	joined, first := watching(t, ctx, c)
	if joined {
		t.Error("the first one joined")
	}
	joined, second := watching(t, t.Context(), c)
	if !joined {
		t.Error("the second one did not join")
	}
	if st, err := c.Status(t.Context()); err != nil || st.Running != "rotate keys" {
		t.Errorf("%+v, %v", st, err)
	}
	leave()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("who left: %v", err)
	}
	s.release <- nil
	if err := <-second; err != nil || s.runs != 1 {
		t.Errorf("%v, %d runs", err, s.runs)
	}
	_, third := watching(t, t.Context(), c)
	s.release <- errors.New("no luck\nat all")
	if err := <-third; err == nil || err.Error() != "no luck\nat all" || s.runs != 2 {
		t.Errorf("%v, %d runs", err, s.runs)
	}
	_, fourth := watching(t, t.Context(), c)
	stop()
	a.Wait()
	if err := <-fourth; err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("when the server stops: %v", err)
	}
	if err := c.Compact(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "the server is stopping") {
		t.Errorf("afterwards: %v", err)
	}
}

// An answer that ends too early is no success.
func TestCutOff(t *testing.T) {
	for _, text := range []string{"", `{"event":"began"}` + "\n", `{"event":"began"}` + "\n" + `{"event":"progress","segments":3}` + "\n" + `{"event":"do`} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }))
		c := admin.NewClient(func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", s.Listener.Addr().String())
		})
		if err := c.RotateKeys(t.Context(), nil); err == nil {
			t.Errorf("%q is success", text)
		}
		s.Close()
	}
}

// What a script reads has its fields at every line, 0 or not.
func TestLines(t *testing.T) {
	var b strings.Builder
	for _, l := range []admin.Line{{Event: admin.Began}, admin.Rotated(engine.RotateProgress{Segments: 2}), {Event: admin.Failed, Error: "x"}} {
		if err := json.NewEncoder(&b).Encode(l); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{`{"event":"began"}`, `{"event":"progress","segments":2,"segments_done":0,"bytes":0,"bytes_done":0}`, `{"event":"error","error":"x"}`}
	for lines, i := bufio.NewScanner(strings.NewReader(b.String())), 0; lines.Scan(); i++ {
		if lines.Text() != want[i] {
			t.Errorf("%s, want %s", lines.Text(), want[i])
		}
	}
}

// Users are made, and get and lose keys, over the socket; what is refused
// there says why.
func TestAccess(t *testing.T) {
	ctx := t.Context()
	c, _, _, _ := serve(t, open(t, true))
	if p, err := c.Policy(ctx); err != nil || len(p.Users) != 0 {
		t.Fatalf("%+v, %v", p, err)
	}
	if _, err := c.Run(ctx, access.Command{Do: "add-user", User: "ada", Roles: []access.Binding{{Role: "admin"}}}); err != nil {
		t.Fatal(err)
	}
	key, err := c.Run(ctx, access.Command{Do: "add-key", User: "ada"})
	if err != nil || key.Secret == "" {
		t.Fatalf("%+v, %v", key, err)
	}
	p, err := c.Policy(ctx)
	if err != nil || len(p.Users) != 1 || len(p.Users[0].Keys) != 1 || strings.Contains(fmt.Sprint(p), key.Secret) {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := c.Run(ctx, access.Command{Do: "add-user", User: "ada"}); err == nil || !strings.Contains(err.Error(), "there already") {
		t.Errorf("again: %v", err)
	}
	if _, err := c.Run(ctx, access.Command{Do: "fly"}); err == nil {
		t.Error("an unknown command was taken")
	}
}

// A store that a repair has made without its settings is not open: the engine
// and the policy mean the same setting.
func TestLostSettings(t *testing.T) {
	db, err := engine.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.ChangeSetting(t.Context(), engine.SettingsLost, func([]byte) ([]byte, error) { return []byte("by a repair"), nil }); err != nil {
		t.Fatal(err)
	}
	if k, err := access.Open(t.Context(), db, access.Outside{}); err != nil || k.Open() {
		t.Errorf("the store is open: %v", err)
	}
}

// Retentions and holds are set, shown and ended over the socket, and a field
// that nobody knows is no wish to keep less.
func TestRetention(t *testing.T) {
	ctx := t.Context()
	c, url, _, _ := serve(t, open(t, true))
	of := func(do string) admin.RetentionCommand {
		return admin.RetentionCommand{Do: do, Tenant: engine.DefaultTenant, Database: engine.DefaultDatabase, Collection: "c"}
	}
	set := of(admin.SetRetention)
	set.DefaultSeconds = 60
	if k, err := c.Retention(ctx, set); err != nil || k.Key != engine.DefaultRetentionKey || k.Default != 60 || k.Held || k.Collection != "c" {
		t.Errorf("%+v, %v", k, err)
	}
	hold := of(admin.PlaceHold)
	hold.Reason = "a case"
	if k, err := c.Retention(ctx, hold); err != nil || !k.Held || k.Reason != "a case" || k.Since.IsZero() {
		t.Errorf("%+v, %v", k, err)
	}
	if all, err := c.Retentions(ctx); err != nil || len(all) != 1 || !all[0].Held {
		t.Errorf("%+v, %v", all, err)
	}
	for do, want := range map[string]string{admin.SetRetention: "legal hold", admin.EndRetention: "legal hold", admin.PlaceHold: "empty", "fly": "none of"} {
		if _, err := c.Retention(ctx, of(do)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", do, err)
		}
	}
	if k, err := c.Retention(ctx, of(admin.ReleaseHold)); err != nil || k.Held {
		t.Errorf("%+v, %v", k, err)
	}
	for body, status := range map[string]int{
		`{"do":"show","tenant":"default_tenant","database":"default_database","collection":"c"}`:                              200,
		`{"do":"show","tenant":"default_tenant","database":"default_database","collection":"none"}`:                           409,
		`{"do":"set","tenant":"default_tenant","database":"default_database","collection":"c","default_seconds":99999999999}`: 409,
		`{"do":"show","tenant":"default_tenant","database":"default_database","collection":"c","days":3}`:                     400,
		`{`: 400,
	} {
		res, err := http.Post(url+"/admin/v1/retention", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != status {
			t.Errorf("%s: %d, want %d", body, res.StatusCode, status)
		}
	}
}

// A damaged collection is put under hold as another one: that nothing of it goes
// before it is repaired is when it matters.
func TestHoldOfDamaged(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	with := func(do func(db *engine.DB)) {
		db, err := engine.Open(dir, &engine.Options{ExpireEvery: -1})
		if err != nil {
			t.Fatal(err)
		}
		do(db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	run := func(db *engine.DB, do string) (admin.KeptCollection, error) {
		return admin.RunRetention(ctx, db, admin.RetentionCommand{Do: do, Tenant: engine.DefaultTenant, Database: engine.DefaultDatabase, Collection: "c", Reason: "a case"})
	}
	with(func(db *engine.DB) {
		c, err := db.Default().Create(ctx, "c", engine.Spec{})
		if err == nil {
			err = c.Add(ctx, engine.Record{ID: "1", Embedding: []float32{1, 2}})
		}
		if err == nil {
			_, err = run(db, admin.SetRetention)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	files, err := filepath.Glob(filepath.Join(dir, "seg", "*.seg"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	if err := os.Truncate(files[0], 100); err != nil {
		t.Fatal(err)
	}
	with(func(db *engine.DB) {
		if _, err := run(db, admin.ShowOne); !errors.Is(err, engine.ErrCorrupt) {
			t.Errorf("show: %v", err)
		}
		if k, err := run(db, admin.PlaceHold); err != nil || !k.Held || k.Over != -1 {
			t.Errorf("hold: %+v, %v", k, err)
		}
		if err := db.Default().Delete(ctx, "c"); !errors.Is(err, engine.ErrHeld) {
			t.Errorf("delete: %v", err)
		}
	})
	with(func(db *engine.DB) {
		if all, err := admin.ListRetention(ctx, db); err != nil || len(all) != 1 || !all[0].Held || all[0].Over != -1 {
			t.Errorf("%+v, %v", all, err)
		}
	})
}
