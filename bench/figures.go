package main

import (
	"bufio"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/chromad/chromad/internal/kernel"
)

// figures is everything that was measured, as -json writes it.
type figures struct {
	Machine string `json:"machine"`
	Commit  string `json:"commit"`
	Command string `json:"command"`
	Rows    int    `json:"rows"`
	Queries int    `json:"queries"`
	Load    struct {
		Seconds       float64 `json:"seconds"`
		RowsPerSecond float64 `json:"rows_per_s"`
		Batch         int     `json:"batch"`
		Writers       int     `json:"writers"`
	} `json:"load"`
	QueryAfterLoad     latency          `json:"query_right_after_load"`
	SettleSeconds      float64          `json:"settle_s"`
	Query              latency          `json:"query"`
	QueryExact         latency          `json:"query_exact"`
	QueryWithDocuments latency          `json:"query_with_documents"`
	PerSecond          []rateOf         `json:"queries_per_s"`
	Filtered           []filtered       `json:"filtered"`
	GetByID            latency          `json:"get_by_id"`
	DiskBytes          int64            `json:"disk_bytes"`
	RawBytes           int64            `json:"raw_bytes"`
	Memory             map[string]int64 `json:"memory"`
	CloseSeconds       float64          `json:"close_s"`
	OpenSeconds        float64          `json:"open_s"`
	FirstAnswerSeconds float64          `json:"first_answer_s"`
}

// latency is in milliseconds; Recall is of the 10 nearest, 0 where there is none to speak of.
type latency struct {
	P50    float64 `json:"p50_ms"`
	P99    float64 `json:"p99_ms"`
	Recall float64 `json:"recall,omitempty"`
}

type rateOf struct {
	Threads int     `json:"threads"`
	Rate    float64 `json:"rate"`
}

type filtered struct {
	Name    string  `json:"name"`
	Rows    int     `json:"rows"`
	Latency latency `json:"latency"`
}

func newFigures(s *set, held []int, f flags) *figures {
	out := &figures{Rows: s.rows() - len(held), Queries: len(held), RawBytes: s.bytes}
	out.Load.Batch, out.Load.Writers = f.batch, f.writers
	out.Machine = fmt.Sprintf("%s, %d cores, %s/%s, %s, kernel %s", cpuName(), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), kernel.Name())
	out.Commit = "unknown"
	if commit, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output(); err == nil {
		out.Commit = strings.TrimSpace(string(commit))
	}
	out.Command = strings.Join(append([]string{"go run ./bench"}, os.Args[1:]...), " ")
	return out
}

func percentiles(times []time.Duration) latency {
	if len(times) == 0 {
		return latency{}
	}
	slices.Sort(times)
	at := func(p int) float64 { return float64(times[(len(times)-1)*p/100].Nanoseconds()) / 1e6 }
	return latency{P50: at(50), P99: at(99)}
}

func (l latency) String() string {
	text := fmt.Sprintf("p50 %.3f ms, p99 %.3f ms", l.P50, l.P99)
	if l.Recall > 0 {
		text += fmt.Sprintf(", recall@%d %.4f", k, l.Recall)
	}
	return text
}

// table is the Markdown of docs/benchmarks.md.
func (f *figures) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s; chromad at %s; `%s`\n\n| | |\n|---|---|\n", f.Machine, f.Commit, f.Command)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "| %s | %s |\n", strings.ReplaceAll(name, "|", `\|`), fmt.Sprintf(format, args...))
	}
	mib := func(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
	line("rows", "%d of %d dimensions, %d queries held out", f.Rows, dim, f.Queries)
	line("load", "%.0f rows/s (batches of %d, %d writers), then flush and compact in %.1f s", f.Load.RowsPerSecond, f.Load.Batch, f.Load.Writers, f.SettleSeconds)
	line("query right after load", "%v", f.QueryAfterLoad)
	line("query", "%v", f.Query)
	line("query, exact", "%v", f.QueryExact)
	line("query with documents and metadata", "%v", f.QueryWithDocuments)
	for _, r := range f.PerSecond {
		line(fmt.Sprintf("queries a second, %d goroutines", r.Threads), "%.0f", r.Rate)
	}
	for _, q := range f.Filtered {
		line(fmt.Sprintf("query where %s (%d rows)", q.Name, q.Rows), "%v", q.Latency)
	}
	line("get by id", "%v", f.GetByID)
	line("bytes on disk", "%s (%.2f of vectors plus JSON)", mib(f.DiskBytes), float64(f.DiskBytes)/float64(max(1, f.RawBytes)))
	for _, name := range slices.Sorted(maps.Keys(f.Memory)) {
		line("memory, "+name, "%s", mib(f.Memory[name]))
	}
	line("close", "%.3f s", f.CloseSeconds)
	line("reopen", "%.3f s, first right answer after %.3f s", f.OpenSeconds, f.FirstAnswerSeconds)
	return b.String()
}

// memory is what the process uses: the Go heap everywhere, and on Linux what
// the system counts, anonymous pages and mapped files apart. The set that is
// loaded is part of both.
func memory() map[string]int64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	out := map[string]int64{"Go heap": int64(stats.HeapAlloc)}
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return out
	}
	names := map[string]string{"VmRSS:": "resident", "RssAnon:": "anonymous", "RssFile:": "mapped", "VmHWM:": "peak"}
	for lines := bufio.NewScanner(strings.NewReader(string(raw))); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 2 || names[f[0]] == "" {
			continue
		}
		if kib, err := strconv.ParseInt(f[1], 10, 64); err == nil {
			out[names[f[0]]] = kib * 1024
		}
	}
	return out
}

func cpuName() string {
	raw, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	_, after, _ := strings.Cut(string(raw), "model name")
	line, _, _ := strings.Cut(after, "\n")
	return strings.Trim(line, "\t :")
}

// diskBytes sums the sizes of the files below dir.
func diskBytes(dir string) (n int64) {
	filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}
