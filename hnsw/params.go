package hnsw

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/chromad/chromad/internal/kernel"
)

// Vectors is a row-major matrix that somebody else holds and nobody changes,
// with what the metric needs.
type Vectors struct {
	Metric   kernel.Metric
	Data     []float32 // row r is Data[r*Stride : r*Stride+Dim]
	Rows     int
	Dim      int
	Stride   int       // at least Dim
	InvNorms []float32 // kernel.InvNorm of every row; cosine only
	// Bytes, when it has data, are the same rows. Searches compare these, which
	// are less memory, and not Data; it has to be there for graphs without codes.
	Bytes kernel.ByteRows

	// Touch, when set, is called with rows before a search reads them: who
	// holds the vectors may read, verify or decrypt them only then. Its error
	// ends the search. A build reads everything, so it must be nil there.
	Touch func(rows []uint32) error
}

// maxRows leaves the lowest bit of a key free.
const maxRows = 1 << 31

func (v *Vectors) check() error {
	switch {
	case v.Touch != nil:
		return errors.New("vectors: not all of them can be read")
	case v.Metric > kernel.IP:
		return fmt.Errorf("vectors: %v", v.Metric)
	case v.Rows < 0 || int64(v.Rows) >= maxRows:
		return fmt.Errorf("vectors: %d rows", v.Rows)
	case v.Dim < 0 || v.Stride < v.Dim || v.Rows > 1 && v.Stride == 0:
		return fmt.Errorf("vectors: %d numbers per row, stride %d", v.Dim, v.Stride)
	case v.Rows > 0 && (len(v.Data) < v.Dim || v.Stride > 0 && (len(v.Data)-v.Dim)/v.Stride < v.Rows-1):
		return fmt.Errorf("vectors: %d numbers are not %d rows of stride %d", len(v.Data), v.Rows, v.Stride)
	case v.Metric == kernel.Cosine && len(v.InvNorms) < v.Rows:
		return fmt.Errorf("vectors: %d inverse norms for %d rows", len(v.InvNorms), v.Rows)
	}
	return nil
}

func (v *Vectors) row(r uint32) []float32 {
	o := int(r) * v.Stride
	return v.Data[o : o+v.Dim : o+v.Dim]
}

// Params says how to build. The zero value asks for the defaults.
type Params struct {
	M              int    // links of a new node; level 0 has room for 2M. 2 to 64, default 16
	EFConstruction int    // how many candidates a node has, see nearOf: 96 to 200 mean the same. 1 to 4096, default 200
	Seed           uint64 // decides levels, leaders and rotations
	Bits           int    // of a number in the codes that searches walk over: 2, 4, 8, or 32 for the vectors themselves; default: chosen from the vectors
	Workers        int    // goroutines; default GOMAXPROCS. The result does not depend on it
	// Progress, when set, is called from the goroutine that called Build.
	Progress func(done, total int)
	// Guard, when set, runs what a goroutine of the build's own does. It lets
	// who called Build catch what reading the vectors may raise there; work
	// that did not come to its end is followed by the end of ctx.
	Guard func(work func())
	// Yield, when set, is asked by all workers but the first before each
	// millisecond or so of work: true ends the worker's share of a part of what is
	// being done, and the others do the rest. So many have left that part before,
	// and all are back for the next. It may be called concurrently.
	Yield func(left int) bool
}

const (
	minM, maxM        = 2, 64
	maxEFConstruction = 4096
	defaultM          = 16
	defaultEF         = 200
	maxLevel          = 15
	plainBits         = 32 // of a number in a vector
)

func (p Params) withDefaults() (Params, error) {
	if p.M == 0 {
		p.M = defaultM
	}
	if p.EFConstruction == 0 {
		p.EFConstruction = defaultEF
	}
	if p.Workers <= 0 {
		p.Workers = runtime.GOMAXPROCS(0)
	}
	if p.M < minM || p.M > maxM {
		return p, fmt.Errorf("parameter M %d is not in %d to %d", p.M, minM, maxM)
	}
	if p.EFConstruction < 1 || p.EFConstruction > maxEFConstruction {
		return p, fmt.Errorf("parameter EFConstruction %d is not in 1 to %d", p.EFConstruction, maxEFConstruction)
	}
	if p.Bits != 0 && p.Bits != 2 && p.Bits != 4 && p.Bits != 8 && p.Bits != plainBits {
		return p, fmt.Errorf("parameter Bits %d is not 2, 4, 8 or 32", p.Bits)
	}
	return p, nil
}

// Check returns which parameter is out of its range; zero ones are not.
func (p Params) Check() error {
	_, err := p.withDefaults()
	return err
}
