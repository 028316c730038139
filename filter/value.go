package filter

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Kind is the type of a Value. The numbers are part of the stored formats.
type Kind uint8

// The kinds of metadata values. KindNull stands for "delete this key" in an
// update and is never stored in a record.
const (
	KindNull Kind = iota
	KindBool
	KindInt
	KindFloat
	KindString
	KindBools
	KindInts
	KindFloats
	KindStrings
	// KindSparse is reserved for sparse vectors.
	KindSparse
)

// String names the kind as the API's error texts do; an array has the name of
// its elements' kind, since that is the index it belongs to.
func (k Kind) String() string {
	switch k.Element() {
	case KindNull:
		return "Null"
	case KindBool:
		return "Bool"
	case KindInt:
		return "Int"
	case KindFloat:
		return "Float"
	case KindString:
		return "Str"
	case KindSparse:
		return "SparseVector"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// IsArray reports whether values of this kind are lists.
func (k Kind) IsArray() bool { return k >= KindBools && k <= KindStrings }

// Element is the kind of an array's elements, and k itself for a scalar.
func (k Kind) Element() Kind {
	if k.IsArray() {
		return k - KindBools + KindBool
	}
	return k
}

// A Value is one metadata value: a bool, a 64-bit integer, a 64-bit float, a
// string, or a list of one of them. Values are immutable; the zero Value is
// null. Compare them with Equal.
type Value struct {
	_    [0]func() // forbids ==, which would panic on lists
	kind Kind
	num  uint64 // bool, int and float bits
	str  string
	list any // []bool, []int64, []float64 or []string
}

// Null is the value that deletes a key in an update.
func Null() Value { return Value{} }

// Bool makes a boolean value.
func Bool(b bool) Value {
	v := Value{kind: KindBool}
	if b {
		v.num = 1
	}
	return v
}

// Int makes an integer value.
func Int(i int64) Value { return Value{kind: KindInt, num: uint64(i)} }

// Float makes a floating point value. Negative zero becomes zero, as it reads
// back that way through the API.
func Float(f float64) Value {
	return Value{kind: KindFloat, num: math.Float64bits(plusZero(f))}
}

// String makes a text value.
func String(s string) Value { return Value{kind: KindString, str: s} }

// Bools makes a list of booleans. The list is copied.
func Bools(b ...bool) Value { return Value{kind: KindBools, list: slices.Clone(b)} }

// Ints makes a list of integers. The list is copied.
func Ints(i ...int64) Value { return Value{kind: KindInts, list: slices.Clone(i)} }

// Floats makes a list of floating point numbers. The list is copied.
func Floats(f ...float64) Value {
	c := slices.Clone(f)
	for i := range c {
		c[i] = plusZero(c[i])
	}
	return Value{kind: KindFloats, list: c}
}

// Strings makes a list of texts. The list is copied.
func Strings(s ...string) Value { return Value{kind: KindStrings, list: slices.Clone(s)} }

// plusZero turns -0.0 into 0.0: the sum of both zeros is the positive one.
func plusZero(f float64) float64 { return f + 0 }

// Kind is the type of the value.
func (v Value) Kind() Kind { return v.kind }

// IsNull reports whether the value is null.
func (v Value) IsNull() bool { return v.kind == KindNull }

// AsBool is the boolean, or false for another kind.
func (v Value) AsBool() bool { return v.kind == KindBool && v.num != 0 }

// AsInt is the integer, or 0 for another kind.
func (v Value) AsInt() int64 {
	if v.kind != KindInt {
		return 0
	}
	return int64(v.num)
}

// AsFloat is the floating point number, or 0 for another kind.
func (v Value) AsFloat() float64 {
	if v.kind != KindFloat {
		return 0
	}
	return math.Float64frombits(v.num)
}

// AsString is the text, or "" for another kind.
func (v Value) AsString() string { return v.str }

// AsBools is the list of booleans, or nil. The caller must not change it.
func (v Value) AsBools() []bool { l, _ := v.list.([]bool); return l }

// AsInts is the list of integers, or nil. The caller must not change it.
func (v Value) AsInts() []int64 { l, _ := v.list.([]int64); return l }

// AsFloats is the list of numbers, or nil. The caller must not change it.
func (v Value) AsFloats() []float64 { l, _ := v.list.([]float64); return l }

// AsStrings is the list of texts, or nil. The caller must not change it.
func (v Value) AsStrings() []string { l, _ := v.list.([]string); return l }

// Len is the number of elements of a list, and 0 for a scalar.
func (v Value) Len() int {
	switch l := v.list.(type) {
	case []bool:
		return len(l)
	case []int64:
		return len(l)
	case []float64:
		return len(l)
	case []string:
		return len(l)
	}
	return 0
}

// Equal reports whether both values are of the same kind and hold the same.
// Kinds do not convert: Int(1) is not Float(1).
func (v Value) Equal(w Value) bool {
	if v.kind != w.kind || v.num != w.num || v.str != w.str {
		return false
	}
	switch v.kind {
	case KindBools:
		return slices.Equal(v.AsBools(), w.AsBools())
	case KindInts:
		return slices.Equal(v.AsInts(), w.AsInts())
	case KindFloats:
		return slices.EqualFunc(v.AsFloats(), w.AsFloats(), func(a, b float64) bool {
			return math.Float64bits(a) == math.Float64bits(b)
		})
	case KindStrings:
		return slices.Equal(v.AsStrings(), w.AsStrings())
	}
	return true
}

// Go is the value as a plain Go value: nil, bool, int64, float64, string or a
// copied slice of one of them.
func (v Value) Go() any {
	switch v.kind {
	case KindBool:
		return v.AsBool()
	case KindInt:
		return v.AsInt()
	case KindFloat:
		return v.AsFloat()
	case KindString:
		return v.str
	case KindBools:
		return slices.Clone(v.AsBools())
	case KindInts:
		return slices.Clone(v.AsInts())
	case KindFloats:
		return slices.Clone(v.AsFloats())
	case KindStrings:
		return slices.Clone(v.AsStrings())
	}
	return nil
}

// String is the value as JSON, for messages.
func (v Value) String() string { return string(v.AppendJSON(nil)) }

// ValueOf turns a plain Go value into a Value: nil, bool, any integer or
// float type, string, Value, or a slice of bool, int, int64, float32, float64
// or string. Integers beyond 64 signed bits become floats; NaN and infinities
// are refused.
func ValueOf(x any) (Value, error) {
	switch x := x.(type) {
	case nil:
		return Null(), nil
	case Value:
		return x, nil
	case bool:
		return Bool(x), nil
	case string:
		return String(x), nil
	case int:
		return Int(int64(x)), nil
	case int8:
		return Int(int64(x)), nil
	case int16:
		return Int(int64(x)), nil
	case int32:
		return Int(int64(x)), nil
	case int64:
		return Int(x), nil
	case uint8:
		return Int(int64(x)), nil
	case uint16:
		return Int(int64(x)), nil
	case uint32:
		return Int(int64(x)), nil
	case uint:
		return unsigned(uint64(x)), nil
	case uint64:
		return unsigned(x), nil
	case float32:
		return finite(float64(x))
	case float64:
		return finite(x)
	}
	return listOf(x)
}

func listOf(x any) (Value, error) {
	switch x := x.(type) {
	case []bool:
		return Bools(x...), nil
	case []string:
		return Strings(x...), nil
	case []int64:
		return Ints(x...), nil
	case []int:
		l := make([]int64, len(x))
		for i, n := range x {
			l[i] = int64(n)
		}
		return Value{kind: KindInts, list: l}, nil
	case []float64:
		return finiteList(x)
	case []float32:
		l := make([]float64, len(x))
		for i, f := range x {
			l[i] = float64(f)
		}
		return finiteList(l)
	}
	return Value{}, fmt.Errorf("metadata value: type %T is not supported", x)
}

func unsigned(u uint64) Value {
	if u > math.MaxInt64 {
		return Float(float64(u))
	}
	return Int(int64(u))
}

func finite(f float64) (Value, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return Value{}, fmt.Errorf("metadata value: %v is not a finite number", f)
	}
	return Float(f), nil
}

func finiteList(l []float64) (Value, error) {
	for _, f := range l {
		if _, err := finite(f); err != nil {
			return Value{}, err
		}
	}
	return Floats(l...), nil
}

// compareIntFloat orders an integer and a float by their exact numeric
// values. Converting either to the other's type would round: 2^53+1 is not
// 2^53. f must not be NaN.
func compareIntFloat(i int64, f float64) int {
	if f >= 1<<63 {
		return -1
	}
	if f < -1<<63 {
		return 1
	}
	whole := math.Trunc(f)
	if c := cmp.Compare(i, int64(whole)); c != 0 {
		return c
	}
	return cmp.Compare(0, f-whole)
}

// rank groups the kinds that compare with each other; ints and floats are one
// group. Kinds that no scalar operator can match have none.
func (v Value) rank() int {
	switch v.kind {
	case KindBool:
		return 1
	case KindInt:
		return 2
	case KindFloat:
		if f := v.AsFloat(); f == f {
			return 2
		}
	case KindString:
		return 3
	}
	return 0
}

// compareScalars orders two scalars: false, true, then numbers by exact
// value, then text by bytes. ok is false when one is NaN, null or a list:
// those are equal to nothing and in no order.
func compareScalars(a, b Value) (c int, ok bool) {
	ra, rb := a.rank(), b.rank()
	if ra == 0 || rb == 0 {
		return 0, false
	}
	if ra != rb {
		return cmp.Compare(ra, rb), true
	}
	switch ra {
	case 1:
		return cmp.Compare(a.num, b.num), true
	case 3:
		return strings.Compare(a.str, b.str), true
	}
	switch {
	case a.kind == KindInt && b.kind == KindInt:
		return cmp.Compare(a.AsInt(), b.AsInt()), true
	case a.kind == KindFloat && b.kind == KindFloat:
		return cmp.Compare(a.AsFloat(), b.AsFloat()), true
	case a.kind == KindInt:
		return compareIntFloat(a.AsInt(), b.AsFloat()), true
	default:
		return -compareIntFloat(b.AsInt(), a.AsFloat()), true
	}
}
