// Command neon writes the kernels of package kernel for arm64: float_arm64.s,
// hop_arm64.s, build_arm64.s and codec_arm64.s, each with its declarations in
// Go. Run it with `go generate ./internal/kernel`.
//
// Go's assembler knows few vector instructions. The program writes those as
// words, each with the instruction's text beside it; encode.go is the table.
package main

import (
	"flag"
	"log"
	"os"
	"path/filepath"
)

func main() {
	dir := flag.String("dir", ".", "the folder of the package")
	flag.Parse()
	for name, write := range map[string]func(*program){
		"float": floats, "hop": hops, "build": builds, "codec": codecs,
	} {
		p := newProgram()
		write(p)
		save(filepath.Join(*dir, name+"_arm64.s"), p.code.Bytes())
		save(filepath.Join(*dir, name+"_stubs_arm64.go"), p.stubs.Bytes())
	}
}

func save(path string, text []byte) {
	if err := os.WriteFile(path, text, 0o644); err != nil {
		log.Fatal(err)
	}
}
