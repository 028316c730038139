package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/chromad/chromad/engine"
)

// paths are directories, one for each time that the flag is given.
type paths []string

// String implements flag.Value.
func (p *paths) String() string { return strings.Join(*p, ",") }

// Set implements flag.Value.
func (p *paths) Set(text string) error {
	if text == "" {
		return errors.New("name a directory")
	}
	*p = append(*p, text)
	return nil
}

func verifyErasureCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newFlagPage("verify-erasure", "RECEIPT --public-key FILE", "Check the signature of a receipt, and look in directories for what it says is gone.", `
Examples:

  chromad verify-erasure receipt.json --public-key chromad.public
  chromad verify-erasure receipt.json --public-key chromad.public --path /var/lib/chroma --path /mnt/old-copy
  chromad verify-erasure receipt.json --public-key chromad.public --name customers

No other key is needed, and nothing is written. A directory is the store or an older copy of it. It is judged by
the headers of files: what is packed into an archive, in free blocks of the disk or in snapshots is not seen.
Exit status: 0 all is well, 1 the receipt is not good or something is still there, 2 wrong usage.
`)
	var dirs paths
	public := p.String("public-key", "", "`file` with the public key of the store; chromad keys public makes it")
	p.Var(&dirs, "path", "`directory` to look in; may be repeated")
	name := p.String("name", "", "tell whether the receipt is about the collection, database or tenant of this `name`")
	rest, err := p.read(args)
	switch {
	case err != nil:
	case len(rest) != 1:
		err = errors.New("name one receipt: chromad verify-erasure RECEIPT --public-key FILE")
	case *public == "":
		err = errors.New("--public-key is missing: chromad keys public PATH --out FILE makes the file; without it nobody knows who signed")
	}
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	clean, err := verifyErasure(ctx, rest[0], *public, *name, dirs, stdout)
	if err != nil {
		return p.fail(err, stderr)
	}
	if !clean {
		return exitFailed
	}
	return exitOK
}

// maxReceiptFile bounds what is read of a receipt and of a public key.
const maxReceiptFile = 1 << 30

func verifyErasure(ctx context.Context, receipt, public, name string, dirs []string, stdout io.Writer) (clean bool, err error) {
	text, err := readBounded(receipt)
	if err != nil {
		return false, err
	}
	key, err := readBounded(public)
	if err != nil {
		return false, err
	}
	r, err := engine.ParseReceipt(text)
	if err == nil {
		err = r.Verify(key)
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", receipt, err)
	}
	s := &r.Statement
	fmt.Fprintf(stdout, "%s: the signature is good\n%s\n", receipt, aboutReceipt(s))
	clean = true
	if name != "" {
		if clean, err = isAbout(s, name); err != nil {
			return false, err
		}
		fmt.Fprintf(stdout, "%q: %s\n", name, map[bool]string{true: "the receipt names it", false: "the receipt does not name it"}[clean])
	}
	for _, dir := range dirs {
		found, err := engine.FindErased(ctx, dir, s)
		if err != nil {
			return false, fmt.Errorf("%s: %w", dir, err)
		}
		tellSearch(dir, found, stdout)
		clean = clean && len(found.Remnants) == 0 && found.Damaged == 0
	}
	return clean, nil
}

func readBounded(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxReceiptFile))
}

// isAbout tells whether the receipt has the hash of a name.
func isAbout(s *engine.Statement, name string) (bool, error) {
	hash, err := engine.NameHash(s.Store, name)
	if err != nil {
		return false, err
	}
	if hash == s.Tenant || hash == s.DatabaseName {
		return true, nil
	}
	for _, c := range s.Collections {
		if c.Name == hash {
			return true, nil
		}
	}
	return false, nil
}

// tellSearch says what is in a directory.
func tellSearch(dir string, found *engine.Search, w io.Writer) {
	if found.Damaged > 0 {
		fmt.Fprintf(w, "%s: the headers of %s cannot be read, and nobody can tell what they hold\n", dir, counted(found.Damaged, "file"))
	}
	if len(found.Remnants) == 0 {
		fmt.Fprintf(w, "%s: %s of the store, none of what was erased\n", dir, counted(found.Files, "file"))
		return
	}
	fmt.Fprintf(w, "%s: %s of the store, and of what was erased, or from before that, there is:\n", dir, counted(found.Files, "file"))
	readable := false
	for _, r := range found.Remnants {
		how := "its key is not here"
		if r.Readable {
			how, readable = "readable with the operator's key "+found.OperatorKey, true
		}
		fmt.Fprintf(w, "  %s: %s, %s\n", r.Name, r.What, how)
	}
	if readable {
		fmt.Fprintf(w, "To make this copy unreadable: rotate the keys of the store (chromad keys rotate), put it under a new operator's key\n"+
			"(chromad keys rewrap), and destroy %s; or remove the copy.\n", found.OperatorKey)
	}
}
