package engine

import (
	"bytes"
	"context"
	"fmt"
)

// maxSetting bounds one setting: it is written whole with every change, and
// again with every checkpoint.
const maxSetting = 8 << 20

// SettingsLost is a setting that Repair makes in a store whose settings it could
// not read: what is missing may have kept somebody out.
const SettingsLost = "settings lost"

// Setting is a value that the program keeps in the store beside its data, as
// durable and as encrypted: who may do what, for instance. The engine does not
// look into it. nil: it was never set. Reset leaves settings as they are.
func (db *DB) Setting(ctx context.Context, name string) ([]byte, error) {
	if err := db.enter(ctx); err != nil {
		return nil, err
	}
	defer db.leave()
	db.mu.RLock()
	defer db.mu.RUnlock()
	return bytes.Clone(db.catalog.settings[name]), nil
}

// ChangeSetting replaces a setting by what change makes of it: nothing removes it,
// an error leaves it as it is and is returned. Changes of one store happen one
// after another, so none is lost; change must not call the store. What was
// there before leaves the files as deleted records do.
func (db *DB) ChangeSetting(ctx context.Context, name string, change func(old []byte) ([]byte, error)) error {
	if name == "" {
		return &InvalidError{Field: "setting", Index: -1, Reason: reasonEmpty}
	}
	return db.changeCatalog(ctx, func() (*catalogEntry, error) {
		old := db.catalog.settings[name]
		value, err := change(bytes.Clone(old))
		if err != nil || bytes.Equal(value, old) {
			return nil, err
		}
		if len(value) > maxSetting {
			return nil, &InvalidError{Field: "setting", Index: -1, Reason: fmt.Sprintf("%s has %d bytes, at most %d", name, len(value), maxSetting)}
		}
		return &catalogEntry{op: opSet, name: name, value: bytes.Clone(value)}, nil
	})
}
