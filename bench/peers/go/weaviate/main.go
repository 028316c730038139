//go:build unix

// Command weaviate measures the vector index of Weaviate, without the database
// around it: float32, or with rotational quantisation of eight bits (rq=8),
// which looks up the float32 vectors of the best answers again.
package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	"github.com/weaviate/weaviate/adapters/repos/db/helpers"
	"github.com/weaviate/weaviate/adapters/repos/db/lsmkv"
	"github.com/weaviate/weaviate/adapters/repos/db/vector/common"
	"github.com/weaviate/weaviate/adapters/repos/db/vector/hnsw"
	"github.com/weaviate/weaviate/adapters/repos/db/vector/hnsw/distancer"
	"github.com/weaviate/weaviate/entities/cyclemanager"
	ent "github.com/weaviate/weaviate/entities/vectorindex/hnsw"
	"github.com/weaviate/weaviate/usecases/memwatch"

	"github.com/chromad/chromad/bench/peers/go/serve"
)

type index struct {
	graph  *hnsw.HNSW
	user   ent.UserConfig
	set    *serve.Set
	filter helpers.AllowList
}

func main() { serve.Main(func(*serve.Set) serve.Index { return &index{} }) }

// config has Weaviate's defaults, apart from what all peers share.
func (x *index) config(logger logrus.FieldLogger) hnsw.Config {
	var provider distancer.Provider = distancer.NewL2SquaredProvider()
	if x.set.Metric == "cosine" {
		provider = distancer.NewCosineDistanceProvider()
	}
	return hnsw.Config{
		RootPath:              x.set.Work,
		ID:                    "bench",
		MakeCommitLoggerThunk: hnsw.MakeNoopCommitLogger,
		DistanceProvider:      provider,
		Logger:                logger,
		AllocChecker:          memwatch.NewDummyMonitor(),
		MakeBucketOptions:     lsmkv.MakeNoopBucketOptions,
		AcornFilterRatio:      hnswAcornRatio,
		VectorForIDThunk: func(_ context.Context, id uint64) ([]float32, error) {
			return x.set.Base[id], nil
		},
		TempVectorForIDThunk: func(_ context.Context, id uint64, space *common.VectorSlice) ([]float32, error) {
			space.Slice = x.set.Base[id]
			return space.Slice, nil
		},
	}
}

// hnswAcornRatio is the default of Weaviate's configuration.
const hnswAcornRatio = 0.4

func (x *index) Build(ctx context.Context, s *serve.Set) error {
	x.set = s
	logger, _ := test.NewNullLogger()
	none := cyclemanager.NewCallbackGroupNoop()
	dir := filepath.Join(s.Work, "store")
	store, err := lsmkv.New(dir, dir, logger, nil, none, none, none)
	if err != nil {
		return err
	}
	x.user.SetDefaults()
	x.user.MaxConnections, x.user.EFConstruction, x.user.EF = 16, 200, 100
	x.user.FilterStrategy = ent.FilterStrategyAcorn // the better one of the two
	if bits := s.Options["rq"]; bits != "" {
		n, err := strconv.ParseInt(bits, 10, 16)
		if err != nil {
			return fmt.Errorf("rq=%s: %w", bits, err)
		}
		x.user.RQ = ent.RQConfig{Enabled: true, Bits: int16(n), RescoreLimit: ent.DefaultRQRescoreLimit}
	}
	if x.graph, err = hnsw.New(x.config(logger), x.user, none, store); err != nil {
		return err
	}
	for row, v := range s.Base {
		if err := x.graph.Add(ctx, uint64(row), v); err != nil {
			return err
		}
	}
	return nil
}

func (x *index) Search(ctx context.Context, query []float32, ef int, out []uint32) (int, error) {
	if ef != x.user.EF {
		x.user.EF = ef
		if err := x.graph.UpdateUserConfig(x.user, func() {}); err != nil {
			return 0, err
		}
	}
	ids, _, err := x.graph.SearchByVector(ctx, query, serve.K, x.filter)
	if err != nil {
		return 0, err
	}
	for i, id := range ids {
		out[i] = uint32(id)
	}
	return len(ids), nil
}

func (x *index) Filter(column string, below int) error {
	x.filter = nil
	if column == "" {
		return nil
	}
	var ids []uint64
	for row, v := range x.set.Columns[column] {
		if int(v) < below {
			ids = append(ids, uint64(row))
		}
	}
	x.filter = helpers.NewAllowList(ids...)
	return nil
}

// Memory: the float32 index keeps the vectors it was given, the quantised one
// reads them from the caller.
func (x *index) Memory() (serve.Memory, error) { return serve.Memory{Shares: true}, nil }
