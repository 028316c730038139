//go:build unix

// Command ours is chromad among the peers of bench/peers: package hnsw as an
// index, or with engine=1 a collection of an embedded store. serve.go is the
// peers' own, copied: they live in a module of their own, so that nothing
// they need gets into ours.
package main

//go:generate cp ../go/serve/serve.go ../serve/serve.go

import (
	"github.com/chromad/chromad/bench/peers/serve"
)

func main() {
	serve.Main(func(s *serve.Set) serve.Index {
		if s.Options["engine"] != "" {
			return &store{}
		}
		return &graph{}
	})
}
