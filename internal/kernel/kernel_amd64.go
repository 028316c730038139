//go:build !purego

package kernel

import "golang.org/x/sys/cpu"

// supported lists the forms that this processor can run, the best first.
func supported() []form {
	x := cpu.X86
	list := []form{generic}
	if x.HasAVX2 && x.HasFMA && x.HasBMI1 && x.HasBMI2 && x.HasPOPCNT {
		list = append([]form{{"avx2", floatAVX2, hopAVX2, buildAVX2, codecAVX2}}, list...)
		if x.HasAVX512F && x.HasAVX512BW && x.HasAVX512VL && x.HasAVX512VNNI {
			list = append([]form{{"avx512", floatAVX512, hopAVX512, buildAVX512, codecAVX512}}, list...)
		}
	}
	return list
}
