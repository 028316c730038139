package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/filter"
)

func must[T any](v T, err error) T {
	check(err)
	return v
}

func check(err error) {
	if err != nil {
		slog.Error(err.Error())
		os.Exit(1)
	}
}

// exampleDB opens a store in a new directory with three records in it.
func exampleDB() (*engine.DB, *engine.Collection, string) {
	dir := must(os.MkdirTemp("", "chromad-example"))
	db := must(engine.Open(dir, nil))
	c := must(db.Default().Create(context.Background(), "fruit", engine.Spec{Metric: engine.Cosine}))
	check(c.Add(context.Background(),
		engine.Record{ID: "apple", Embedding: []float32{1, 0.2}, Metadata: engine.Metadata{"price": filter.Int(2)}, Document: engine.Optional("red and sweet")},
		engine.Record{ID: "lemon", Embedding: []float32{0.1, 1}, Metadata: engine.Metadata{"price": filter.Int(1)}, Document: engine.Optional("yellow and sour")},
		engine.Record{ID: "cherry", Embedding: []float32{1, 0.4}, Metadata: engine.Metadata{"price": filter.Int(9)}, Document: engine.Optional("small and sweet")},
	))
	return db, c, dir
}

func Example() {
	ctx := context.Background()
	dir := must(os.MkdirTemp("", "chromad-example"))
	defer os.RemoveAll(dir)

	db := must(engine.Open(dir, nil))
	docs, _, err := db.Default().GetOrCreate(ctx, "docs", engine.Spec{Metric: engine.L2})
	check(err)
	check(docs.Add(ctx,
		engine.Record{ID: "north", Embedding: []float32{0, 1}},
		engine.Record{ID: "east", Embedding: []float32{1, 0}},
	))
	for _, m := range must(docs.Query(ctx, []float32{0, 3}, 2, nil)) {
		fmt.Println(m.ID, m.Distance)
	}
	check(db.Close())
	// Output:
	// north 4
	// east 10
}

func ExampleOpen_reopen() {
	db, _, dir := exampleDB()
	defer os.RemoveAll(dir)
	_, err := engine.Open(dir, nil)
	fmt.Println("while it is open:", errors.Is(err, engine.ErrLocked))
	check(db.Close())

	db = must(engine.Open(dir, &engine.Options{ReadOnly: true}))
	c := must(db.Default().Collection(context.Background(), "fruit"))
	fmt.Println(must(c.Count(context.Background())), "records")
	fmt.Println(c.Add(context.Background(), engine.Record{ID: "plum", Embedding: []float32{1, 1}}))
	check(db.Close())
	// Output:
	// while it is open: true
	// 3 records
	// store is read-only
}

func ExampleCollection_Query_filtered() {
	db, c, dir := exampleDB()
	defer os.RemoveAll(dir)
	defer db.Close()
	found := must(c.Query(context.Background(), []float32{1, 0}, 10, &engine.QueryOptions{
		Where:   filter.And(filter.Lt("price", filter.Int(9)), filter.DocumentContains("and")),
		Include: engine.IncludeDocument,
	}))
	for _, m := range found {
		fmt.Printf("%s (%.2f): %s\n", m.ID, m.Distance, *m.Document)
	}
	// Output:
	// apple (0.02): red and sweet
	// lemon (0.90): yellow and sour
}

func ExampleCollection_Get() {
	db, c, dir := exampleDB()
	defer os.RemoveAll(dir)
	defer db.Close()
	sel := engine.Selection{Where: filter.DocumentContains("sweet")}
	for r, err := range c.Get(context.Background(), sel, engine.IncludeMetadata) {
		check(err)
		fmt.Println(r.ID, r.Metadata["price"].AsInt())
	}
	// Output:
	// apple 2
	// cherry 9
}

func ExampleCollection_Upsert() {
	ctx := context.Background()
	db, c, dir := exampleDB()
	defer os.RemoveAll(dir)
	defer db.Close()
	// Metadata are merged key by key, the document is left as it is.
	check(c.Upsert(ctx, engine.Record{ID: "apple", Embedding: []float32{1, 0}, Metadata: engine.Metadata{"ripe": filter.Bool(true)}}))
	for r, err := range c.Get(ctx, engine.Selection{IDs: []string{"apple"}}, engine.IncludeAll) {
		check(err)
		fmt.Println(r.Embedding, r.Metadata["price"], r.Metadata["ripe"], *r.Document)
	}
	n := must(c.Delete(ctx, engine.Selection{Where: filter.Gt("price", filter.Int(1))}))
	fmt.Println(n, "deleted,", must(c.Count(ctx)), "left")
	// Output:
	// [1 0] 2 true red and sweet
	// 2 deleted, 1 left
}

func ExampleDimensionError() {
	db, c, dir := exampleDB()
	defer os.RemoveAll(dir)
	defer db.Close()
	err := c.Add(context.Background(), engine.Record{ID: "plum", Embedding: []float32{1, 2, 3}})
	fmt.Println(err, errors.Is(err, engine.ErrDimension))
	if e, ok := errors.AsType[*engine.DimensionError](err); ok {
		fmt.Println(e.Want, e.Got)
	}
	// Output:
	// embedding of 3 dimensions in a collection of 2 true
	// 2 3
}
