//go:build !amd64 || purego

package kernel

const accelerated = false

func dot(a, b []float32) float32 { return dotGeneric(a, b) }
func l2(a, b []float32) float32  { return l2Generic(a, b) }

func dotRows(q, data []float32, stride int, rows []uint32, out []float32) {
	dotRowsGeneric(q, data, stride, rows, out)
}

func l2Rows(q, data []float32, stride int, rows []uint32, out []float32) {
	l2RowsGeneric(q, data, stride, rows, out)
}

func dotRange(q, data []float32, stride, first int, out []float32) {
	dotRangeGeneric(q, data, stride, first, out)
}

func l2Range(q, data []float32, stride, first int, out []float32) {
	l2RangeGeneric(q, data, stride, first, out)
}
