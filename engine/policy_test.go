package engine

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// sizes makes segments without dead rows.
func sizes(rows ...int) []sized {
	out := make([]sized, len(rows))
	for i, n := range rows {
		out[i] = sized{index: i, live: n, rows: n}
	}
	return out
}

func TestMergePolicy(t *testing.T) {
	dead := func(by []sized, i, n int) []sized {
		by[i].live -= n
		return by
	}
	for _, tc := range []struct {
		name string
		by   []sized
		want []int
	}{
		{"nothing", nil, nil},
		{"one", sizes(1000), nil},
		{"two of a size", sizes(16000, 16000), []int{0, 1}},
		{"one within the growth", sizes(48000, 16000), []int{0, 1}},
		{"one beyond it", sizes(49000, 16000), nil},
		{"the smallest first", sizes(700000, 16000, 17000, 120000), []int{1, 2}},
		{"a pair of a size above one that is smaller", sizes(40000, 1000, 42000), []int{0, 1, 2}},
		{"all that a load left behind", sizes(16000, 16000, 16000, 16000, 16000, 16000, 16000), []int{0, 1, 2, 3, 4, 5, 6}},
		{"three levels stay", sizes(1000000, 200000, 40000), nil},
		{"four do not", sizes(2000000, 300000, 40000, 8000), []int{2, 3}},
		{"many rows and small flushes: wider levels", sizes(20000000, 600000, 20000, 1000), []int{2, 3}},
		{"few rows do not widen them", sizes(10000000, 400000, 20000, 1), nil},
		{"few rows among themselves", sizes(1000000, 1, 1, 2), []int{1, 2, 3}},
		{"a quarter dead", dead(sizes(1000, 100000), 1, 25000), nil},
		{"more than a quarter dead", dead(sizes(1000, 100000), 1, 25001), []int{1}},
		{"all dead", dead(sizes(5, 1), 0, 5), []int{0}},
		{"too many rows for one file", sizes(maxMerged/2+1, maxMerged/2+1), nil},
		{"as many as fit", sizes(maxMerged/2+1, maxMerged/2, maxMerged/4), []int{1, 2}},
	} {
		if got := due(tc.by); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestWorthOne(t *testing.T) {
	dead := func(by []sized, n int) []sized {
		by[0].rows += n
		return by
	}
	for _, tc := range []struct {
		name     string
		by       []sized
		searched int64
		want     bool
	}{
		{"nothing", nil, 0, false},
		{"one", sizes(1000000), 1 << 40, false},
		{"an eighth is new", sizes(70000, 10000), 0, true},
		{"less", sizes(70001, 10000), 0, false},
		{"an eighth in several", sizes(6000, 70000, 4000), 0, true},
		{"the largest is not the first", sizes(10000, 70001), 0, false},
		{"what is gone counts", dead(sizes(70000, 5000), 4375), 0, true},
		{"less of it", dead(sizes(70000, 5000), 4374), 0, false},
		{"gone alone", dead(sizes(70000, 0), 20000), 1 << 40, false},
		{"few rows", sizes(800, mergeFew-1), 1 << 40, false},
		{"enough", sizes(800, mergeFew), 0, true},
		{"queries have paid", sizes(1000000, 1000), 1001000, true},
		{"not yet", sizes(1000000, 1000), 1000999, false},
		{"too many rows for one file", sizes(maxMerged/2+1, maxMerged/2+1), 1 << 40, false},
		{"as many as fit", sizes(maxMerged/2+1, maxMerged/2), 0, true},
	} {
		if got := worthOne(tc.by, tc.searched); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

// history is a collection as the policy sees it over a random life.
type history struct {
	by                []sized
	flushed, wrote    float64 // rows
	inserted          float64 // rows that a merge did not find in a graph of more than half
	merges, mostAfter int
}

func (h *history) settle(t *testing.T) {
	t.Helper()
	for {
		for i := range h.by {
			h.by[i].index = i
		}
		picked := due(slices.Clone(h.by))
		if picked == nil {
			break
		}
		var kept []sized
		sum, largest := 0, 0
		for i, s := range h.by {
			if slices.Contains(picked, i) {
				sum += s.live
				largest = max(largest, s.live)
			} else {
				kept = append(kept, s)
			}
		}
		if h.merges++; len(kept)+1 >= len(h.by) && len(picked) > 1 {
			t.Fatalf("a merge of %v leaves %d segments of %d", picked, len(kept)+1, len(h.by))
		}
		h.wrote += float64(sum)
		if 2*largest > sum {
			h.inserted += float64(sum - largest)
		} else {
			h.inserted += float64(sum)
		}
		if h.by = kept; sum > 0 {
			h.by = append(h.by, sized{live: sum, rows: sum})
		}
	}
	h.mostAfter = max(h.mostAfter, len(h.by))
}

// rest is what happens when nobody writes for a while.
func (h *history) rest() {
	if !worthOne(h.by, 0) {
		return
	}
	live, largest := 0, 0
	for _, s := range h.by {
		live += s.live
		largest = max(largest, s.live)
	}
	h.merges++
	h.wrote += float64(live)
	h.inserted += float64(live - largest)
	if 2*largest <= live {
		h.inserted += float64(largest)
	}
	h.by = append(h.by[:0], sized{live: live, rows: live})
}

// TestMergeHistories bounds what the policy costs, over flushes of equal and of
// random sizes, deletions, and merges that come late: the segments of a settled
// collection, how often a row is written, and how often it is put into a graph.
func TestMergeHistories(t *testing.T) {
	equal := func(n int) func(*rand.Rand) int { return func(*rand.Rand) int { return n } }
	spread := func(most float64) func(*rand.Rand) int {
		return func(rng *rand.Rand) int { return 1 + int(math.Exp(rng.Float64()*math.Log(most))) }
	}
	for _, tc := range []struct {
		name             string
		flush            func(*rand.Rand) int
		rows             int
		late             int     // most flushes between two looks of the policy
		deletes          float64 // share of all rows that dies with a flush
		rests            float64 // share of looks after which nobody writes for a while
		written, builtIn float64 // most times a row is written, is put into a graph
	}{
		{"a load", equal(16384), 1_000_000, 1, 0, 0, 6, 2.5},
		{"a load that merges cannot follow", equal(16384), 1_000_000, 8, 0, 0, 5, 2.5},
		{"a large load", equal(16384), 10_000_000, 1, 0, 0, 14, 3},
		{"a large load, resting", equal(16384), 10_000_000, 1, 0, 1, 14, 3},
		{"small flushes", equal(1000), 1_000_000, 1, 0, 0, 16, 3},
		{"small flushes, resting after each", equal(1000), 1_000_000, 1, 0, 1, 16, 3},
		{"any size", spread(20000), 1_000_000, 1, 0, 0, 18, 2.5},
		{"any size, late", spread(20000), 1_000_000, 6, 0, 0, 18, 2.5},
		{"any size, resting now and then", spread(20000), 1_000_000, 1, 0, 0.1, 18, 2.5},
		{"with deletions", spread(20000), 1_000_000, 3, 0.005, 0, 18, 3.5},
		{"with deletions, resting", spread(20000), 1_000_000, 3, 0.005, 0.5, 18, 3.5},
		{"single records", equal(1), 3000, 1, 0, 0, 18, 6},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for seed := range uint64(8) {
				rng := rand.New(rand.NewPCG(seed, 31))
				h := &history{}
				for wait := 0; h.flushed < float64(tc.rows); wait-- {
					n := tc.flush(rng)
					h.flushed += float64(n)
					h.by = append(h.by, sized{live: n, rows: n})
					for i := range h.by {
						h.by[i].live -= int(tc.deletes * float64(h.by[i].live))
					}
					if wait > 0 {
						continue
					}
					wait = 1 + rng.IntN(tc.late)
					h.settle(t)
					if large := slices.DeleteFunc(slices.Clone(h.by), func(s sized) bool { return s.live < mergeFew }); len(large) > mergeTargets {
						t.Fatalf("seed %d: settled with %v", seed, large)
					}
					if tc.rests > 0 && rng.Float64() < tc.rests {
						h.rest()
					}
				}
				if h.mostAfter > mergeTargets+4 {
					t.Errorf("seed %d: settled with %d segments", seed, h.mostAfter)
				}
				if got := h.wrote / h.flushed; got > tc.written {
					t.Errorf("seed %d: each row was written %.1f times", seed, got)
				}
				if got := h.inserted / h.flushed; got > tc.builtIn {
					t.Errorf("seed %d: each row was put into a graph %.1f times", seed, got)
				}
				if seed == 0 {
					t.Logf("written %.1f times, %.1f times into a graph, %d merges, at most %d segments",
						h.wrote/h.flushed, h.inserted/h.flushed, h.merges, h.mostAfter)
				}
			}
		})
	}
}

// TestMostUrgent: a collection that is read is merged before one that nobody
// asks, and one of many segments before one of few.
func TestMostUrgent(t *testing.T) {
	of := func(segments int, read bool) *Collection {
		c := &Collection{}
		c.state.Store(&state{version: &version{segments: make([]*handle, segments)}})
		c.observed.Store(read)
		return c
	}
	for i, tc := range []struct {
		queue []*Collection
		want  int
	}{
		{[]*Collection{of(1, false)}, 0},
		{[]*Collection{of(2, false), of(9, false), of(9, false)}, 1},
		{[]*Collection{of(9, false), of(2, true), of(3, true), of(20, false)}, 2},
		{[]*Collection{of(0, true), of(9, false)}, 0},
	} {
		if got := mostUrgent(tc.queue); got != tc.want {
			t.Errorf("case %d: %d, want %d", i, got, tc.want)
		}
	}
}
