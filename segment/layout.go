package segment

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/chromad/chromad/hnsw"
	"github.com/chromad/chromad/internal/disk"
	"github.com/chromad/chromad/internal/kernel"
	"github.com/chromad/chromad/internal/seal"
)

// version of the format. A reader refuses every other one.
const version = 1

// The sections of a file, in the order in which they are written.
const (
	sectionVectors        uint16 = 1
	sectionNorms          uint16 = 2
	sectionOrders         uint16 = 3
	sectionIDEnds         uint16 = 4
	sectionIDs            uint16 = 5
	sectionIDTable        uint16 = 6
	sectionMetadataEnds   uint16 = 7
	sectionMetadata       uint16 = 8
	sectionDocumentEnds   uint16 = 9
	sectionDocumentBlocks uint16 = 10
	sectionDocuments      uint16 = 11
	sectionURIEnds        uint16 = 12
	sectionURIBlocks      uint16 = 13
	sectionURIs           uint16 = 14
	sectionFilter         uint16 = 15
	sectionGraph          uint16 = 16
	sectionProperties     uint16 = 17
	sectionBytes          uint16 = 18 // before the graph
)

// Block sizes trade the table, which is read when the file is opened (8 bytes
// a block, and 28 more where blocks are sealed), against what one touch has to
// verify and decrypt. Arrays that are probed at random have small blocks.
const (
	blockGraph = 64 << 10 // read whole
	blockRows  = 8 << 10  // vectors, in bytes too: a search touches a thousand or two, far apart
	blockText  = 16 << 10 // ids, metadata, documents, filter index
	blockProbe = 4 << 10  // orders, ends, id table, norms
)

// evictable are the sections that lose their decrypted memory when it is
// short: the large ones of which a query needs a part. Of them nothing may be
// kept beyond a guard. Graph, filter index, id table, norms and ends are kept
// while the file is open; decoded graphs and bitmaps alias them.
var evictable = []uint16{sectionVectors, sectionBytes, sectionIDs, sectionMetadata, sectionDocuments, sectionURIs}

const (
	maxRows         = 1<<31 - 1 // a slot of the id table keeps a bit for the tag
	maxDim          = 1 << 16
	rowAlign        = 16 // floats: 64 bytes
	defaultGraphMin = 1000
)

var (
	// ErrEmpty is returned when no row is left to write: there is no file.
	ErrEmpty = errors.New("no rows")
	// ErrClosed is returned by the methods of a closed Reader.
	ErrClosed = errors.New("segment is closed")
)

// Spec is what a file is and how it is built.
type Spec struct {
	Store, Collection seal.ID
	Number            uint64  // stands in the name
	File              seal.ID // random, never used again
	Dim               int     // floats of a vector, 1 to 65536
	Metric            kernel.Metric
	Graph             hnsw.Params
	// GraphMin is the number of rows below which no graph is built, because
	// a scan is faster. 0 means 1000.
	GraphMin int
	// Cache is where an open segment keeps decompressed documents and what conditions
	// held for; nil: nowhere.
	Cache *Cache
	// Memory bounds what is held of an open segment beside its mapped file, and of
	// all others that share it (the hot part, and what is decrypted), and what
	// building one takes; nil: no bound.
	Memory *disk.Budget
}

func (s Spec) header() disk.Header {
	return disk.Header{
		Kind: seal.KindSegment, Version: version,
		Store: s.Store, Collection: s.Collection, File: s.File, Number: s.Number,
	}
}

func (s Spec) check() error {
	if s.Dim < 1 || s.Dim > maxDim {
		return fmt.Errorf("dimension %d is not within 1 to %d", s.Dim, maxDim)
	}
	if s.Metric > kernel.IP {
		return fmt.Errorf("unknown metric %d", s.Metric)
	}
	return nil
}

// graphMin is GraphMin with its default. hnsw has no graph of nothing, so
// one row is the least.
func (s Spec) graphMin() int {
	if s.GraphMin == 0 {
		return defaultGraphMin
	}
	return max(s.GraphMin, 1)
}

