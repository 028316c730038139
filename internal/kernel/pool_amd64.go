//go:build !purego

package kernel

//go:generate go -C gen run . -group pool -out ../pool_amd64.s -stubs ../pool_stubs_amd64.go -pkg kernel
