//go:build unix

// Package serve is the half of a peer's adapter that is the same for every
// index: it reads the data, obeys commands line by line, measures and answers
// in JSON. docs/benchmarks.md says what is measured; bench/peers/run.py is at
// the other end of the pipe.
package serve

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// K is how many neighbours every query asks for.
const K = 10

// Missing stands for a neighbour that was not found.
const Missing = math.MaxUint32

// A Set is the data of one run. All of it is read before the first command, so
// that what an index allocates can be told from what it was given.
type Set struct {
	Rows, Dim int
	Metric    string      // l2 or cosine; vectors of a cosine set have length 1
	Base      [][]float32 // by row, all views of Flat
	Flat      []float32   // the same in one piece
	Queries   [][]float32
	Columns   map[string][]uint16 // random and correlated: a number below 10,000 of every row
	Work      string              // an empty folder for files
	Options   map[string]string   // name=value of the command line
}

// Memory is what an index says about its own size, in bytes; 0 is unknown.
type Memory struct {
	Bytes  int64 `json:"bytes"`  // everything that a search may read, the vectors too
	Hot    int64 `json:"hot"`    // what nearly every step of a search reads
	Shares bool  `json:"shares"` // the vectors are the caller's, in no memory of its own
}

// An Index is one peer.
type Index interface {
	// Build indexes the set's base.
	Build(ctx context.Context, s *Set) error
	// Search writes the rows nearest to query, at most len(out) == K of them,
	// and returns how many. ef is the peer's knob between speed and recall.
	Search(ctx context.Context, query []float32, ef int, out []uint32) (int, error)
	// Filter lets searches find only rows whose column is below a number; an
	// empty column takes the filter away.
	Filter(column string, below int) error
	// Memory says how large the index is.
	Memory() (Memory, error)
}

// A Merger can join parts of a set as a database does in the background.
type Merger interface {
	// Merge indexes the set's base in so many parts and returns the seconds,
	// of the processor and of the clock, that joining them took. Searches look
	// at the joined index afterwards.
	Merge(ctx context.Context, s *Set, parts int) (cpu, wall float64, err error)
}

// A Shell is a database around an index that can be asked by itself.
type Shell interface {
	// Inside says whether searches go to the index from now on.
	Inside(on bool) error
}

// errSkip is why a filter is not there: the driver leaves the cell empty.
var errSkip = errors.New("not supported")

// NotSupported is the error of an index that has no filter.
func NotSupported() error { return errSkip }

// Main runs an index over standard input and output until "quit".
func Main(choose func(s *Set) Index) {
	if err := run(choose); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(choose func(s *Set) Index) error {
	s, err := Read(os.Args[1:])
	if err != nil {
		return err
	}
	index := choose(s)
	lines := bufio.NewScanner(os.Stdin)
	answer := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) == 0 || words[0] == "quit" {
			return nil
		}
		out, err := do(context.Background(), index, s, words)
		if err != nil {
			out = map[string]any{"error": err.Error(), "skip": errors.Is(err, errSkip)}
		}
		if err := answer.Encode(out); err != nil {
			return err
		}
	}
	return lines.Err()
}

func do(ctx context.Context, index Index, s *Set, words []string) (any, error) {
	switch {
	case words[0] == "build":
		cpu, wall := CPU(), time.Now()
		if err := index.Build(ctx, s); err != nil {
			return nil, err
		}
		return spent(cpu, wall), nil
	case words[0] == "search" && len(words) == 5:
		return search(ctx, index, s, words[1:])
	case words[0] == "filter" && len(words) == 3:
		below, err := strconv.Atoi(words[2])
		if err != nil {
			return nil, err
		}
		return map[string]any{}, index.Filter(strings.Trim(words[1], "-"), below)
	case words[0] == "memory":
		debug.FreeOSMemory()
		return index.Memory()
	case words[0] == "inside" && len(words) == 2:
		x, ok := index.(Shell)
		if !ok {
			return nil, errSkip
		}
		return map[string]any{}, x.Inside(words[1] == "1")
	case words[0] == "merge" && len(words) == 2:
		parts, err := strconv.Atoi(words[1])
		m, ok := index.(Merger)
		if err != nil || !ok {
			return nil, errSkip
		}
		cpu, wall, err := m.Merge(ctx, s, parts)
		return map[string]float64{"cpu": cpu, "wall": wall}, err
	}
	return nil, fmt.Errorf("no command is called %q", strings.Join(words, " "))
}

