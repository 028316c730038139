package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/chromad/chromad/server"
	"github.com/chromad/chromad/server/access"
	"github.com/chromad/chromad/server/alert"
	"github.com/chromad/chromad/server/limit"
	"github.com/chromad/chromad/server/oidc"
)

// options is what a server is started with: defaults, then the configuration
// file, then flags.
type options struct {
	configPath string

	path             string
	keys             string // URI of the operator's key, or a path
	expectGeneration uint64

	host      string
	port      int
	insecure  bool
	tls       tlsFiles
	issuers   []oidc.Issuer // providers whose tokens are accepted; the file alone has them
	strong    []access.Action
	limits    *limit.Set // these four too
	failures  float64    // of authentication, a minute
	admission server.Admission
	quotas    server.Quotas
	exports   []exportSetting // targets of events and alerts; these two are in the file alone as well
	alerts    []alert.Rule    // nil: the usual ones
	audit     auditSetting
	reset     bool
	maxBody   size
	cors      []string
	logLevel  string
	logFormat string

	memory       size
	memtableRows int
	drain        time.Duration
	eraseWithin  within
	restAfter    within
}

func defaultOptions() *options {
	return &options{path: "./chroma", host: "127.0.0.1", port: 8000, maxBody: 40 << 20, tls: tlsFiles{min: "1.3"}, audit: defaultAudit(),
		logLevel: "info", logFormat: "text", drain: 30 * time.Second, failures: 30,
		eraseWithin: within{24 * time.Hour, time.Minute}, restAfter: within{10 * time.Second, time.Second}}
}

func generationFlag(f *flag.FlagSet, n *uint64) {
	f.Uint64Var(n, "expect-generation", *n, "refuse a store older than `n`, the generation that was logged")
}

