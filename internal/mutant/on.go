//go:build mutants

package mutant

import (
	"bytes"
	"crypto/cipher"
	"io"
	"os"
)

var chosen = Name(os.Getenv("CHROMAD_MUTANT"))

// On reports whether the bug is planted.
func On(n Name) bool { return n == chosen }

// FixedNonce is AES-GCM whose nonce, in front of the ciphertext as with
// cipher.NewGCMWithRandomNonce, is always the same.
func FixedNonce(b cipher.Block) (cipher.AEAD, error) {
	gcm, err := cipher.NewGCM(b)
	return fixed{gcm}, err
}

type fixed struct{ gcm cipher.AEAD }

func (f fixed) NonceSize() int { return 0 }
func (f fixed) Overhead() int  { return f.gcm.NonceSize() + f.gcm.Overhead() }

func (f fixed) Seal(dst, _, plain, more []byte) []byte {
	nonce := make([]byte, f.gcm.NonceSize())
	return f.gcm.Seal(append(dst, nonce...), nonce, bytes.Clone(plain), more) // dst may overlap
}

func (f fixed) Open(dst, _, sealed, more []byte) ([]byte, error) {
	n := f.gcm.NonceSize()
	if len(sealed) < n {
		return nil, io.ErrUnexpectedEOF
	}
	return f.gcm.Open(dst, bytes.Clone(sealed[:n]), bytes.Clone(sealed[n:]), more)
}
