package disk

import (
	"errors"
	"reflect"
	"runtime/debug"

	"github.com/chromad/chromad/internal/mutant"
)

var errTruncated = errors.New("the file is shorter than it was when it was opened")

// Faults runs do, which may read mapped, the memory of the file called name. A
// file that was truncated after it was mapped makes such a read fault, which
// would end the process: the fault becomes a CorruptError. That works on this
// goroutine only: others that do starts have a Faults of their own.
func Faults(name string, mapped []byte, do func() error) (err error) {
	if mutant.On(mutant.FaultNotCaught) {
		return do()
	}
	before := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(before)
		p := recover()
		if p == nil {
			return
		}
		fault, ok := p.(interface {
			error
			Addr() uintptr
		})
		if !ok || !holds(mapped, fault.Addr()) {
			panic(p) // a fault of ours, not of the file's
		}
		err = &CorruptError{File: name, Err: errTruncated}
	}()
	return do()
}

// Faults runs do, which may read what the file's sections handed out.
func (f *File) Faults(do func() error) error { return Faults(f.name, f.data, do) }

func holds(memory []byte, addr uintptr) bool {
	start := reflect.ValueOf(memory).Pointer()
	return addr >= start && addr-start < uintptr(len(memory))
}
