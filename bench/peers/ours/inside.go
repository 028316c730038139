//go:build unix

package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/chromad/chromad/bench/peers/serve"
	"github.com/chromad/chromad/hnsw"
	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
)

// graphSection is that of a graph in a segment, docs/format/segment.md.
const graphSection = 16

// Inside lets searches look at the graph of the store's one segment by package hnsw: what
// the rest of the engine costs is the difference.
func (x *store) Inside(on bool) (err error) {
	if x.bare == nil {
		if x.bare, err = segmentGraph(x.set, x.dir); err != nil {
			return err
		}
	}
	if x.inside = nil; on {
		x.inside = x.bare
	}
	return nil
}

// segmentGraph is the graph of a store's segment, and the set's own vectors, which lie in
// the same order. The file stays open until the process ends.
func segmentGraph(s *serve.Set, dir string) (*graph, error) {
	names, err := filepath.Glob(filepath.Join(dir, "seg", "*.seg"))
	if err != nil {
		return nil, err
	}
	if len(names) != 1 {
		return nil, fmt.Errorf("%d segments", len(names))
	}
	root, err := vfs.Open(dir)
	if err != nil {
		return nil, err
	}
	name := "seg/" + filepath.Base(names[0])
	h, err := disk.ReadHeader(root, name)
	if err != nil {
		return nil, err
	}
	f, err := disk.OpenFile(root, name, h, disk.Info{}, seal.Plain())
	if err != nil {
		return nil, err
	}
	section, ok := f.Section(graphSection)
	if !ok {
		return nil, errors.New("the segment has no graph")
	}
	raw, _, err := section.Resident()
	if err != nil {
		return nil, err
	}
	g := &graph{set: s, vectors: vectorsOf(s)}
	if g.graph, err = hnsw.Decode(raw, s.Rows); err != nil {
		return nil, err
	}
	g.vectors.Bytes = bytesOf(g.graph, g.vectors)
	return g, nil
}
