//go:build unix

package main

import (
	"fmt"
	"path/filepath"
	"unsafe"

	"github.com/chromad/chromad/bench/peers/serve"
	"github.com/chromad/chromad/hnsw"
	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/seal"
	"github.com/chromad/chromad/internal/vfs"
)

// Sections of a segment, docs/format/segment.md.
const (
	vectorsSection = 1
	graphSection   = 16
)

// Inside lets searches look at graph and vectors of the store's one segment by package
// hnsw, as they lie in the file: what the rest of the engine costs is the difference.
func (x *store) Inside(on bool) (err error) {
	if x.bare == nil {
		if x.bare, err = openSegment(x.set, x.dir); err != nil {
			return err
		}
	}
	if x.inside = nil; on {
		x.inside = x.bare
	}
	return nil
}

// openSegment reads the segment of a store. What it maps stays until the process ends.
func openSegment(s *serve.Set, dir string) (*graph, error) {
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
	sections := [2][]byte{}
	for i, kind := range []uint16{vectorsSection, graphSection} {
		section, ok := f.Section(kind)
		if !ok {
			return nil, fmt.Errorf("no section %d", kind)
		}
		if kind == graphSection {
			sections[i], _, err = section.Resident()
		} else {
			sections[i], err = section.Bytes(0, section.Len())
		}
		if err != nil {
			return nil, err
		}
	}
	g := &graph{set: s, vectors: hnsw.Vectors{Metric: kernel.L2, Rows: s.Rows, Dim: s.Dim}}
	raw := sections[0]
	g.vectors.Stride = len(raw) / 4 / s.Rows
	g.vectors.Data = unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(raw))), len(raw)/4)
	if s.Metric == "cosine" {
		g.vectors.Metric = kernel.Cosine
		for row := range s.Rows {
			g.vectors.InvNorms = append(g.vectors.InvNorms, kernel.InvNorm(g.vectors.Data[row*g.vectors.Stride:][:s.Dim]))
		}
	}
	g.graph, err = hnsw.Decode(sections[1], s.Rows)
	return g, err
}
