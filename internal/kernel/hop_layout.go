//go:build (amd64 || arm64) && !purego

package kernel

import "unsafe"

// The places of the fields of a Hop that assembly reads and writes. An index
// other than 0 does not compile: who changes Hop changes the generators too.
var _ = [...]struct{}{
	[1]struct{}{}[unsafe.Offsetof(Hop{}.query)-0],
	[1]struct{}{}[unsafe.Offsetof(Hop{}.codes)-8],
	[1]struct{}{}[unsafe.Offsetof(Hop{}.meta)-16],
	[1]struct{}{}[unsafe.Offsetof(Hop{}.visited)-24],
	[1]struct{}{}[unsafe.Offsetof(Hop{}.stride)-32],
	[1]struct{}{}[unsafe.Offsetof(Hop{}.lines)-40],
	[1]struct{}{}[unsafe.Offsetof(Hop{}.n)-48],
	[1]struct{}{}[unsafe.Offsetof(Hop{}.mul)-56],
	[1]struct{}{}[unsafe.Offsetof(Hop{}.sub)-60],
	[1]struct{}{}[unsafe.Offsetof(Hop{}.below)-64],
	[1]struct{}{}[unsafe.Offsetof(Hop{}.bits)-68],
	[1]struct{}{}[unsafe.Offsetof(Hop{}.last)-72],
	[1]struct{}{}[unsafe.Offsetof(Hop{}.rows)-80],
	[1]struct{}{}[unsafe.Offsetof(Hop{}.keys)-1168],
	[1]struct{}{}[unsafe.Offsetof(Hop{}.least)-2256],
}