// flags makes the set of flags that write to o.
func (o *options) flags() *flag.FlagSet {
	f := flag.NewFlagSet("run", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	f.StringVar(&o.path, "path", o.path, "`directory` of the store; made when it is missing")
	f.StringVar(&o.keys, "keys", o.keys, "operator's key of an encrypted store: path of a key file, or a `uri`; see chromad keys")
	generationFlag(f, &o.expectGeneration)
	f.StringVar(&o.host, "host", o.host, "`address` to listen on")
	f.IntVar(&o.port, "port", o.port, "`port` to listen on; 0 takes a free one and logs it")
	f.StringVar(&o.tls.cert, "tls-cert", o.tls.cert, "`file` of the server's certificate and its chain, PEM; read again when it changes")
	f.StringVar(&o.tls.key, "tls-key", o.tls.key, "`file` of its private key, PEM")
	f.StringVar(&o.tls.clients, "tls-client-ca", o.tls.clients, "`file` of authorities, PEM: who has no certificate of theirs does not get in")
	f.StringVar(&o.tls.min, "tls-min", o.tls.min, "least `version` of TLS: 1.3, 1.2")
	f.BoolVar(&o.insecure, "insecure", o.insecure, "listen on addresses that other machines can reach, without authentication")
	f.BoolVar(&o.reset, "allow-reset", o.reset, "let POST /api/v2/reset delete everything")
	f.Var(&o.maxBody, "max-body", "`size` of the largest request body")
	f.Var((*list)(&o.cors), "cors", "`origin` that browsers may call from, or *; may be repeated")
	f.StringVar(&o.logLevel, "log-level", o.logLevel, "least `level` to log: debug, info, warn, error")
	f.StringVar(&o.logFormat, "log-format", o.logFormat, "`format` of the log: text, json")
	f.Var(&o.memory, "memory", "soft limit of the whole process, a `size`. 0: GOMEMLIMIT, or nine tenths of the container's limit")
	f.IntVar(&o.memtableRows, "memtable-rows", o.memtableRows, "`rows` of a collection kept in memory before they become a segment. 0: 16384")
	f.DurationVar(&o.drain, "drain", o.drain, "`time` that running requests get when the server stops")
	f.Var(&o.eraseWithin, "erase-within", "`time` within which the bytes of what was deleted leave the files, or off")
	f.Var(&o.restAfter, "rest-after", "`time` without writes after which the segments of a collection are merged into one, or off")
	return f
}

// parseOptions reads the arguments of run. Flags and the configuration file
// may come in any order; flags win over the file.
func parseOptions(args []string) (*options, error) {
	scratch := defaultOptions()
	files, err := scratch.parse(args)
	if err != nil {
		return nil, err
	}
	if len(files) > 1 {
		return nil, fmt.Errorf("%q: only one configuration file can be given, and %q is one already", files[1], files[0])
	}
	o := defaultOptions()
	if len(files) == 1 {
		o.configPath = files[0]
		if err := o.readFile(files[0]); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(args, isFlag("cors")) {
			o.cors = nil // a flag replaces the file's list, it does not add to it
		}
	}
	if _, err := o.parse(args); err != nil {
		return nil, err
	}
	return o, o.check()
}

// isFlag tells which arguments are the flag of a name.
func isFlag(name string) func(arg string) bool {
	return func(arg string) bool {
		rest, dash := strings.CutPrefix(arg, "-")
		word, _, _ := strings.Cut(strings.TrimPrefix(rest, "-"), "=")
		return dash && word == name
	}
}

// parse sets what flags say and returns the other arguments.
func (o *options) parse(args []string) (rest []string, err error) {
	return parseFlags(o.flags(), args)
}

func (o *options) check() error {
	switch {
	case o.path == "":
		return errors.New("--path is empty: name the directory of the store")
	case o.port < 0 || o.port > 65535:
		return fmt.Errorf("--port %d: a port is a number up to 65535", o.port)
	case o.maxBody < 1<<10:
		return fmt.Errorf("--max-body %s: at least 1KiB", o.maxBody)
	case !slices.Contains([]string{"debug", "info", "warn", "error"}, o.logLevel):
		return fmt.Errorf("--log-level %q: one of debug, info, warn, error", o.logLevel)
	case !slices.Contains([]string{"text", "json"}, o.logFormat):
		return fmt.Errorf("--log-format %q: one of text, json", o.logFormat)
	case o.memtableRows < 0:
		return fmt.Errorf("--memtable-rows %d: not negative", o.memtableRows)
	case o.memory != 0 && o.memory < 64<<20:
		return fmt.Errorf("--memory %s: at least 64MiB", o.memory)
	case o.drain < 0:
		return fmt.Errorf("--drain %s: not negative", o.drain)
	}
	return o.tls.check()
}

// runHelp is the text of chromad run --help.
func runHelp() string {
	var b strings.Builder
	b.WriteString(`Start a server.

Usage:

  chromad run [CONFIG.yaml] [flags]

Flags (--flag value and --flag=value both work; they win over the file):

`)
	writeFlags(&b, defaultOptions().flags())
	b.WriteString(`
The file has the settings of Chroma's single-node server: port, listen_address, persist_path,
allow_reset, max_payload_size_bytes, cors_allow_origins; and ours: keys, expect_generation, insecure,
log_level, log_format, memory, memtable_rows, drain, erase_within, rest_after, tls_cert, tls_key, tls_client_ca, tls_min, oidc,
require_mfa, limits, auth_failures, admission, quotas, audit, export, alerts.

Examples:

  chromad run
  chromad run --path /var/lib/chroma --port 9000
  chromad run --keys /etc/chromad/key            an encrypted store; chromad keys create makes the key
  chromad run config.yaml --log-format json
  chromad run --tls-cert server.pem --tls-key server.key       chromad certs dev makes some to try
  chromad run --host 0.0.0.0 --insecure          inside a container whose port is not public

The first SIGTERM or SIGINT stops the server in order, the second one at once.
More: docs/operations.md
`)
	return b.String()
}

// size is a number of bytes, as 41943040 or 40MiB.
type size int64

var units = []struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"B", 1}}

func (s size) String() string {
	for _, u := range units[:3] {
		if s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// Set is flag.Value's.
func (s *size) Set(text string) error {
	number, unit := text, int64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(text, u.name); ok {
			number, unit = strings.TrimSpace(n), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return fmt.Errorf("%q is not a size; write 41943040 or 40MiB", text)
	}
	*s = size(n * unit)
	return nil
}

// list is a flag that may be given several times.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

// Set is flag.Value's.
func (l *list) Set(text string) error {
	*l = append(*l, text)
	return nil
}

// suggestion is `, did you mean "…"?` when one of the names is near to what was typed.
func suggestion(typed string, names []string) string {
	best, least := "", 3
	for _, n := range names {
		if d := distance(strings.ToLower(typed), n); d < least {
			best, least = n, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// distance is the number of letters to insert, delete or replace (Levenshtein).
func distance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1) // b is a name of ours
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			up := row[j+1]
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			row[j+1] = min(up+1, row[j]+1, cost)
			diagonal = up
		}
	}
	return row[len(b)]
}
