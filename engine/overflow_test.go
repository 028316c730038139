package engine

import (
	"math"
	"slices"
	"testing"
)

// TestDistancesBeyondFloat32: a distance that is no number, or none that fits,
// has its place in the order wherever its record lies, and comes out finite.
func TestDistancesBeyondFloat32(t *testing.T) {
	const most = math.MaxFloat32
	rows := []Record{
		rec("no number", 3e38, 3e38), // the sum of infinity and minus infinity
		rec("beyond", -3e38, 0),
		rec("c", 0, -1e-30),
		rec("before", 3e38, 0),
		rec("d", 0, 1e-30),
	}
	for _, c := range []struct {
		metric    Metric
		query     []float32
		ids       []string
		distances []float32
	}{
		{IP, []float32{3e38, -3e30}, []string{"before", "c", "d", "no number", "beyond"}, []float32{-most, -2, 4, most, most}},
		{L2, []float32{3e30, 0}, []string{"no number", "beyond", "c", "before", "d"}, []float32{most, most, most, most, most}},
	} {
		for flushed := range len(rows) + 1 { // so many are in a segment
			db, _ := newDB(t, Options{})
			coll, err := db.Default().Create(t.Context(), "c", Spec{Metric: c.metric})
			check(t, err)
			check(t, coll.Add(t.Context(), rows[:flushed]...))
			check(t, db.Flush(t.Context()))
			check(t, coll.Add(t.Context(), rows[flushed:]...))
			got, err := coll.Query(t.Context(), c.query, len(rows), nil)
			check(t, err)
			var ids []string
			var distances []float32
			for _, m := range got {
				ids, distances = append(ids, m.ID), append(distances, m.Distance)
			}
			// Of the two last by inner product one is no number: hnsw has it
			// behind infinity, where records in memory go by age.
			if c.metric == IP {
				slices.Sort(ids[3:])
				slices.Sort(c.ids[3:])
			}
			if !slices.Equal(ids, c.ids) || !slices.Equal(distances, c.distances) {
				t.Errorf("%v, %d of %d in a segment: %v at %v, want %v at %v", c.metric, flushed, len(rows), ids, distances, c.ids, c.distances)
			}
		}
	}
}
