// Package keys keeps the keys of an encrypted store: it makes, finds, rotates
// and destroys them, and is the seal.Keys under which files are written and
// read.
//
//	operator's key    the operator's: a KMS, a file. Never on our disk
//	  keyset          Tink, AES256-GCM; in one file, wrapped by the operator's key
//	    data key      one for each collection, and one for the store (the zero
//	                  id); each generation in a file of its own, wrapped by the
//	                  primary key of the keyset
//	      file key    HKDF of the data key and the file's identity; on no disk
//
// So a file that is destroyed with its collection's data key stays unreadable
// wherever copies of it are, changing the operator's key rewrites one small
// file, and changing the keyset rewrites one small file for each collection.
// The bytes are in docs/format/keys.md.
//
// # Use
//
//	ring, err := keys.Create(ctx, fs, store, operator, false)   // a new store, or one that is being converted
//	ring, err := keys.Open(ctx, fs, store, operator, readOnly)  // one that has keys
//	err = ring.NewCollection(id)                                // before the first file or entry of a collection
//	disk.WriteFile(fs, name, header, ring, ...)                 // a Ring is seal.Keys
//	destroyed, err := ring.Destroy(id)                          // what was written under id can never be read again
//
// Create is for a store that has no file under a key yet. It is repeated when
// it was interrupted: Present is false until it is complete. Open never makes
// what is missing, so a store whose files name keys is opened, whatever Present
// says. Inspect tells which operator's key is needed.
//
// A key that a crash left without a collection is found by Collections, and
// destroyed. Whoever writes a file, or a session of entries, asks Writer once
// and keeps the sealer: it counts the blocks that the file's key has sealed.
//
// # Rotation
//
// Every step is durable when it returns and does nothing when it was done
// before, so that a rotation that was interrupted goes on from what is on disk
// (Ring.Rotation says what is left):
//
//	AddPrimary    a new key in the keyset wraps data keys from now on
//	Renew         a new generation of each data key, under that key
//	              (the engine rewrites files of older generations)
//	Drop          the generations that no file uses any more
//	Retire        the keys of the keyset that wrap nothing any more
//
// A data key whose file is damaged or missing stops a rotation, since nobody
// knows what wraps it, until its collection is destroyed or the file is back.
//
// Rewrap puts the same keyset under another operator's key. Settle ends a
// conversion: from then on a file that is not encrypted is refused.
//
// # Errors
//
// seal.ErrKey: the key is missing or not the right one; the message says which
// operator's key, keyset and key ids were wanted, never what a key is. A key
// service that could not be asked is that error alone.
// ErrShredded is the ErrKey of a collection that has no key at all.
// ErrOperator: the operator's key did not seal a changed keyset, as when a key
// service does not answer.
// disk.ErrCorrupt: a file in keys/ is damaged, or is not the one its name
// says. Nothing was written in any of these cases. ErrFailed: the disk failed
// under a change of keys, and what is durable is known only after the store
// was opened again; reading goes on.
//
// # Memory
//
// Data keys and file keys are wiped when they are dropped. What Tink and
// crypto/aes keep inside (the keyset, key schedules) cannot be wiped from
// here; it goes with the garbage. No exported type prints a key.
package keys
