package engine

import (
	"bytes"
	"errors"
	"testing"

	"github.com/chromad/chromad/internal/vfs/faultfs"
)

// FuzzParseReceipt: a receipt has one spelling, and only what the store signed
// is believed, whoever holds the receipt, and whatever is taken for its key.
func FuzzParseReceipt(f *testing.F) {
	db := openOn(f, faultfs.New(1), keyed(Options{}))
	f.Cleanup(func() { db.Close() })
	public, err := db.PublicKey()
	check(f, err)
	good := &Receipt{Statement: Statement{
		Format: ReceiptFormat, Store: db.store.String(), Number: 1, Kind: "records",
		Collections: []ErasedCollection{{ID: ID{1}.String(), Name: "<é & \u2028>", Rows: 1 << 60}},
		Keys:        []ErasedKey{}, Files: []ErasedFile{{Name: "n", Length: -1}}, KeysetKeys: []uint32{1<<32 - 1},
	}}
	msg, err := good.Statement.Bytes()
	check(f, err)
	good.Signature, err = db.ring.Sign(msg)
	check(f, err)
	text, err := good.Bytes()
	check(f, err)
	f.Add(text, public)
	f.Add(text[:len(text)/2], public)
	f.Add(bytes.Replace(text, []byte(`"number":1`), []byte(`"number":2`), 1), public)
	f.Add(bytes.Replace(text, []byte(`"number":1`), []byte(`"number":1.0`), 1), public)
	f.Add(append([]byte(" "), text...), []byte(`{"primaryKeyId":1,"key":[{"keyData":null}]}`))
	f.Add([]byte(`{"statement":{},"signature":""}`+"\n"), public[:len(public)/2])
	f.Fuzz(func(t *testing.T, b, key []byte) {
		var r *Receipt
		var err error
		bounded(t, b, 100, func() { r, err = ParseReceipt(b) })
		if err != nil {
			if !errors.Is(err, ErrReceipt) {
				t.Errorf("%v", err)
			}
			return
		}
		again, err := r.Bytes()
		check(t, err)
		same(t, again, b)
		if err := r.Verify(public); (err == nil) != bytes.Equal(b, text) {
			t.Errorf("%s: %v", b, err)
		}
		if err := r.Verify(key); err != nil && !errors.Is(err, ErrReceipt) {
			t.Errorf("%v", err)
		}
	})
}

// FuzzNames: a name is ours in one spelling only.
func FuzzNames(f *testing.F) {
	f.Add("0000000000000001-00000001.receipt")
	f.Add("0000000000000000-00000001.receipt")
	f.Add("+000000000000001-0x000001.receipt")
	f.Add(ID{1}.String())
	f.Add("0100000000004000B000000000000000")
	f.Fuzz(func(t *testing.T, s string) {
		if file, ours := parseReceiptName(s); ours && file.name() != receiptDir+"/"+s {
			t.Errorf("%q is %q", s, file.name())
		}
		id, err := ParseID(s)
		if err != nil {
			return
		}
		if again, err := ParseID(id.String()); err != nil || again != id {
			t.Errorf("%q became %v, %v", s, again, err)
		}
	})
}
