//go:build unix

package kernel

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// guarded returns n numbers that end where memory that nobody may read
// begins: a kernel that reads one byte too far kills the test.
func guarded(t *testing.T, n int) []float32 {
	t.Helper()
	page := unix.Getpagesize()
	size := (4*n + page - 1) / page * page
	mem, err := unix.Mmap(-1, 0, size+page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(mem); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mprotect(mem[size:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&mem[size-4*n])), n)
}

func TestGuardPage(t *testing.T) {
	const most = 600
	q, data := guarded(t, most), guarded(t, 3*most)
	out := guarded(t, 4)
	numbers := guarded(t, 3*ByteStride(most)/4)
	bytes := unsafe.Slice((*uint8)(unsafe.Pointer(&numbers[0])), 4*len(numbers))
	for i := range q {
		q[i] = 1
	}
	for _, f := range forms() {
		for n := 1; n <= most; n++ {
			a, m := q[most-n:], data[len(data)-3*n:]
			row := m[2*n:]
			f.dot(a, row)
			f.l2(row, a)
			f.dotRows(a, m, n, []uint32{2, 0, 1, 2}, out)
			f.l2Rows(a, m, n, []uint32{2, 1, 0, 2}, out)
			f.dotRange(a, m, n, out[1:])
			f.l2Range(a, m, n, out[1:])

			stride := ByteStride(n)
			raw := bytes[len(bytes)-3*stride:]
			f.dotByteRows(a, raw, 1, stride, []uint32{2, 0, 1, 2}, out)
			f.l2ByteRows(a, raw, 1, stride, []uint32{2, 1, 0, 2}, out)
			f.l2ByteRows(a, raw, 1, stride, []uint32{2}, out)
		}
	}
}
