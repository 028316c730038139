// Package regex decides whether a text matches a pattern in the dialect of
// Rust's regex crate (regex-syntax 0.8), which users of the API write.
//
// Go's regexp package reads a neighbouring dialect: its \d, \w, \s and \b know
// ASCII only, it has neither verbose mode nor set operations in classes, it
// limits counts, and it knows escapes that Rust refuses. Unicode \b cannot be
// translated to it at all. So the package has a parser and an engine of its
// own. Only the question "is there a match" has to be answered, which leaves
// out captures, priorities and greediness, and keeps the engine small.
//
//	pattern --parse--> node --compile--> program (Thompson's NFA over runes)
//	program --match--> deterministic states, made when first needed
//
// The engine follows Russ Cox, "Regular Expression Matching Can Be Simple And
// Fast" (2007): sets of NFA threads become states of a DFA, cached up to a
// bound; time is linear in the text for any pattern. Assertions such as \b
// look at one character on either side: a state remembers what kind of
// character came before it and resolves its assertions when the next one is
// known.
//
// Differences from Rust that remain: Unicode tables are Go's (version 15, Rust
// has 16); the properties that Go has no tables for (script extensions, age,
// breaks, emoji, bidi) are refused; the size limits are our own. Bytes of a
// text that are not UTF-8 match nothing, not even a dot.
package regex
