package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"github.com/chromad/chromad/engine"
	"github.com/chromad/chromad/filter"
)

// dim is the model's: all-MiniLM-L6-v2.
const dim = 384

// A set is records and their vectors, row by row.
type set struct {
	records []engine.Record // Embedding aliases vectors
	vectors []float32       // rows × dim, of length 1
	bytes   int64           // what the files hold: JSON and float32
}

func (s *set) rows() int { return len(s.records) }

func (s *set) vector(row int) []float32 { return s.vectors[row*dim : (row+1)*dim : (row+1)*dim] }

// readSet reads records.jsonl and vectors.f32, or vectors.f16 where only that is.
func readSet(folder string) (*set, error) {
	s := &set{}
	if err := s.readRecords(filepath.Join(folder, "records.jsonl")); err != nil {
		return nil, err
	}
	name, width, decode := "vectors.f32", 4, func(b []byte) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(b)) }
	if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
		name, width, decode = "vectors.f16", 2, func(b []byte) float32 { return half(binary.LittleEndian.Uint16(b)) }
	}
	raw, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		return nil, err
	}
	if len(raw) != s.rows()*dim*width {
		return nil, fmt.Errorf("%s: %d bytes, want %d rows of %d numbers", name, len(raw), s.rows(), dim)
	}
	s.vectors = make([]float32, s.rows()*dim)
	for i := range s.vectors {
		s.vectors[i] = decode(raw[i*width:])
	}
	for row := range s.records {
		s.records[row].Embedding = s.vector(row)
	}
	s.bytes += int64(len(s.vectors)) * 4
	return s, nil
}

func (s *set) readRecords(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for lines := json.NewDecoder(bufio.NewReaderSize(f, 1<<20)); lines.More(); {
		var line struct {
			ID, Document string
			Metadata     json.RawMessage
		}
		if err := lines.Decode(&line); err != nil {
			return fmt.Errorf("%s: record %d: %w", name, s.rows(), err)
		}
		metadata, err := filter.ParseMetadata(line.Metadata)
		if err != nil {
			return fmt.Errorf("%s: record %d: %w", name, s.rows(), err)
		}
		s.records = append(s.records, engine.Record{ID: line.ID, Document: &line.Document, Metadata: metadata})
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	s.bytes = info.Size()
	return nil
}

// hold chooses n rows as queries, always the same, and returns the others too.
func (s *set) hold(n int) (held, kept []int) {
	order := rand.New(rand.NewPCG(20, 20)).Perm(s.rows())
	held, kept = slices.Clone(order[:n]), slices.Clone(order[n:])
	slices.Sort(held)
	slices.Sort(kept)
	return held, kept
}

// half decodes an IEEE 754 binary16 number.
func half(b uint16) float32 {
	sign := float32(1)
	if b>>15 == 1 {
		sign = -1
	}
	exponent, fraction := int(b>>10&31), float64(b&1023)
	switch exponent {
	case 0:
		return sign * float32(math.Ldexp(fraction, -24))
	case 31:
		return sign * float32(math.Inf(1))
	}
	return sign * float32(math.Ldexp(1024+fraction, exponent-25))
}
