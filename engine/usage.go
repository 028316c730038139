package engine

// Usage is what one collection takes.
type Usage struct {
	ID       ID
	Database string
	Records  int64 // that are alive
	// Bytes are the length of its segments, with what is dead in them, and of
	// the embeddings that are in memory and in no segment yet.
	Bytes int64
}

// Usage tells what the collections of a tenant take, and how many databases it
// has. It reads memory only and waits for no write.
func (db *DB) Usage(tenant string) (databases int, out []Usage) {
	var of []*Collection
	db.mu.RLock()
	for key, d := range db.catalog.databases {
		if key.tenant != tenant {
			continue
		}
		databases++
		for _, c := range d.byName {
			of = append(of, c)
			out = append(out, Usage{ID: c.id, Database: c.database})
		}
	}
	db.mu.RUnlock()
	for i, c := range of {
		s := c.state.Load()
		rows := int64(s.rows)
		if s.frozen != nil {
			rows += int64(s.frozen.len())
		}
		out[i].Records = int64(s.live)
		out[i].Bytes = 4 * rows * int64(s.dimension)
		for _, h := range s.version.segments {
			out[i].Bytes += h.info.Length
		}
	}
	return databases, out
}
