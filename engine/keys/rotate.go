package keys

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// AddKey adds a new key to a key file: from now on it encrypts, and the older
// ones still decrypt. The file is replaced in one step. A process that has it
// open goes on with what it has read.
//
// The old keys can go (DropOldKeys) when every store that uses the file has
// been wrapped again.
func AddKey(path string) error {
	return edit(path, func(m *keyset.Manager, _ *keyset.Handle) error {
		id, err := m.Add(aead.AES256GCMKeyTemplate())
		if err != nil {
			return err
		}
		return m.SetPrimary(id)
	})
}

// DropOldKeys removes all keys but the primary one from a key file. What is
// still encrypted with them is lost: wrap every store again before, and
// remember copies of stores.
func DropOldKeys(path string) error {
	return edit(path, func(m *keyset.Manager, h *keyset.Handle) error {
		for i := range h.Len() {
			entry, err := h.Entry(i)
			if err != nil {
				return err
			}
			if entry.IsPrimary() {
				continue
			}
			if err := m.Delete(entry.KeyID()); err != nil {
				return err
			}
		}
		return nil
	})
}

// edit changes the keyset of a key file. The new file is made beside it under a
// name of its own, which also keeps two edits apart.
func edit(path string, change func(*keyset.Manager, *keyset.Handle) error) error {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("key file: %w", err)
	}
	text, info, err := readFile(target)
	if err != nil {
		return err
	}
	defer clear(text)
	h, err := decode(text)
	if err != nil {
		return &Error{URI: fileURI(path), Op: "open", Kind: ErrConfig, Detail: err.Error(), Check: "check that it is a key file"}
	}
	m := keyset.NewManagerFromHandle(h)
	if err := change(m, h); err != nil {
		return fmt.Errorf("key file %s: %w", path, err)
	}
	if h, err = m.Handle(); err != nil {
		return fmt.Errorf("key file %s: %w", path, err)
	}
	changed, err := encode(h)
	if err != nil {
		return fmt.Errorf("key file %s: %w", path, err)
	}
	defer clear(changed)
	if len(changed) > maxKeyset {
		return fmt.Errorf("key file %s: it would be larger than %d bytes: drop old keys first", path, maxKeyset)
	}
	return replace(target, changed, info)
}

func replace(target string, text []byte, like fs.FileInfo) error {
	beside := target + ".new"
	if err := writeFile(beside, text, like); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("key file %s: %s is there: another change is under way, or was cut off: then remove it: %w", target, beside, fs.ErrExist)
		}
		return fmt.Errorf("key file: %w", err)
	}
	if err := os.Rename(beside, target); err != nil {
		os.Remove(beside)
		return fmt.Errorf("key file: %w", err)
	}
	if err := syncDir(filepath.Dir(target)); err != nil {
		return fmt.Errorf("key file: %w", err)
	}
	return nil
}
