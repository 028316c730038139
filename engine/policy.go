package engine

import (
	"cmp"
	"math"
	"slices"
)

// Which segments are merged, and when. A query pays for every segment, 1.3 to
// 1.9 times as much for twice as many, and a merge pays for every row it
// writes. So segments are kept few by merging those that are small beside the
// others, and how small decides how often a row is written again.
const (
	// mergeTargets is the most segments that a collection has while it is
	// written to and merges keep up, those of a few rows aside. At rest it is one.
	mergeTargets = 3
	// mergeGrowth: segments are merged when the largest of them is at most so
	// many times as large as the others together, or more often, see growth.
	mergeGrowth = 3
	// mergeFew is the rows below which a segment costs a query next to nothing.
	mergeFew = 256
	// A segment with more than a quarter of its rows dead is rewritten.
	deadShare = 4
	// restShare: at rest all is merged when one row in so many is new or gone.
	restShare = 8
	// maxMerged is the most rows of a segment.
	maxMerged = math.MaxInt32
)

// sized is a segment as the policy sees it.
type sized struct{ index, live, rows int }

// pickDue is what the background merges next: a segment that is largely dead
// alone, else as many of the smallest as are due. Repeated until there is
// nothing to pick, it leaves at most mergeTargets segments of mergeFew rows or
// more.
func pickDue(segments []segmentState) []int { return due(sizesOf(segments)) }

func sizesOf(segments []segmentState) []sized {
	by := make([]sized, len(segments))
	for i, s := range segments {
		dead := int(s.dead.GetCardinality())
		by[i] = sized{i, int(s.info.Rows) - dead, int(s.info.Rows)}
	}
	return by
}

// due is pickDue by sizes.
func due(by []sized) []int {
	for _, s := range by {
		if (s.rows-s.live)*deadShare > s.rows {
			return []int{s.index}
		}
	}
	slices.SortFunc(by, func(a, b sized) int { return cmp.Or(cmp.Compare(a.live, b.live), cmp.Compare(a.index, b.index)) })
	g := growth(by)
	sum, n := 0, 0
	for i, s := range by {
		if s.live > maxMerged-sum {
			break
		}
		// A segment that is too large for those before it may still be small
		// beside them and the next, which is of its size.
		if i > 0 && float64(s.live) <= g*float64(sum) {
			n = i + 1
		}
		sum += s.live
	}
	var out []int
	for _, s := range by[:n] {
		out = append(out, s.index)
	}
	slices.Sort(out)
	return out
}

// growth is how many times as large as the smaller ones together a segment may
// be to join them. by is ascending.
//
// Segments that are not due for each other, s1 < s2 < …, have s2 > g·s1,
// s3 > g·(s1+s2) and so on: together more than s1·(1+g)^(n-1) rows. So there
// are at most n of them when (1+g)^n is the rows of all by those of the
// smallest, which is what was flushed last: the cube root for three. A row is
// then written about g/2 times on each of three levels.
func growth(by []sized) float64 {
	all, least := 0, math.MaxInt
	for _, s := range by {
		all += s.live
		if s.live >= mergeFew {
			least = min(least, s.live)
		}
	}
	return max(mergeGrowth, math.Pow(float64(all)/float64(least), 1.0/mergeTargets)-1)
}

// worthOne tells whether segments that due leaves as they are, of a collection
// that rests, are worth to be merged into one. searched is how many segments
// beyond one its queries have looked into since all were merged into one.
//
// It is when enough is new: afterwards all is in one segment, so what lies
// outside of the largest, or is dead, has come and gone since, and each such
// row has restShare others written again at most. Rows that are dead do not
// make it worth while alone, as they cost queries little. Or it is when the queries have
// paid for it: a further segment costs a query 20 µs, and a row costs a merge
// 25 µs, as measured with graphs of 128 dimensions. So waiting and merging together
// never cost more than twice the better of them, whether queries come or not.
func worthOne(by []sized, searched int64) bool {
	live, dead, largest := 0, 0, 0
	for _, s := range by {
		live += s.live
		dead += s.rows - s.live
		largest = max(largest, s.live)
	}
	outside := live - largest
	if outside < mergeFew || live > maxMerged {
		return false
	}
	return (outside+dead)*restShare >= live || searched >= int64(live)
}

// mostUrgent is the index of the collection whose merge is worth most: one that
// is being read comes before one that nobody asks, and many segments before few.
func mostUrgent(queue []*Collection) int {
	best, asked, most := 0, false, -1
	for i, c := range queue {
		a, n := c.observed.Load(), len(c.state.Load().version.segments)
		if a != asked && a || a == asked && n > most {
			best, asked, most = i, a, n
		}
	}
	return best
}
