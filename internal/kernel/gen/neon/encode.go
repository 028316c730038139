package main

import (
	"fmt"
	"regexp"
	"strconv"
)

// The vector instructions that the kernels use, written as the architecture's
// manual writes them, without the numbers of registers. Go's assembler knows
// few of them, and names those its own way. The destination is in bits 0 to 4
// of the word, the first source from bit 5, the second from bit 16; what an
// immediate or the number of an element adds is the field's business.
var instructions = map[string]struct {
	word  uint32
	field func(n uint32) uint32 // nil: no immediate and no element
}{
	"movi v.4s, ":               {0x4f000400, zeroOnly},
	"movi v.16b, ":              {0x4f00e400, immediate8},
	"mov v.16b, v.16b":          {0x4ea01c00, nil}, // orr; see encode
	"dup v.4s, w":               {0x4e040c00, nil},
	"dup v.4s, v.s[]":           {0x4e040400, elementS},
	"ins v.d[], x":              {0x4e081c00, elementD},
	"umov w, v.s[]":             {0x0e043c00, elementS},
	"fmov w, s":                 {0x1e260000, nil},
	"zip1 v.2d, v.2d, v.2d":     {0x4ec03800, nil},
	"zip2 v.2d, v.2d, v.2d":     {0x4ec07800, nil},
	"zip1 v.4s, v.4s, v.4s":     {0x4e803800, nil},
	"zip2 v.4s, v.4s, v.4s":     {0x4e807800, nil},
	"uzp1 v.4s, v.4s, v.4s":     {0x4e801800, nil},
	"uzp1 v.8h, v.8h, v.8h":     {0x4e401800, nil},
	"uzp1 v.16b, v.16b, v.16b":  {0x4e001800, nil},
	"uzp2 v.4s, v.4s, v.4s":     {0x4e805800, nil},
	"and v.16b, v.16b, v.16b":   {0x4e201c00, nil},
	"orr v.16b, v.16b, v.16b":   {0x4ea01c00, nil},
	"eor v.16b, v.16b, v.16b":   {0x6e201c00, nil},
	"ushr v.16b, v.16b, ":       {0x6f000400, right8},
	"ushr v.4s, v.4s, ":         {0x6f000400, right32},
	"sli v.4s, v.4s, ":          {0x6f005400, left32},
	"ushl v.4s, v.4s, v.4s":     {0x6ea04400, nil},
	"ushl v.16b, v.16b, v.16b":  {0x6e204400, nil},
	"sdot v.4s, v.16b, v.16b":   {0x4e809400, nil},
	"sdot v.4s, v.16b, v.4b[]":  {0x4f80e000, elementDot},
	"smull v.8h, v.8b, v.8b":    {0x0e20c000, nil},
	"smull2 v.8h, v.16b, v.16b": {0x4e20c000, nil},
	"smlal v.8h, v.8b, v.8b":    {0x0e208000, nil},
	"smlal2 v.8h, v.16b, v.16b": {0x4e208000, nil},
	"saddlp v.4s, v.8h":         {0x4e602800, nil},
	"sadalp v.4s, v.8h":         {0x4e606800, nil},
	"add v.16b, v.16b, v.16b":   {0x4e208400, nil},
	"add v.4s, v.4s, v.4s":      {0x4ea08400, nil},
	"sub v.4s, v.4s, v.4s":      {0x6ea08400, nil},
	"mla v.4s, v.4s, v.4s":      {0x4ea09400, nil},
	"addp v.4s, v.4s, v.4s":     {0x4ea0bc00, nil},
	"addv s, v.4s":              {0x4eb1b800, nil},
	"umaxv s, v.4s":             {0x6eb0a800, nil},
	"smax v.4s, v.4s, v.4s":     {0x4ea06400, nil},
	"smin v.4s, v.4s, v.4s":     {0x4ea06c00, nil},
	"smin v.16b, v.16b, v.16b":  {0x4e206c00, nil},
	"smax v.16b, v.16b, v.16b":  {0x4e206400, nil},
	"cmgt v.4s, v.4s, v.4s":     {0x4ea03400, nil},
	"cmge v.4s, v.4s, v.4s":     {0x4ea03c00, nil},
	"tbl v.16b, {v.16b}, v.16b": {0x4e000000, nil},
	"ushll v.8h, v.8b, ":        {0x2f08a400, zeroOnly},
	"ushll2 v.8h, v.16b, ":      {0x6f08a400, zeroOnly},
	"ushll v.4s, v.4h, ":        {0x2f10a400, zeroOnly},
	"ushll2 v.4s, v.8h, ":       {0x6f10a400, zeroOnly},
	"xtn v.4h, v.4s":            {0x0e612800, nil},
	"sqxtn v.4h, v.4s":          {0x0e614800, nil},
	"sqxtn2 v.8h, v.4s":         {0x4e614800, nil},
	"sqxtn v.8b, v.8h":          {0x0e214800, nil},
	"sqxtn2 v.16b, v.8h":        {0x4e214800, nil},
	"scvtf v.4s, v.4s":          {0x4e21d800, nil},
	"fcvtns v.4s, v.4s":         {0x4e21a800, nil},
	"fcvtzs v.4s, v.4s":         {0x4ea1b800, nil},
	"fcvtms v.4s, v.4s":         {0x4e21b800, nil},
	"fabs v.4s, v.4s":           {0x4ea0f800, nil},
	"fmax v.4s, v.4s, v.4s":     {0x4e20f400, nil},
	"fminnm v.4s, v.4s, v.4s":   {0x4ea0c400, nil},
	"fmaxv s, v.4s":             {0x6e30f800, nil},
	"fadd v.4s, v.4s, v.4s":     {0x4e20d400, nil},
	"fsub v.4s, v.4s, v.4s":     {0x4ea0d400, nil},
	"fmul v.4s, v.4s, v.4s":     {0x6e20dc00, nil},
	"fmla v.4s, v.4s, v.4s":     {0x4e20cc00, nil},
	"faddp v.4s, v.4s, v.4s":    {0x6e20d400, nil},
	"fcmgt v.4s, v.4s, v.4s":    {0x6ea0e400, nil},
}