// stride is the floats from one row to the next: rows begin on cache lines.
func stride(dim int) int { return (dim + rowAlign - 1) / rowAlign * rowAlign }

// Name is the name of segment number in its store.
func Name(number uint64) string { return disk.Name("seg", number, ".seg") }

// Info is what must be known of a segment before it is opened. It stands in
// the log's edits and in checkpoints.
type Info struct {
	Number             uint64
	File               seal.ID
	Rows               uint32
	MinOrder, MaxOrder uint64 // of its first and last row
	disk.Info
}

// AppendBinary appends the 60 bytes of i.
func (i Info) AppendBinary(b []byte) ([]byte, error) {
	b = binary.LittleEndian.AppendUint64(b, i.Number)
	b = append(b, i.File[:]...)
	b = binary.LittleEndian.AppendUint32(b, i.Rows)
	b = binary.LittleEndian.AppendUint64(b, i.MinOrder)
	b = binary.LittleEndian.AppendUint64(b, i.MaxOrder)
	b = binary.LittleEndian.AppendUint64(b, uint64(i.Length))
	return binary.LittleEndian.AppendUint64(b, i.Root), nil
}

// DecodeInfo reads what AppendBinary wrote. What is wrong is d's error.
func DecodeInfo(d *disk.Decoder) Info {
	var i Info
	i.Number = d.Uint64()
	copy(i.File[:], d.Bytes(len(i.File)))
	i.Rows = d.Uint32()
	i.MinOrder = d.Uint64()
	i.MaxOrder = d.Uint64()
	i.Length = int64(d.Uint64())
	i.Root = d.Uint64()
	return i
}

// properties is the section that says what the other sections hold.
type properties struct {
	dim                int
	metric             kernel.Metric
	rows               uint32
	minOrder, maxOrder uint64
	documents, uris    uint64 // bytes of text before compression
	m, efConstruction  uint32 // of the graph, 0 when there is none
	seed               uint64
}

const propertiesSize = 64

func (p properties) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(p.dim))
	b = binary.LittleEndian.AppendUint32(b, p.rows)
	b = binary.LittleEndian.AppendUint64(b, uint64(p.metric))
	b = binary.LittleEndian.AppendUint64(b, p.minOrder)
	b = binary.LittleEndian.AppendUint64(b, p.maxOrder)
	b = binary.LittleEndian.AppendUint64(b, p.documents)
	b = binary.LittleEndian.AppendUint64(b, p.uris)
	b = binary.LittleEndian.AppendUint32(b, p.m)
	b = binary.LittleEndian.AppendUint32(b, p.efConstruction)
	return binary.LittleEndian.AppendUint64(b, p.seed)
}

func decodeProperties(b []byte) (properties, error) {
	d := disk.NewDecoder(b)
	var p properties
	dim := d.Uint32()
	p.rows = d.Uint32()
	metric := d.Uint64()
	p.minOrder = d.Uint64()
	p.maxOrder = d.Uint64()
	p.documents = d.Uint64()
	p.uris = d.Uint64()
	p.m = d.Uint32()
	p.efConstruction = d.Uint32()
	p.seed = d.Uint64()
	if err := d.Done(); err != nil {
		return p, err
	}
	switch {
	case dim < 1 || dim > maxDim:
		return p, fmt.Errorf("dimension %d", dim)
	case p.rows < 1 || p.rows > maxRows:
		return p, fmt.Errorf("%d rows", p.rows)
	case metric > uint64(kernel.IP):
		return p, fmt.Errorf("metric %d", metric)
	case p.maxOrder < p.minOrder || p.maxOrder-p.minOrder < uint64(p.rows)-1:
		return p, fmt.Errorf("%d rows have orders %d to %d", p.rows, p.minOrder, p.maxOrder)
	}
	p.dim, p.metric = int(dim), kernel.Metric(metric)
	return p, nil
}
