package admin

import "github.com/chromad/chromad/engine"

// Status is the answer of GET /admin/v1/status.
type Status struct {
	PID        int    `json:"pid"`
	Version    string `json:"version"`
	Path       string `json:"path"`
	Address    string `json:"address"`             // of the server's API
	Key        string `json:"operator_key"`        // URI, empty for a plain store
	Generation uint64 `json:"generation"`          // see engine.DB.Generation
	Failed     string `json:"failed,omitempty"`    // why no more writes are accepted
	Running    string `json:"under_way,omitempty"` // names of jobs, with commas

	Collections  int   `json:"collections"`
	Records      int64 `json:"records"`
	Segments     int   `json:"segments"`
	SegmentBytes int64 `json:"segment_bytes"`
	LogBytes     int64 `json:"log_bytes"`
}

// Keys is the answer of GET /admin/v1/keys: engine.KeyInfo for JSON.
type Keys struct {
	Operator    string          `json:"operator_key"` // URI
	Converting  bool            `json:"converting"`   // the store is being encrypted
	Keyset      []KeysetKey     `json:"keyset"`
	Store       []uint32        `json:"store_generations"`
	Collections []CollectionKey `json:"collections"`
	OldFiles    int             `json:"old_files"` // not under the newest keys
	OldBytes    int64           `json:"old_bytes"`
}

// KeysetKey is a key of the keyset.
type KeysetKey struct {
	ID      uint32 `json:"id"`
	Primary bool   `json:"primary"`
}

// CollectionKey is the key of a collection.
type CollectionKey struct {
	Collection  string   `json:"collection"`
	Generations []uint32 `json:"generations"` // ascending, the last is in use
}

// KeysOf is what info says.
func KeysOf(info engine.KeyInfo) Keys {
	k := Keys{
		Operator: info.URI, Converting: info.Converting, Store: info.Store, OldFiles: info.OldFiles, OldBytes: info.OldBytes,
		Keyset: make([]KeysetKey, 0, len(info.Keyset)), Collections: make([]CollectionKey, 0, len(info.Collections)),
	}
	for _, key := range info.Keyset {
		k.Keyset = append(k.Keyset, KeysetKey{key.ID, key.Primary})
	}
	for _, c := range info.Collections {
		k.Collections = append(k.Collections, CollectionKey{c.Collection.String(), c.Generations})
	}
	return k
}

// Line is one line of the answer to a POST: Began first, any number of
// Progressed, and Done or Failed last. An answer without the last one was cut off.
type Line struct {
	Event  string `json:"event"`
	Joined bool   `json:"joined,omitempty"` // with Began: it was under way already
	Error  string `json:"error,omitempty"`  // with Failed

	*Progress // with Progressed
}

// Progress tells how much has to be written again, and how much of it is done.
type Progress struct {
	Segments     int   `json:"segments"`
	SegmentsDone int   `json:"segments_done"`
	Bytes        int64 `json:"bytes"` // of those segments' files
	BytesDone    int64 `json:"bytes_done"`
}

// Events of a Line.
const (
	Began      = "began"
	Progressed = "progress"
	Done       = "done"
	Failed     = "error"
)

// Rotated is the line that tells p.
func Rotated(p engine.RotateProgress) Line {
	return Line{Event: Progressed, Progress: &Progress{Segments: p.Segments, SegmentsDone: p.SegmentsDone, Bytes: p.Bytes, BytesDone: p.BytesDone}}
}