func zeroOnly(n uint32) uint32 {
	if n != 0 {
		panic("only zero")
	}
	return 0
}

func immediate8(n uint32) uint32 { return n>>5&7<<16 | n&31<<5 }

func right8(n uint32) uint32 { return (16 - n) << 16 }

func right32(n uint32) uint32 { return (64 - n) << 16 }

func left32(n uint32) uint32 { return (32 + n) << 16 }

func elementS(n uint32) uint32 { return n << 19 }

func elementD(n uint32) uint32 { return n << 20 }

func elementDot(n uint32) uint32 { return n&1<<21 | n>>1<<11 }

var number = regexp.MustCompile(`([vwxsd])(\d+)|(\[|, )(\d+)`)

// encode gives the word of one instruction, or panics: a generator that does
// not know what it writes must not write it.
func encode(text string) uint32 {
	var registers []uint32
	var value uint32
	has := false
	shape := number.ReplaceAllStringFunc(text, func(s string) string {
		m := number.FindStringSubmatch(s)
		n, err := strconv.ParseUint(m[2]+m[4], 10, 8)
		if err != nil {
			panic(err)
		}
		if m[1] != "" {
			registers = append(registers, uint32(n))
			return m[1]
		}
		value, has = uint32(n), true
		return m[3]
	})
	known, ok := instructions[shape]
	if !ok || (known.field != nil) != has {
		panic(fmt.Sprintf("%q: the encoder does not know %q", text, shape))
	}
	word := known.word
	for i, r := range registers {
		if r > 31 {
			panic(text)
		}
		word |= r << [3]int{0, 5, 16}[i]
	}
	if shape == "mov v.16b, v.16b" { // both sources of the orr are the same
		word |= registers[1] << 16
	}
	if has {
		word |= known.field(value)
	}
	return word
}
