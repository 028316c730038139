package segment

import (
	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/hnsw"
)

// Rows that a condition holds for, and that are not dead, are made into an
// hnsw.Subset when a search asks for them the againTimes-th time: copying what it
// reads of them costs as much as two to five searches do. Where other rows die
// before that has paid, it takes twice as many the next time, up to againMost.
const (
	againTimes = 4
	againMost  = 1 << 10
	againPays  = 4 // times as many searches as it took
)

// Again names the rows of a condition that are not dead, for the next search for
// them. The zero value names none.
type Again struct {
	key  cacheKey
	dead uint64
}

// Again names the rows that e is true for, without dead ones, and returns them
// ready to be searched when they have been searched before. dead is the number of a
// set of dead rows, greater than those of sets before it.
func (r *Reader) Again(e *filter.Expr, dead uint64) (a Again, ready *hnsw.Subset) {
	where, ok := e.Key()
	if !ok || r.documents.shared == nil {
		return a, nil
	}
	a = Again{cacheKey{file: r.documents.file, where: where, ready: true}, dead}
	return a, r.documents.shared.again(a)
}

// remember counts a search for a's rows, which are those in allowed, and makes
// them ready when it is time. Encrypted vectors stay where there is a bound on what
// was decrypted. Rows that cannot be read are for the searches to meet that need
// them: these stay as they are.
func (r *Reader) remember(a Again, g *hnsw.Graph, v hnsw.Vectors, allowed []uint64) {
	cache := r.documents.shared
	if a.key.where == "" || cache == nil || !cache.count(a) {
		return
	}
	_ = r.file.Faults(func() error {
		u, err := g.Subset(v, allowed, !r.file.Encrypted(), int(cache.max/readyShare))
		if err == nil {
			cache.putReady(a, u)
		}
		return err
	})
}
