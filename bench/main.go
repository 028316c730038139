package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
)

type flags struct {
	data, path, json string
	sample           bool
	queries, batch   int
	writers          int
}

func main() {
	var f flags
	flag.StringVar(&f.data, "data", "data/wordnet", "`folder` that make data filled")
	flag.BoolVar(&f.sample, "sample", false, "the 2,000 records of the repository instead")
	flag.StringVar(&f.path, "path", "", "`folder` of the store, which must be empty (default: a temporary one)")
	flag.StringVar(&f.json, "json", "", "`file` for every figure")
	flag.IntVar(&f.queries, "queries", 0, "rows held out as queries (default 1000, of the sample 100)")
	flag.IntVar(&f.batch, "batch", 1000, "records of an Add")
	flag.IntVar(&f.writers, "writers", 1, "goroutines that add")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "bench: unexpected argument %q\n", flag.Arg(0))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, f); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, f flags) error {
	folder := f.data
	if f.sample {
		folder = filepath.Join("bench", "data", "sample")
	}
	if f.queries == 0 {
		f.queries = 1000
		if f.sample {
			f.queries = 100
		}
	}
	set, err := readSet(folder)
	if err != nil {
		return fmt.Errorf("%w (the full set is built by make data)", err)
	}
	if f.queries < 1 || f.queries >= set.rows() {
		return fmt.Errorf("%d queries of %d rows", f.queries, set.rows())
	}
	dir := f.path
	if dir == "" {
		if dir, err = os.MkdirTemp("", "chromad-bench-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	figures, err := measure(ctx, set, dir, f)
	if err != nil {
		return err
	}
	if f.json != "" {
		text, err := json.MarshalIndent(figures, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(f.json, append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	fmt.Println(figures.table())
	return nil
}
