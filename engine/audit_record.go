package engine

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"

	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
)

// AuditKind is what a record of the audit log is.
type AuditKind byte

// The kinds. All but the first are the engine's own.
const (
	AuditEvent   AuditKind = 1 // Body is what AppendAudit was given
	AuditSigned  AuditKind = 2 // Body is a signature of the record before
	AuditRemoved AuditKind = 3 // Body is an AuditRemoval
	AuditGap     AuditKind = 4 // Body is an AuditLoss: records before this one could not be read any more
)

// AuditRemoval says which records were removed because they were old, or too
// many. It is durable before they go.
type AuditRemoval struct {
	Through uint64 `json:"through"` // sequence number of the last one
	Hash    string `json:"hash"`    // of that one, hexadecimal
	Files   int    `json:"files"`
	Bytes   int64  `json:"bytes"`
}

// AuditLoss says that the log was damaged when it was opened, and goes on.
type AuditLoss struct {
	After  uint64 `json:"after"`  // the last record that could be read, 0: none
	Known  uint64 `json:"known"`  // the last one that is known to have been, 0: nobody knows
	Reason string `json:"reason"` // what was wrong
}

type auditHash [sha256.Size]byte

func (h auditHash) String() string { return hex.EncodeToString(h[:]) }

// auditRecord is a record as it is stored. docs/format/audit.md draws it.
type auditRecord struct {
	kind AuditKind
	seq  uint64
	time int64     // Unix seconds
	prev auditHash // of the record before, zero for the first
	body []byte
}

const (
	auditHead    = 1 + 8 + 8 + sha256.Size + 4
	maxAuditBody = 64 << 10

	auditRecordDomain    = "chromad audit record 1\n"
	auditSignatureDomain = "chromad audit signature 1\n"
)

func (r *auditRecord) append(b []byte) []byte {
	b = append(b, byte(r.kind))
	b = binary.LittleEndian.AppendUint64(b, r.seq)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.time))
	b = append(b, r.prev[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(r.body)))
	return append(b, r.body...)
}

// cutAuditRecord reads the record at the front of b; stored are its bytes. The
// body aliases b.
func cutAuditRecord(b []byte) (r auditRecord, stored, rest []byte, err error) {
	d := disk.NewDecoder(b)
	r.kind = AuditKind(d.Byte())
	r.seq = d.Uint64()
	r.time = int64(d.Uint64())
	copy(r.prev[:], d.Bytes(len(r.prev)))
	n := d.Uint32()
	if d.Err() == nil && n > maxAuditBody {
		d.Fail("body of %d bytes, %d are the most", n, maxAuditBody)
	}
	if d.Err() == nil {
		r.body = d.Bytes(int(n))
	}
	if d.Err() == nil && (r.kind < AuditEvent || r.kind > AuditGap) {
		d.Fail("kind %d", r.kind)
	}
	if d.Err() == nil && (r.seq == 0 || r.seq == math.MaxUint64) {
		d.Fail("number %d", r.seq)
	}
	if err := d.Err(); err != nil {
		return auditRecord{}, nil, nil, fmt.Errorf("audit record: %w: %w", ErrCorrupt, err)
	}
	size := auditHead + int(n)
	return r, b[:size:size], b[size:], nil
}

// hashAudit is the link of the chain: the next record holds it.
func hashAudit(store seal.ID, stored []byte) (sum auditHash) {
	h := sha256.New()
	h.Write([]byte(auditRecordDomain))
	h.Write(store[:])
	h.Write(stored)
	h.Sum(sum[:0])
	return sum
}

// auditMessage is what a signature is of: a record and, by its hash, all
// before it.
func auditMessage(store seal.ID, seq uint64, hash auditHash) []byte {
	b := append([]byte(auditSignatureDomain), store[:]...)
	b = binary.LittleEndian.AppendUint64(b, seq)
	return append(b, hash[:]...)
}

// decodeAuditNote reads the body of a record of the engine's own.
func decodeAuditNote(body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("audit record: %w: %w", ErrCorrupt, err)
	}
	return nil
}

// auditSummary is what a closed file says of its records.
type auditSummary struct {
	first, last uint64
	from, to    int64     // times of the first and the last one
	log         uint64    // position in audit/log at which the log goes on
	prev, hash  auditHash // of the record before the first, and of the last
}

const auditSummarySize = 5*8 + 2*sha256.Size

func (s *auditSummary) append(b []byte) []byte {
	for _, n := range []uint64{s.first, s.last, uint64(s.from), uint64(s.to), s.log} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	b = append(b, s.prev[:]...)
	return append(b, s.hash[:]...)
}

func decodeAuditSummary(b []byte) (s auditSummary, err error) {
	d := disk.NewDecoder(b)
	s.first, s.last = d.Uint64(), d.Uint64()
	s.from, s.to, s.log = int64(d.Uint64()), int64(d.Uint64()), d.Uint64()
	copy(s.prev[:], d.Bytes(len(s.prev)))
	copy(s.hash[:], d.Bytes(len(s.hash)))
	if d.Err() == nil && (s.first == 0 || s.last < s.first || s.last == math.MaxUint64) {
		d.Fail("records %d to %d", s.first, s.last)
	}
	if err := d.Done(); err != nil {
		return auditSummary{}, fmt.Errorf("summary: %w: %w", ErrCorrupt, err)
	}
	return s, nil
}

// take adds a record to the summary of those before it.
func (s *auditSummary) take(r *auditRecord, hash auditHash) {
	if s.first == 0 {
		s.first, s.from, s.prev = r.seq, r.time, r.prev
	}
	s.last, s.to, s.hash = r.seq, r.time, hash
}
