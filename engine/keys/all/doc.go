// Package all opens operator's keys of every kind, by the scheme of a URI. It
// links every key service's client: a program that needs one of them imports
// that one's package.
package all
