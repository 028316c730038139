package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/engine/keys"
	"github.com/chromad/chromad/engine/keys/all"
)

// smallStore is a store on disk with two collections of one segment each; key
// is the path of an operator's key, empty: none.
func smallStore(t *testing.T, key string) string {
	t.Helper()
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "store")
	o := &engine.Options{}
	if key != "" {
		op, err := all.OpenURI(ctx, key)
		okay(t, err)
		o.Keys = op
	}
	db, err := engine.Open(path, o)
	okay(t, err)
	for _, name := range []string{"plain", "with\nnewline"} {
		c, _, err := db.Default().GetOrCreate(ctx, name, engine.Spec{})
		okay(t, err)
		okay(t, c.Add(ctx, engine.Record{ID: "a\tb", Embedding: []float32{1, 2}, Document: engine.Optional("text")}, engine.Record{ID: "c", Embedding: []float32{3, 4}}))
	}
	okay(t, db.Flush(ctx))
	okay(t, db.Close())
	return path
}

func okay(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// told runs a command.
func told(args ...string) (status int, stdout, stderr string) {
	var out, err bytes.Buffer
	status = command(context.Background(), args, &out, &err)
	return status, out.String(), err.String()
}

// spoil damages bytes of a file; a segment's vectors begin at 128.
func spoil(t *testing.T, path string, at int64, n int) {
	t.Helper()
	b, err := os.ReadFile(path)
	okay(t, err)
	for i := range n {
		b[at+int64(i)] ^= byte(0x5a + i)
	}
	okay(t, os.WriteFile(path, b, 0o600))
}

func TestCheckCommand(t *testing.T) {
	path := smallStore(t, "")
	for _, tc := range []struct {
		name   string
		args   []string
		status int
		out    []string
		err    []string
	}{
		{"clean", []string{"check", path}, 0, []string{"2 collections, 2 segments, 4 records", "clean: nothing is wrong"}, nil},
		{"quiet", []string{"check", "--quiet", path}, 0, nil, nil},
		{"help", []string{"check", "--help"}, 0, []string{"chromad check PATH [flags]", "--json", "Examples:"}, nil},
		{"no path", []string{"check"}, 2, nil, []string{"which store?"}},
		{"no store", []string{"check", t.TempDir()}, 2, nil, []string{"no store here"}},
		{"unknown flag", []string{"check", path, "--fix"}, 2, nil, []string{"unknown flag --fix"}},
		{"a key for a plain store", []string{"check", path, "--keys", "/nowhere"}, 2, nil, []string{"/nowhere"}},
	} {
		status, out, errText := told(tc.args...)
		if status != tc.status || len(tc.out) == 0 && out != "" || len(tc.err) == 0 && errText != "" {
			t.Errorf("%s: status %d\n%s%s", tc.name, status, out, errText)
		}
		contains(t, tc.name, out, tc.out)
		contains(t, tc.name, errText, tc.err)
	}
	spoil(t, filepath.Join(path, "seg/0000000000000002.seg"), 128, 3)
	status, out, _ := told("check", path)
	contains(t, "damaged", out, []string{"damage: seg/0000000000000002.seg at byte 128, vectors, collection ", "DAMAGED: 1 finding of damage"})
	quietStatus, quiet, _ := told("check", path, "--quiet")
	jsonStatus, text, _ := told("check", path, "--json")
	var r engine.Report
	okay(t, json.Unmarshal([]byte(text), &r))
	if status != 1 || quietStatus != 1 || jsonStatus != 1 || strings.Contains(quiet, "clean") || !strings.Contains(quiet, "vectors") || len(r.Findings) != 1 || r.Findings[0].Section != "vectors" {
		t.Errorf("status %d, %d, %d\n%s%s", status, quietStatus, jsonStatus, quiet, text)
	}
	db, err := engine.Open(path, nil)
	okay(t, err)
	defer db.Close()
	if status, _, text := told("check", path); status != 2 || !strings.Contains(text, "stop the server first") {
		t.Errorf("in use: status %d, %s", status, text)
	}
}

func contains(t *testing.T, name, text string, parts []string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s: %q is not in\n%s", name, p, text)
		}
	}
}

