// Package filter is what a query may ask of a record besides its vector: the
// values in a record's metadata, the expressions over metadata and document
// that users send, and an index that answers them for all rows of a segment at
// once.
//
// Value and Metadata are the data. ParseWhere and ParseWhereDocument, or the
// constructors Eq, In, DocumentContains, And and so on, make an Expr.
// Expr.Match decides about one record; it is the definition of what an
// expression means. Builder gathers the rows of a segment and writes an index;
// Index.Eval computes from it the set of rows for which Match would hold.
//
// The index keeps, per key and kind of value, the sorted distinct values and
// the rows that have each, so that equality is a search and a range is one
// slice. Documents are indexed by the byte trigrams of their text, after Russ
// Cox, "Regular Expression Matching with a Trigram Index" (2012): trigrams
// give candidates, the text decides. docs/format/filter.md draws the bytes.
//
// What package engine's API takes (Value and Metadata with their constructors,
// Expr with its constructors and parsers, Kind) is under engine's promise of
// compatibility. Builder, Index and the stored forms may change in any release.
package filter
