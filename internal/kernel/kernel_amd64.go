//go:build !purego

package kernel

import (
	"syscall"

	"golang.org/x/sys/cpu"
)

// accelerated is decided once, before main runs, and never changes.
var accelerated bool

func init() {
	forced, _ := syscall.Getenv("CHROMAD_KERNEL")
	accelerated = choose(forced, cpu.X86.HasAVX2 && cpu.X86.HasFMA)
}

// choose reports whether the assembly runs. A library must not stop its host
// over an environment variable, so a value that is unknown, or that asks for
// what the processor lacks, counts for nothing.
func choose(forced string, able bool) bool {
	return able && forced != "generic"
}

func dot(a, b []float32) float32 {
	if accelerated && len(a) > 0 {
		return dotAVX2(&a[0], &b[0], len(a))
	}
	return dotGeneric(a, b)
}

func l2(a, b []float32) float32 {
	if accelerated && len(a) > 0 {
		return l2AVX2(&a[0], &b[0], len(a))
	}
	return l2Generic(a, b)
}

func dotRows(q, data []float32, stride int, rows []uint32, out []float32) {
	if accelerated {
		dotRowsAVX2(&q[0], &data[0], len(q), 4*stride, &rows[0], len(rows), &out[0])
		return
	}
	dotRowsGeneric(q, data, stride, rows, out)
}

func l2Rows(q, data []float32, stride int, rows []uint32, out []float32) {
	if accelerated {
		l2RowsAVX2(&q[0], &data[0], len(q), 4*stride, &rows[0], len(rows), &out[0])
		return
	}
	l2RowsGeneric(q, data, stride, rows, out)
}

func dotRange(q, data []float32, stride, first int, out []float32) {
	if accelerated {
		dotRangeAVX2(&q[0], &data[first*stride], len(q), 4*stride, len(out), &out[0])
		return
	}
	dotRangeGeneric(q, data, stride, first, out)
}

func l2Range(q, data []float32, stride, first int, out []float32) {
	if accelerated {
		l2RangeAVX2(&q[0], &data[first*stride], len(q), 4*stride, len(out), &out[0])
		return
	}
	l2RangeGeneric(q, data, stride, first, out)
}