func TestRepairCommand(t *testing.T) {
	path := smallStore(t, "")
	status, out, errText := told("repair", path)
	if status != 0 {
		t.Errorf("whole: status %d\n%s%s", status, out, errText)
	}
	contains(t, "whole", out, []string{"Nothing is lost.", path + ".repaired and passes its check"})
	if status, _, errText := told("repair", path); status != 2 || !strings.Contains(errText, "is there already and not empty") {
		t.Errorf("twice: status %d, %s", status, errText)
	}
	if status, _, errText := told("repair", path, "--in-place", "--out", "x"); status != 2 || !strings.Contains(errText, "choose one") {
		t.Errorf("both: status %d, %s", status, errText)
	}
	spoil(t, filepath.Join(path, "seg/0000000000000002.seg"), 128, 3)
	elsewhere := filepath.Join(t.TempDir(), "new", "store")
	status, out, errText = told("repair", path, "--json", "--out", elsewhere)
	var r engine.RepairReport
	okay(t, json.Unmarshal([]byte(out), &r))
	if status != 1 || len(r.Lost) != 2 || r.Lost[0].ID != "a\tb" || r.Lost[1].Row != 1 || !r.Check.Clean() {
		t.Errorf("status %d\n%s%s", status, out, errText)
	}
	okay(t, os.RemoveAll(path+".repaired"))
	status, out, errText = told("repair", path, "--in-place")
	contains(t, "in place", out, []string{`rows 0 to 1, ids "a\tb" to "c": 2 times: a record`, path + ".damaged"})
	if clean, _, _ := told("check", path); status != 1 || clean != 0 {
		t.Errorf("in place: status %d, then check %d\n%s%s", status, clean, out, errText)
	}
	if damaged, _, _ := told("check", path+".damaged"); damaged != 1 {
		t.Errorf("the damaged store is not what it was: status %d", damaged)
	}
}

func TestInspectCommand(t *testing.T) {
	path := smallStore(t, "")
	for _, tc := range []struct {
		args []string
		want []string
	}{
		{nil, []string{"encrypted    no", "2 collections, 4 records, 2 segments"}},
		{[]string{"collections"}, []string{`"plain"`, `"with\nnewline"`, "l2"}},
		{[]string{"checkpoints"}, []string{"NUMBER"}},
		{[]string{"checkpoints", "--hex"}, []string{`magic         "CHROMAD\x00"`, "3, checkpoint", "1, catalog", "root          right"}},
		{[]string{"segments"}, []string{"1-2"}},
		{[]string{"segments", "2"}, []string{"vectors", "id table", "properties"}},
		{[]string{"segments", "2", "--hex"}, []string{"2, segment", "4, id ends", "CHROMEND"}},
		{[]string{"log"}, []string{"2 create collection"}},
		{[]string{"log", "1"}, []string{"1 write"}},
		{[]string{"log", "1", "--hex"}, []string{`frame magic   "CHWF"`, "checksum      right"}},
		{[]string{"--help"}, []string{"Views:"}},
	} {
		status, out, errText := told(append([]string{"inspect", path}, tc.args...)...)
		if status != 0 || errText != "" {
			t.Errorf("%v: status %d, %s", tc.args, status, errText)
		}
		contains(t, strings.Join(tc.args, " "), out, tc.want)
	}
	for _, args := range [][]string{{"segmens"}, {"segments", "x"}, {"segments", "77"}, {"collections", "1"}, {"--hex"}, {"log", "1", "2"}, {"--heks"}} {
		if status, out, errText := told(append([]string{"inspect", path}, args...)...); status != 2 || out != "" || errText == "" {
			t.Errorf("%v: status %d, %s", args, status, out)
		}
	}
	_, text, _ := told("inspect", path, "--json")
	var v engine.Inspection
	okay(t, json.Unmarshal([]byte(text), &v))
	if len(v.Collections) != 2 || len(v.Segments) != 2 || len(v.Log) != 1 || v.Segments[0].Rows != 2 {
		t.Errorf("%s", text)
	}
	spoil(t, filepath.Join(path, "seg/0000000000000002.seg"), 70, 1) // in the header
	_, out, _ := told("inspect", path, "segments", "2", "--hex")
	contains(t, "a damaged header", out, []string{"WRONG, should be"})
	_, out, _ = told("inspect", path, "segments")
	contains(t, "a damaged header", out, []string{"not shown: seg/0000000000000002.seg"})
}

// Of an encrypted store one sees headers; with the key, everything.
func TestEncryptedCommands(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key.json")
	okay(t, keys.CreateFile(key))
	path := smallStore(t, key)
	for _, name := range []string{"check", "repair"} {
		if status, _, errText := told(name, path); status != 2 || !strings.Contains(errText, "--keys") {
			t.Errorf("%s without the key: status %d, %s", name, status, errText)
		}
		if status, out, errText := told(name, path, "--keys", key); status != 0 {
			t.Errorf("%s: status %d\n%s%s", name, status, out, errText)
		}
	}
	status, out, errText := told("inspect", path)
	if status != 0 {
		t.Errorf("status %d, %s", status, errText)
	}
	contains(t, "without the key", out, []string{"which was not given: headers only", "seg/"})
	_, out, _ = told("inspect", path, "segments", "--hex")
	contains(t, "without the key", out, []string{"encrypted", "generation 1"})
	_, out, _ = told("inspect", path, "log", "--hex")
	contains(t, "without the key", out, []string{"1, log"})
	_, out, _ = told("inspect", path, "--keys", key)
	contains(t, "with the key", out, []string{"2 collections, 4 records"})
	_, out, _ = told("inspect", path, "log", "1", "--keys", key)
	contains(t, "with the key", out, []string{"1 write"})
	all := append(slices.Clone([]string{"inspect", path, "collections"}), "--keys", key)
	_, out, _ = told(all...)
	contains(t, "with the key", out, []string{`"plain"`})
}
