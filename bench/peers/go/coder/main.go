//go:build unix

// Command coder measures github.com/coder/hnsw.
package main

import (
	"context"
	"math/rand"

	"github.com/coder/hnsw"
	"github.com/viterin/vek/vek32"

	"github.com/chromad/chromad/bench/peers/go/serve"
)

type index struct{ graph *hnsw.Graph[uint32] }

func main() { serve.Main(func(*serve.Set) serve.Index { return &index{} }) }

// Build inserts row by row. The library has no efConstruction: it uses
// EfSearch while it inserts. Its own Euclidean distance is plain Go; the one
// of vek, which its cosine uses too, has vector instructions.
func (x *index) Build(_ context.Context, s *serve.Set) error {
	x.graph = hnsw.NewGraph[uint32]()
	x.graph.M, x.graph.Ml, x.graph.EfSearch = 16, 1.0/16, 200
	x.graph.Rng = rand.New(rand.NewSource(1))
	if s.Metric == "l2" {
		x.graph.Distance = vek32.Distance
	}
	for row, v := range s.Base {
		x.graph.Add(hnsw.MakeNode(uint32(row), v))
	}
	return nil
}

func (x *index) Search(_ context.Context, query []float32, ef int, out []uint32) (int, error) {
	x.graph.EfSearch = ef
	found := x.graph.Search(query, serve.K)
	for i, node := range found {
		out[i] = node.Key
	}
	return len(found), nil
}

func (x *index) Filter(column string, _ int) error {
	if column == "" {
		return nil
	}
	return serve.NotSupported()
}

func (x *index) Memory() (serve.Memory, error) { return serve.Memory{Shares: true}, nil }
