// Package privacy is what may be stored about people, and what of it somebody
// may see.
//
// Fields are rules of a role about the fields of records: a metadata key, the
// document, the uri or the embedding is visible, hidden, masked, hashed or
// shown as a pseudonym. Sight is what the rules of several grants come to for
// one principal and one action, View is a Sight at work on the records, the
// filters and the writes of one collection.
//
// Rules are an operator's rules about what is stored at all: which metadata
// keys are accepted, which are dropped, hashed or made pseudonyms, and what
// becomes of personal data that Find recognises in texts. Plan is what they
// come to for one collection.
//
// Keys are the secrets of both: hashes are HMAC-SHA256, pseudonyms AES-SIV
// (RFC 5297, deterministic), each bound to one collection and one field.
// Keeper keeps rules and keys among the settings of a store.
//
// The package knows neither HTTP nor a store. It never puts a value that it
// looked at into an error.
package privacy
