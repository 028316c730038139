package engine

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"

	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// testOperator is an operator's key made from its name: AES-256-GCM.
type testOperator struct {
	uri  string
	aead cipher.AEAD
}

func operator(name string) *testOperator {
	key := sha256.Sum256([]byte(name))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return &testOperator{"test://" + name, aead}
}

func (o *testOperator) EncryptWithContext(_ context.Context, plain, associated []byte) ([]byte, error) {
	return o.aead.Seal(nil, nil, plain, associated), nil
}

func (o *testOperator) DecryptWithContext(_ context.Context, sealed, associated []byte) ([]byte, error) {
	return o.aead.Open(nil, nil, sealed, associated)
}

func (o *testOperator) URI() string { return o.uri }

// maybeKeys encrypts every second seed's store.
func maybeKeys(seed uint64) OperatorKey {
	if seed%2 == 0 {
		return operator("a")
	}
	return nil
}

// keyed are options with an operator's key.
func keyed(o Options) Options {
	o.Keys = operator("a")
	return o
}

// What is written to an encrypted store is there when it is opened again, by
// way of the log, of segments and of a checkpoint.
func TestEncryptedStore(t *testing.T) {
	ctx := t.Context()
	fs := faultfs.New(1)
	db := openOn(t, fs, keyed(Options{GraphMin: 4}))
	m, _, err := tour(ctx, db)
	check(t, err)
	for range 2 {
		left := fs.Clone()
		db.Close()
		fs = left
		db = openOn(t, fs, keyed(Options{GraphMin: 4}))
		if d, err := m.diff(ctx, db, ""); d != "" || err != nil {
			t.Fatal(d, err)
		}
		check(t, findEverything(ctx, db, m))
		check(t, db.Compact(ctx))
	}
	info, err := db.KeyInfo(ctx)
	check(t, err)
	if info.OldFiles != 0 || len(info.Keyset) != 1 || len(info.Collections) != len(m) || info.URI != "test://a" || fmt.Sprint(info.Store) != "[1]" {
		t.Errorf("%+v", info)
	}
	check(t, db.RotateKeys(ctx, nil))
	info, err = db.KeyInfo(ctx)
	check(t, err)
	if info.OldFiles != 0 || len(info.Keyset) != 1 || fmt.Sprint(info.Store) != "[2]" {
		t.Errorf("%+v", info)
	}
	if d, err := m.diff(ctx, db, ""); d != "" || err != nil {
		t.Fatal(d, err)
	}
	check(t, db.Close())
	db = openOn(t, fs, keyed(Options{GraphMin: 4}))
	check(t, findEverything(ctx, db, m))
	check(t, db.Close())
	if _, err := Open("", &Options{fs: fs}); !errors.Is(err, ErrKey) {
		t.Error(err)
	}
}
