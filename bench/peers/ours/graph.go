//go:build unix

package main

import (
	"context"

	"github.com/chromad/chromad/bench/peers/serve"
	"github.com/chromad/chromad/hnsw"
	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/segment"
)

// graph is package hnsw: built, encoded, and decoded in memory like that of a
// segment, which has large pages where the system gives them. Queries are
// float32; what the index does with them counts. What a filter lets through is
// made ready before, as the engine does it for a condition that comes again.
type graph struct {
	vectors hnsw.Vectors
	graph   *hnsw.Graph
	bytes   int64
	rows    *hnsw.Subset // that a filter lets through, nil: all
	set     *serve.Set
	scratch hnsw.Scratch
	found   []hnsw.Neighbor
	merged  *merged // nil: searches look at graph
}

func vectorsOf(s *serve.Set) hnsw.Vectors {
	v := hnsw.Vectors{Metric: kernel.L2, Data: s.Flat, Rows: s.Rows, Dim: s.Dim, Stride: s.Dim}
	if s.Metric == "cosine" {
		v.Metric = kernel.Cosine
		v.InvNorms = make([]float32, s.Rows)
		for row, x := range s.Base {
			v.InvNorms[row] = kernel.InvNorm(x)
		}
	}
	return v
}

// bytesOf is what a segment has of the vectors in bytes.
func bytesOf(g *hnsw.Graph, v hnsw.Vectors) kernel.ByteRows {
	if !g.HasCodes() {
		return kernel.ByteRows{}
	}
	return hnsw.InBytes(v)
}

func (g *graph) Build(ctx context.Context, s *serve.Set) error {
	g.set, g.vectors = s, vectorsOf(s)
	built, err := hnsw.Build(ctx, g.vectors, hnsw.Params{Workers: 1})
	if err != nil {
		return err
	}
	bytes, err := built.AppendBinary(nil)
	if err != nil {
		return err
	}
	g.bytes = int64(len(bytes))
	g.vectors.Bytes = bytesOf(built, g.vectors)
	memory, err := vfs.Anonymous(len(bytes))
	if err != nil {
		return err
	}
	memory.Fill()
	copy(memory.Bytes(), bytes)
	g.graph, err = hnsw.Decode(memory.Bytes(), s.Rows)
	return err
}

func (g *graph) Search(ctx context.Context, query []float32, ef int, out []uint32) (int, error) {
	if g.merged != nil {
		return g.merged.search(ctx, segment.Query{Vector: query, K: serve.K, EF: ef}, out)
	}
	var err error
	q := hnsw.Query{Vector: query, K: serve.K, EF: ef, Subset: g.rows}
	g.found, err = g.graph.Search(g.found[:0], g.vectors, q, &g.scratch)
	for i, n := range g.found {
		out[i] = n.Row
	}
	return len(g.found), err
}

func (g *graph) Filter(column string, below int) error {
	g.rows = nil
	if column == "" {
		return nil
	}
	var err error
	g.rows, err = g.graph.Subset(g.vectors, g.set.Allowed(column, below), true, 1<<30)
	return err
}

func (g *graph) Memory() (serve.Memory, error) {
	return serve.Memory{Bytes: g.bytes + int64(len(g.set.Flat))*4 + int64(len(g.vectors.Bytes.Data)), Hot: g.bytes, Shares: true}, nil
}
