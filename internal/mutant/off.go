//go:build !mutants

package mutant

import (
	"crypto/cipher"
	"errors"
)

// On reports whether the bug is planted: never.
func On(Name) bool { return false }

// FixedNonce is the cipher of the mutant NonceReused.
func FixedNonce(cipher.Block) (cipher.AEAD, error) { return nil, errors.ErrUnsupported }
