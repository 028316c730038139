package vfs

// Wrap is for the tests of errors that no test can make the system return,
// Link for the renames of systems that this one is not.
var (
	Wrap = wrap
	Link = (*Root).link
)
