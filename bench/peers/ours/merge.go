//go:build unix

package main

import (
	"context"
	"errors"
	"iter"
	"path/filepath"
	"strconv"
	"time"

	"github.com/chromad/chromad/bench/peers/serve"
	"github.com/chromad/chromad/hnsw"
	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
	"github.com/chromad/chromad/segment"
)

// merged is a segment that was made of others, as the engine makes them in the
// background: graph, vectors and ids.
type merged struct {
	files  *vfs.Root
	reader *segment.Reader
}

func (g *graph) spec(s *serve.Set, number int) segment.Spec {
	spec := segment.Spec{Store: seal.ID{1}, Collection: seal.ID{2}, Number: uint64(number), File: seal.ID{3, byte(number)}, Dim: s.Dim, Metric: kernel.L2}
	if s.Metric == "cosine" {
		spec.Metric = kernel.Cosine
	}
	spec.Graph = hnsw.Params{Workers: 1}
	return spec
}

// Merge makes a segment of each part of the rows, and then measures how they
// become one. Searches look at that one afterwards.
func (g *graph) Merge(ctx context.Context, s *serve.Set, parts int) (cpu, wall float64, err error) {
	files, err := vfs.Make(filepath.Join(s.Work, "segments"))
	if err != nil {
		return 0, 0, err
	}
	var in []segment.Input
	for part := range parts {
		spec := g.spec(s, part+1)
		info, err := segment.Write(ctx, files, seal.Plain(), spec, rows(s, part*s.Rows/parts, (part+1)*s.Rows/parts))
		if err != nil {
			return 0, 0, err
		}
		r, err := segment.Open(files, seal.Plain(), spec, info)
		if err != nil {
			return 0, 0, err
		}
		defer r.Close()
		in = append(in, segment.Input{Reader: r})
	}
	spec := g.spec(s, parts+1)
	cpu = serve.CPU()
	began := time.Now()
	info, err := segment.Merge(ctx, files, seal.Plain(), spec, in)
	if err != nil {
		return 0, 0, err
	}
	cpu, wall = serve.CPU()-cpu, time.Since(began).Seconds()
	reader, err := segment.Open(files, seal.Plain(), spec, info)
	if err != nil {
		return 0, 0, err
	}
	g.merged = &merged{files, reader}
	return cpu, wall, nil
}

func rows(s *serve.Set, first, limit int) iter.Seq2[segment.Row, error] {
	return func(yield func(segment.Row, error) bool) {
		for row := first; row < limit; row++ {
			if !yield(segment.Row{Order: uint64(row), ID: strconv.Itoa(row), Vector: s.Base[row]}, nil) {
				return
			}
		}
	}
}

// search finds rows of the merged segment, which are in the order of the set.
func (m *merged) search(ctx context.Context, q segment.Query, out []uint32) (int, error) {
	found, err := m.reader.Search(ctx, q, nil)
	if err != nil {
		return 0, err
	}
	if len(found) > len(out) {
		return 0, errors.New("more rows than were asked for")
	}
	for i, hit := range found {
		out[i] = hit.Row
	}
	return len(found), nil
}
