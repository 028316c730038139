package audit

// Class is what an act does, and so whether it leaves an event.
type Class int

// The classes.
const (
	Nothing Class = iota // leaves none: whether the server lives, and what it speaks
	Read                 // of data, names and figures
	Write                // of records
	Change               // of collections, databases and tenants, and deleting records
	Act                  // administrative
)

// Config says what leaves an event. Refusals, authentications and
// administrative acts always do.
type Config struct {
	Reads, Writes, Changes bool
	// Wait is whether also reads and writes of records wait until their event is
	// on disk. Else it is on its way there when they are answered.
	Wait bool
	// ReadsGoOn is whether reads that leave an event are answered while none can
	// be written. Else they are refused.
	ReadsGoOn bool
}

// Defaults are what is recorded when the configuration says nothing.
func Defaults() Config { return Config{Changes: true} }

// keeps reports whether what was allowed leaves an event.
func (c Config) keeps(class Class) bool {
	switch class {
	case Read:
		return c.Reads
	case Write:
		return c.Writes
	case Change:
		return c.Changes
	case Act:
		return true
	}
	return false
}

// durable reports whether the answer waits for the disk.
func (c Config) durable(class Class) bool { return c.Wait || class != Read && class != Write }
