package access

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"
)

// An API key is "chromad_", an id of 8 characters, "_", and 256 random bits in
// base64: the first part lets scanners for leaked secrets know it, the id lets
// people talk of it, and only a hash of the whole is kept. The secret has so
// many bits that the hash need not be slow.
const (
	keyPrefix  = "chromad_"
	keyIDBytes = 6 // 8 characters of base64
	keyBytes   = 32
	keyLength  = len(keyPrefix) + 8 + 1 + 43
)

// NewKey makes an API key. secret is shown once and kept nowhere.
func NewKey(name string, created, expires time.Time) (k Key, secret string, err error) {
	var raw [keyIDBytes + keyBytes]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return Key{}, "", err
	}
	// An id is part of names and URLs: letters and digits only.
	id := strings.NewReplacer("-", "0", "_", "1").Replace(base64.RawURLEncoding.EncodeToString(raw[:keyIDBytes]))
	secret = keyPrefix + id + "_" + base64.RawURLEncoding.EncodeToString(raw[keyIDBytes:])
	return Key{ID: id, Hash: hashKey(secret), Name: name, Created: created.UTC().Truncate(time.Second), Expires: expires.UTC().Truncate(time.Second)}, secret, nil
}

func hashKey(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// keyID is the id in a text that looks like an API key.
func keyID(secret string) (id string, ok bool) {
	rest, ok := strings.CutPrefix(secret, keyPrefix)
	if !ok || len(secret) != keyLength || rest[8] != '_' {
		return "", false
	}
	for i := range 8 { // it stands in logs, also when nobody has such a key
		if c := rest[i]; !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9') {
			return "", false
		}
	}
	return rest[:8], true
}

// is reports whether secret is the key, in a time that does not depend on
// how much of it is right.
func (k *Key) is(secret string) bool {
	if len(secret) != keyLength || len(k.Hash) != hex.EncodedLen(sha256.Size) {
		return false
	}
	// Without a byte from the heap: this is done for every request.
	var text [keyLength]byte
	copy(text[:], secret)
	sum := sha256.Sum256(text[:])
	var have, want [2 * sha256.Size]byte
	hex.Encode(have[:], sum[:])
	copy(want[:], k.Hash)
	return subtle.ConstantTimeCompare(have[:], want[:]) == 1
}

func (k *Key) expired(now time.Time) bool { return !k.Expires.IsZero() && !now.Before(k.Expires) }

func (k *Key) check() error {
	for _, r := range k.ID {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9') {
			return fmt.Errorf("id %q: letters and digits", k.ID)
		}
	}
	if len(k.ID) != 8 {
		return fmt.Errorf("id %q: 8 characters", k.ID)
	}
	if b, err := hex.DecodeString(k.Hash); err != nil || len(b) != sha256.Size || strings.ToLower(k.Hash) != k.Hash {
		return errors.New("hash: 64 hexadecimal digits, small letters")
	}
	if len(k.Name) > maxName {
		return fmt.Errorf("name: %d bytes, at most %d", len(k.Name), maxName)
	}
	return nil
}

// Passwords are hashed with Argon2id (RFC 9106, section 4: the second
// recommended choice, for where memory is short).
const (
	argonTime    = 3
	argonMemory  = 64 << 10 // KiB
	argonThreads = 4
	argonSalt    = 16
	argonSum     = 32

	minPassword, maxPassword = 12, 1024
)

// password is a parsed hash.
type password struct{ salt, sum []byte }

const passwordHead = "$argon2id$v=19$m=65536,t=3,p=4$"

// HashPassword makes the stored form of a password.
func HashPassword(text string) (string, error) {
	if len(text) < minPassword || len(text) > maxPassword {
		return "", fmt.Errorf("a password has %d to %d bytes", minPassword, maxPassword)
	}
	salt := make([]byte, argonSalt)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	return passwordHead + base64.RawStdEncoding.EncodeToString(salt) + "$" + base64.RawStdEncoding.EncodeToString(argon(text, salt)), nil
}

func argon(text string, salt []byte) []byte {
	return argon2.IDKey([]byte(text), salt, argonTime, argonMemory, argonThreads, argonSum)
}

// parsePassword reads a hash. Parameters other than ours are refused: who can
// write them could make every login take all memory.
func parsePassword(stored string) (password, error) {
	rest, ok := strings.CutPrefix(stored, passwordHead)
	salt, sum, two := strings.Cut(rest, "$")
	if !ok || !two {
		return password{}, errors.New("not a hash that chromad users makes")
	}
	var p password
	var err error
	if p.salt, err = base64.RawStdEncoding.DecodeString(salt); err != nil || len(p.salt) != argonSalt {
		return password{}, errors.New("not a salt")
	}
	if p.sum, err = base64.RawStdEncoding.DecodeString(sum); err != nil || len(p.sum) != argonSum {
		return password{}, errors.New("not a sum")
	}
	return p, nil
}

func (p password) is(text string) bool {
	return subtle.ConstantTimeCompare(argon(text, p.salt), p.sum) == 1
}
