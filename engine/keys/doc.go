// Package keys says where the operator's key comes from: the one key that is
// never on the store's disk and without which nothing in the store can be
// read.
//
// A store encrypts its files with keys of its own. They lie beside the data,
// wrapped by the operator's key, which wraps and unwraps small things (a few
// hundred bytes) when a store is made, opened or gets new keys, and is not
// asked in between. Operator is all that the engine sees of it.
//
// This package has the sources that need no network:
//
//	/path/to/key, file:///path/to/key   a key file: one Tink keyset, in the clear, as JSON
//	env://NAME                          an environment variable: base64 of the same keyset
//
// Key services have packages of their own, so that a program gets only the
// clients that it names: engine/keys/awskms, engine/keys/gcpkms,
// engine/keys/vault. Package engine/keys/all chooses among all of them by the
// scheme of a URI. Another source is a type with the three methods of Operator.
//
// operator.go has the interface and its errors, keyset.go what a usable keyset
// is, file.go and env.go the two sources, rotate.go the rotation of a key file.
package keys
