package engine

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/chromad/chromad/internal/keys"
)

// Receipt is a signed statement that something was erased.
type Receipt struct {
	Statement Statement
	Signature []byte // Ed25519 with Tink's prefix, of Statement.Bytes
}

// Statement says what was erased. It never holds a name; who knows a name can
// compare its NameHash. Times are RFC 3339, UTC, by the clock of the store's
// machine. docs/format/receipt.md says what each field claims, and what no
// receipt claims.
type Statement struct {
	Format string `json:"format"` // ReceiptFormat
	Store  string `json:"store"`  // 32 hexadecimal digits, as in the header of every file
	Number uint64 `json:"number"` // from 1, in the order of the receipts of the store
	Kind   string `json:"kind"`   // "collection", "database", "reset" or "records"

	Tenant       string             `json:"tenant,omitempty"`   // NameHash; of a collection and a database
	Database     string             `json:"database,omitempty"` // id, likewise
	DatabaseName string             `json:"database_name,omitempty"`
	Collections  []ErasedCollection `json:"collections"`

	DeletedFirst string      `json:"deleted_first"`
	DeletedLast  string      `json:"deleted_last"`
	Keys         []ErasedKey `json:"keys"`
	DestroyedAt  string      `json:"destroyed_at,omitempty"`

	Files      []ErasedFile `json:"files"`
	RemovedAt  string       `json:"removed_at"`
	LogFrom    uint64       `json:"log_from"`   // sequence number; the log holds no entry that is older
	LogFile    uint64       `json:"log_file"`   // number of the oldest file of the log that is left
	Checkpoint uint64       `json:"checkpoint"` // number of the oldest one that is left

	OperatorKey string   `json:"operator_key"` // URI
	Keyset      uint64   `json:"keyset"`       // number of the keyset
	KeysetKeys  []uint32 `json:"keyset_keys"`  // that could have unwrapped Keys
}

// ErasedCollection is a collection that was deleted, or that had records that
// were.
type ErasedCollection struct {
	ID   string `json:"id"`
	Name string `json:"name"` // NameHash
	Rows uint64 `json:"rows"`
}

// ErasedKey is a generation of a collection's key.
type ErasedKey struct {
	Collection string `json:"collection"`
	Generation uint32 `json:"generation"`
	File       string `json:"file"`       // random identity of the key's file, of which copies have the same
	KeysetKey  uint32 `json:"keyset_key"` // that wrapped it
}

// ErasedFile is a segment that was removed.
type ErasedFile struct {
	Name   string `json:"name"`
	File   string `json:"file"` // random identity, in the header
	Length int64  `json:"length"`
	Root   string `json:"root"` // checksum of the whole, in the footer
}

// ReceiptFormat is the format of the statements that this version makes.
const ReceiptFormat = "chromad erasure receipt 1"

// ErrReceipt says that a receipt is not what the store signed.
var ErrReceipt = errors.New("not a receipt of this store")

// NameHash is what stands in receipts for a name of a tenant, a database or a
// collection: SHA-256 of the store's id (16 bytes) and the name, hexadecimal.
func NameHash(store, name string) (string, error) {
	id, err := hex.DecodeString(store)
	if err != nil || len(id) != 16 {
		return "", fmt.Errorf("store %.40q: an id has 32 hexadecimal digits", store)
	}
	sum := sha256.Sum256(append(id, name...))
	return hex.EncodeToString(sum[:]), nil
}

func (db *DB) hashName(name string) nameHash {
	return sha256.Sum256(append(db.store[:len(db.store):len(db.store)], name...))
}

// Bytes are the bytes that are signed: one line of JSON, the fields in the
// order in which they are declared, without spaces.
func (s *Statement) Bytes() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

const (
	receiptHead   = `{"statement":`
	receiptMiddle = `,"signature":"`
	receiptTail   = "\"}\n"
)

// Bytes are the receipt as a file: one line of JSON.
func (r *Receipt) Bytes() ([]byte, error) {
	s, err := r.Statement.Bytes()
	if err != nil {
		return nil, err
	}
	b := append([]byte(receiptHead), s...)
	b = append(b, receiptMiddle...)
	b = base64.StdEncoding.AppendEncode(b, r.Signature)
	return append(b, receiptTail...), nil
}

// ParseReceipt reads what Bytes returned. Nothing else is accepted, not even
// another spelling of the same: what is not in the one form is not what was
// signed (ErrReceipt).
func ParseReceipt(b []byte) (*Receipt, error) {
	var in struct {
		Statement Statement `json:"statement"`
		Signature []byte    `json:"signature"`
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return nil, fmt.Errorf("receipt: %w: %w", err, ErrReceipt)
	}
	r := &Receipt{in.Statement, in.Signature}
	again, err := r.Bytes()
	if err == nil && !bytes.Equal(again, b) {
		err = errors.New("not in the form in which receipts are written")
	}
	if err == nil && r.Statement.Format != ReceiptFormat {
		err = fmt.Errorf("format %.60q, this version knows %q", r.Statement.Format, ReceiptFormat)
	}
	if err != nil {
		return nil, fmt.Errorf("receipt: %w: %w", err, ErrReceipt)
	}
	return r, nil
}

// Verify checks the signature with the public keyset of the store
// (DB.PublicKey), which has to come from somewhere that is trusted: it is all
// that tells who signed. ErrReceipt.
func (r *Receipt) Verify(public []byte) error {
	s, err := r.Statement.Bytes()
	if err != nil {
		return err
	}
	if err := keys.Verify(public, s, r.Signature); err != nil {
		return fmt.Errorf("signature of receipt %d: %w: %w", r.Statement.Number, err, ErrReceipt)
	}
	return nil
}

// PublicKey is the public half of the key that signs receipts, a keyset in
// Tink's JSON form. It stays the same for as long as the store lives. ErrKey:
// a plain store signs nothing.
func (db *DB) PublicKey() ([]byte, error) {
	if db.ring == nil {
		return nil, errPlainReceipts
	}
	return db.ring.Public()
}

var errPlainReceipts = fmt.Errorf("the store is not encrypted: it has no key that could be destroyed, and none to sign with, so it gives no receipts: %w", ErrKey)

// showTime is a time as receipts show it, 0: none.
func showTime(seconds int64) string {
	if seconds == 0 {
		return ""
	}
	return time.Unix(seconds, 0).UTC().Format(time.RFC3339)
}
