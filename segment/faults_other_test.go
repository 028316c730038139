//go:build !unix

package segment

func pageFaults() int64 { return 0 }