// search asks the first queries so many times over and leaves the last answers
// in a file: "search EF COUNT PASSES FILE".
func search(ctx context.Context, index Index, s *Set, words []string) (any, error) {
	var n [3]int
	for i := range n {
		v, err := strconv.Atoi(words[i])
		if err != nil {
			return nil, err
		}
		n[i] = v
	}
	ef, queries := n[0], s.Queries[:min(n[1], len(s.Queries))]
	found := make([]uint32, len(queries)*K)
	cpu, wall := CPU(), time.Now()
	for range n[2] {
		for i, q := range queries {
			out := found[i*K : i*K+K : i*K+K]
			got, err := index.Search(ctx, q, ef, out)
			if err != nil {
				return nil, err
			}
			for ; got < K; got++ {
				out[got] = Missing
			}
		}
	}
	took := spent(cpu, wall)
	bytes := make([]byte, 0, len(found)*4)
	for _, row := range found {
		bytes = binary.LittleEndian.AppendUint32(bytes, row)
	}
	return took, os.WriteFile(words[3], bytes, 0o644)
}

func spent(cpu float64, wall time.Time) map[string]float64 {
	return map[string]float64{"cpu": CPU() - cpu, "wall": time.Since(wall).Seconds()}
}

// CPU is how many seconds of the processor this process has used, all threads.
func CPU() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// Read reads the set that a command line names: folder, rows, dimensions,
// metric, working folder, options as name=value.
func Read(args []string) (*Set, error) {
	if len(args) < 5 {
		return nil, errors.New("arguments: FOLDER ROWS DIM METRIC WORK [NAME=VALUE...]")
	}
	s := &Set{Metric: args[3], Work: args[4], Columns: map[string][]uint16{}, Options: map[string]string{}}
	var err error
	if s.Rows, err = strconv.Atoi(args[1]); err != nil {
		return nil, err
	}
	if s.Dim, err = strconv.Atoi(args[2]); err != nil {
		return nil, err
	}
	for _, o := range args[5:] {
		name, value, _ := strings.Cut(o, "=")
		s.Options[name] = value
	}
	if s.Flat, err = numbers(filepath.Join(args[0], "base.f32"), 4, single); err != nil {
		return nil, err
	}
	queries, err := numbers(filepath.Join(args[0], "queries.f32"), 4, single)
	if err != nil {
		return nil, err
	}
	s.Base, s.Queries = rows(s.Flat, s.Dim), rows(queries, s.Dim)
	if len(s.Base) != s.Rows {
		return nil, fmt.Errorf("%s: %d rows, not %d", args[0], len(s.Base), s.Rows)
	}
	for _, name := range []string{"random", "correlated"} {
		if s.Columns[name], err = numbers(filepath.Join(args[0], name+".u16"), 2, binary.LittleEndian.Uint16); err != nil {
			return nil, err
		}
	}
	debug.FreeOSMemory() // what reading left behind is no part of the index
	return s, nil
}

func single(b []byte) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(b)) }

// numbers is a file of little-endian numbers of so many bytes each.
func numbers[T any](name string, width int, decode func([]byte) T) ([]T, error) {
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	out := make([]T, len(raw)/width)
	for i := range out {
		out[i] = decode(raw[i*width:])
	}
	return out, nil
}

func rows(flat []float32, dim int) [][]float32 {
	out := make([][]float32, len(flat)/dim)
	for i := range out {
		out[i] = flat[i*dim : (i+1)*dim : (i+1)*dim]
	}
	return out
}

// Allowed is the set of rows that a filter lets through, a bit of each.
func (s *Set) Allowed(column string, below int) []uint64 {
	out := make([]uint64, (s.Rows+63)/64)
	for row, v := range s.Columns[column] {
		if int(v) < below {
			out[row/64] |= 1 << (row % 64)
		}
	}
	return out
}
