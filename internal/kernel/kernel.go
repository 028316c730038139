package kernel

// The programs run everywhere, so the directives stand in a file that does.

//go:generate go -C gen run . -group float -out ../float_amd64.s -stubs ../float_stubs_amd64.go -pkg kernel
//go:generate go -C gen run . -group hop -out ../hop_amd64.s -stubs ../hop_stubs_amd64.go -pkg kernel
//go:generate go -C gen run . -group pool -out ../pool_amd64.s -stubs ../pool_stubs_amd64.go -pkg kernel

import (
	"fmt"
	"math"
	"syscall"
)

// A form is one implementation of every kernel. The functions of a form trust
// their arguments: the exported ones have checked them.
type form struct {
	name string
	floatForm
	hopForm
	buildForm
	codecForm
}

var generic = form{"generic", floatGeneric, hopGeneric, buildGeneric, codecGeneric}

// active is chosen once, before main runs, and never changes.
var active = func() form {
	asked, _ := syscall.Getenv("CHROMAD_KERNEL")
	return choose(supported(), asked)
}()

// choose returns the form that is asked for by name, the first when there is
// none of that name. A library must not stop its host over an environment
// variable, so a value that is unknown, or that asks for what the processor
// lacks, counts for nothing.
func choose(list []form, asked string) form {
	for _, f := range list {
		if f.name == asked {
			return f
		}
	}
	return list[0]
}

// Name is the form of the kernels that runs: "avx512" or "avx2" on amd64,
// "neon" on arm64, "armv8" where that has no dot product instructions, or
// "generic".
func Name() string { return active.name }

// preemptAfter bounds the bytes that one call of an assembly kernel reads:
// the scheduler cannot interrupt it, and half a megabyte takes some 50 µs.
const preemptAfter = 1 << 19

func sameLength(a, b int) {
	if a != b {
		panic(fmt.Sprintf("kernel: vectors of %d and %d numbers", a, b))
	}
}

// atLeast panics when a slice is shorter than what has to fit into it. Slicing
// alone would accept what lies behind its end, up to its capacity.
func atLeast(have, want int) {
	if have < want {
		panic(fmt.Sprintf("kernel: a slice of %d where %d are needed", have, want))
	}
}

// whole panics when n is not a multiple of size.
func whole(n, size int) {
	if n%size != 0 {
		panic(fmt.Sprintf("kernel: %d is not a multiple of %d", n, size))
	}
}

// gatherable reports whether there is anything to compute, and panics when a
// row does not lie inside data.
func gatherable(q, data []float32, stride int, rows []uint32) bool {
	if len(rows) == 0 || len(q) == 0 {
		return false
	}
	var last uint32
	for _, r := range rows {
		last = max(last, r)
	}
	inside(q, data, stride, int(last))
	return true
}

// sequential is gatherable for n rows from first.
func sequential(q, data []float32, stride, first, n int) bool {
	if n == 0 || len(q) == 0 {
		return false
	}
	if first < 0 || n > math.MaxInt-first {
		panic(fmt.Sprintf("kernel: rows %d to %d+%d", first, first, n))
	}
	inside(q, data, stride, first+n-1)
	return true
}

// inside panics when row does not lie inside data. The division cannot
// overflow, as the product of row and stride could.
func inside(q, data []float32, stride, row int) {
	if stride < len(q) || len(data) < len(q) || row > (len(data)-len(q))/stride {
		panic(fmt.Sprintf("kernel: row %d of %d numbers, stride %d, in a matrix of %d", row, len(q), stride, len(data)))
	}
}

// inside panics when row does not lie inside m with its padding.
func (m *ByteRows) inside(numbers int, row uint32) {
	if m.Stride < numbers || m.Stride%byteRowAlign != 0 || uint64(row) >= uint64(len(m.Data)/m.Stride) {
		panic(fmt.Sprintf("kernel: row %d of %d numbers, stride %d, in a matrix of %d bytes", row, numbers, m.Stride, len(m.Data)))
	}
}

// aimable panics when a query, or a set of visited rows, does not fit codes.
// The codes' stride is a multiple of unit bytes, the query's numbers are whole blocks.
func aimable(c *Codes, query, visited, unit int) {
	rows := len(c.Meta)
	fits := (c.Bits == 2 || c.Bits == 4 || c.Bits == 8) && c.Stride > 0 && c.Stride%unit == 0 && c.Stride <= maxStride
	if !fits || query != (c.Stride+blockBytes-1)/blockBytes*blockBytes*8/c.Bits || rows > len(c.Data)/c.Stride || visited < (rows+63)/64 {
		panic(fmt.Sprintf("kernel: a query of %d numbers and %d words of visited rows for %d rows of %d bytes, %d bits a number, in %d bytes",
			query, visited, rows, c.Stride, c.Bits, len(c.Data)))
	}
}

// roomFor panics when n rows do not fit into what is left of a batch.
func roomFor(n, room int) {
	if n > room {
		panic(fmt.Sprintf("kernel: %d rows for a batch with room for %d", n, room))
	}
}

// offerable panics when the arguments of Offer contradict each other.
func offerable(pool []uint64, n, limit, keys, rows int) {
	if keys != rows || n < 0 || n > limit || limit > cap(pool)-poolSlack {
		panic(fmt.Sprintf("kernel: %d keys of %d rows for a pool of %d, at most %d, with memory for %d", keys, rows, n, limit, cap(pool)))
	}
}
