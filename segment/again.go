package segment

import (
	"github.com/RoaringBitmap/roaring/v2"

	"github.com/chromad/chromad/filter"
	"github.com/chromad/chromad/hnsw"
)

// Rows that a condition holds for, and that are not dead, are made into an
// hnsw.Subset when a search asks for them the againTimes-th time: copying what it
// reads of them costs as much as two to five searches do.
const againTimes = 4

// Again names the rows of a condition that are not dead, for the next search for
// them. The zero value names none.
type Again struct {
	key  cacheKey
	dead *roaring.Bitmap
}

// Again names the rows that e is true for, without dead ones, and returns them
// ready to be searched when they have been searched before. dead must not change;
// the rows are the same as long as it is the same bitmap.
func (r *Reader) Again(e *filter.Expr, dead *roaring.Bitmap) (a Again, ready *hnsw.Subset) {
	where, ok := e.Key()
	if !ok || r.documents.shared == nil {
		return a, nil
	}
	a = Again{cacheKey{file: r.documents.file, where: where, ready: true}, dead}
	if p := r.documents.shared.get(a.key); p != nil && p.dead == dead {
		ready = p.ready
	}
	return a, ready
}

// remember counts a search for a's rows, which are those in allowed, and makes
// them ready when it is time. Encrypted vectors stay where there is a bound on what
// was decrypted. Rows that cannot be read are for the searches to meet that need
// them: these stay as they are.
func (r *Reader) remember(a Again, g *hnsw.Graph, v hnsw.Vectors, allowed []uint64) {
	cache := r.documents.shared
	if a.key.where == "" || cache == nil || !cache.count(a.key, a.dead) {
		return
	}
	u, err := g.Subset(v, allowed, !r.file.Encrypted())
	if err == nil {
		cache.replace(&cached{key: a.key, dead: a.dead, ready: u, size: int64(u.Bytes()) + int64(a.dead.GetSizeInBytes()) + a.key.size()})
	}
}
