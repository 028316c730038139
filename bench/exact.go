package main

import (
	"cmp"
	"runtime"
	"slices"
	"sync"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/internal/kernel"
)

// exact returns the ids of the k nearest of rows for every query, by a scan
// that shares no code with the engine but the inner product.
func (s *set) exact(rows []int, queries [][]float32, k int) [][]string {
	out := make([][]string, len(queries))
	var wg sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				out[i] = s.nearest(rows, queries[i], k)
			}
		})
	}
	for i := range queries {
		next <- i
	}
	close(next)
	wg.Wait()
	return out
}

func (s *set) nearest(rows []int, q []float32, k int) []string {
	type hit struct {
		row      int
		distance float32
	}
	var top []hit // ascending, at most k
	for _, row := range rows {
		v := s.vector(row)
		d := 1 - kernel.Dot(q, v)*kernel.InvNorm(q)*kernel.InvNorm(v)
		if len(top) == k && d >= top[k-1].distance {
			continue
		}
		at, _ := slices.BinarySearchFunc(top, d, func(h hit, d float32) int { return cmp.Compare(h.distance, d) })
		top = slices.Insert(top[:min(len(top), k-1)], min(at, k-1), hit{row, d})
	}
	ids := make([]string, len(top))
	for i, h := range top {
		ids[i] = s.records[h.row].ID
	}
	return ids
}

// hits counts how many of the true neighbours were found.
func hits(want []string, got []engine.Match) (n int) {
	for _, m := range got {
		if slices.Contains(want, m.ID) {
			n++
		}
	}
	return n
}
