//go:build unix

// Command chromem measures github.com/philippgille/chromem-go, which compares
// the query with every document.
package main

import (
	"context"
	"strconv"

	chromem "github.com/philippgille/chromem-go"

	"github.com/chromad/chromad/bench/peers/go/serve"
)

type index struct {
	documents *chromem.Collection
	set       *serve.Set
	where     map[string]string
}

func main() { serve.Main(func(*serve.Set) serve.Index { return &index{} }) }

// The library knows equality only. Every document gets one key for each limit
// that the driver filters by and its row is below of.
var limits = []int{10, 100, 300, 1000, 2000, 5000}

func (x *index) Build(ctx context.Context, s *serve.Set) error {
	if s.Metric != "cosine" {
		return serve.NotSupported() // it normalises what it stores
	}
	x.set = s
	var err error
	if x.documents, err = chromem.NewDB().CreateCollection("bench", nil, nil); err != nil {
		return err
	}
	for row, v := range s.Base {
		metadata := map[string]string{}
		for name, values := range s.Columns {
			for _, limit := range limits {
				if int(values[row]) < limit {
					metadata[name+strconv.Itoa(limit)] = "y"
				}
			}
		}
		err := x.documents.AddDocument(ctx, chromem.Document{ID: strconv.Itoa(row), Embedding: v, Metadata: metadata, Content: "x"})
		if err != nil {
			return err
		}
	}
	return nil
}

func (x *index) Search(ctx context.Context, query []float32, _ int, out []uint32) (int, error) {
	found, err := x.documents.QueryEmbedding(ctx, query, serve.K, x.where, nil)
	if err != nil {
		return 0, err
	}
	for i, r := range found {
		row, err := strconv.ParseUint(r.ID, 10, 32)
		if err != nil {
			return 0, err
		}
		out[i] = uint32(row)
	}
	return len(found), nil
}

func (x *index) Filter(column string, below int) error {
	x.where = nil
	if column != "" {
		x.where = map[string]string{column + strconv.Itoa(below): "y"}
	}
	return nil
}

func (x *index) Memory() (serve.Memory, error) { return serve.Memory{Shares: true}, nil }
