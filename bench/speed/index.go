//go:build unix

package main

import (
	"context"
	"fmt"

	"github.com/chromad/chromad/bench/peers/serve"
	"github.com/chromad/chromad/bench/plain"
	"github.com/chromad/chromad/hnsw"
	"github.com/chromad/chromad/internal/kernel"
)

// index is one of the two implementations, built over a set.
type index interface {
	search(q []float32, ef int, allowed []uint64) ([]uint32, error)
}

type ours struct {
	graph   *hnsw.Graph
	vectors hnsw.Vectors
	scratch hnsw.Scratch
	found   []hnsw.Neighbor
	rows    []uint32
}

func buildOurs(s *set) (*ours, error) {
	v := hnsw.Vectors{Metric: s.metric, Data: s.data, Rows: s.rows, Dim: s.dim, Stride: s.dim}
	if s.metric == kernel.Cosine {
		for row := range s.rows {
			v.InvNorms = append(v.InvNorms, kernel.InvNorm(s.vector(row)))
		}
	}
	built, err := hnsw.Build(context.Background(), v, hnsw.Params{Workers: 1})
	if err != nil {
		return nil, err
	}
	bytes, err := built.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	g, err := hnsw.Decode(bytes, s.rows)
	return &ours{graph: g, vectors: v}, err
}

func (o *ours) search(q []float32, ef int, allowed []uint64) (rows []uint32, err error) {
	o.found, err = o.graph.Search(o.found[:0], o.vectors, hnsw.Query{Vector: q, K: neighbours, EF: ef, Allowed: allowed}, &o.scratch)
	o.rows = o.rows[:0]
	for _, n := range o.found {
		o.rows = append(o.rows, n.Row)
	}
	return o.rows, err
}

type textbook struct {
	graph *plain.Graph
	rows  []uint32
}

func (t *textbook) search(q []float32, ef int, allowed []uint64) ([]uint32, error) {
	t.rows = t.graph.Search(t.rows[:0], q, neighbours, ef, allowed)
	return t.rows, nil
}

// pass asks all queries so many times over and returns processor time a query,
// and the recall.
func (s *set) pass(x index, ef, times int, filtered bool) (seconds, recall float64, err error) {
	var allowed []uint64
	if filtered {
		allowed = s.allowed
	}
	hits := 0
	for i, q := range s.queries {
		rows, err := x.search(q, ef, allowed)
		if err != nil {
			return 0, 0, err
		}
		hits += s.hits(i, rows, filtered)
	}
	began := serve.CPU()
	for range times {
		for _, q := range s.queries {
			if _, err := x.search(q, ef, allowed); err != nil {
				return 0, 0, err
			}
		}
	}
	seconds = (serve.CPU() - began) / float64(max(1, times)*queries)
	return seconds, float64(hits) / (queries * neighbours), nil
}

// smallest returns the smallest ef whose recall is as wanted.
func (s *set) smallest(x index, filtered bool, wanted float64) (int, error) {
	low, high := neighbours-1, neighbours
	for {
		_, recall, err := s.pass(x, high, 0, filtered)
		if err != nil {
			return 0, err
		}
		if recall >= wanted {
			break
		}
		if low, high = high, high*2; low > 5000 {
			return 0, fmt.Errorf("recall %.3f with ef %d, and %.2f is wanted", recall, low, wanted)
		}
	}
	for high-low > 1 {
		middle := (low + high) / 2
		_, recall, err := s.pass(x, middle, 0, filtered)
		if err != nil {
			return 0, err
		}
		if recall >= wanted {
			high = middle
		} else {
			low = middle
		}
	}
	return high, nil
}
