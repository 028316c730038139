package server

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/chromad/chromad/server/access"
)

// route is one row of the table of routes. Everything that is true of a route
// as a whole is a column here.
type route struct {
	method  string
	pattern string        // {name} is one segment, {name...} is at least one
	action  access.Action // what it does: permissions are about it, and logs say it
	body    bool          // whether a JSON body is read before the handler is called
	success int           // status of the answer when the handler returns no error
	handle  func(*Server, *call) error
}

const (
	underTenant     = "/api/v2/tenants/{tenant}"
	underDatabase   = underTenant + "/databases/{database}"
	underCollection = underDatabase + "/collections/{collection}"
	underAccess     = "/api/v2/chromad/access"
)

// routes is the table of all routes. HEAD goes where GET goes.
func routes() []route {
	table := []route{
		{"GET", "/api/v2", access.Public, false, 200, (*Server).heartbeat},
		{"GET", "/api/v2/heartbeat", access.Public, false, 200, (*Server).heartbeat},
		{"GET", "/api/v2/version", access.Public, false, 200, (*Server).version},
		{"GET", "/api/v2/healthcheck", access.Public, false, 200, (*Server).healthcheck},
		{"GET", "/api/v2/pre-flight-checks", access.Public, false, 200, (*Server).preflight},
		{"GET", "/api/v2/auth/identity", access.Identify, false, 200, (*Server).identity},
		{"GET", "/metrics", access.Metrics, false, 200, (*Server).scrape},
		{"POST", "/api/v2/reset", access.Reset, false, 200, (*Server).reset},

		{"GET", underAccess, access.ReadAccess, false, 200, (*Server).exportAccess},
		{"PUT", underAccess, access.WriteAccess, true, 200, (*Server).importAccess},
		{"POST", underAccess, access.WriteAccess, true, 200, (*Server).changeAccess},
		{"GET", underAccess + "/users", access.ReadAccess, false, 200, (*Server).listUsers},
		{"GET", underAccess + "/users/{user}", access.ReadAccess, false, 200, (*Server).getUser},
		{"GET", underAccess + "/roles", access.ReadAccess, false, 200, (*Server).listRoles},
		{"GET", underAccess + "/roles/{role}", access.ReadAccess, false, 200, (*Server).getRole},
		{"GET", underAccess + "/bindings", access.ReadAccess, false, 200, (*Server).listBindings},
		{"POST", underAccess + "/own_key", access.RotateOwn, true, 200, (*Server).rotateOwn},

		{"POST", "/api/v2/tenants", access.CreateTenant, true, 200, (*Server).createTenant},
		{"GET", underTenant, access.GetTenant, false, 200, (*Server).getTenant},
		{"PATCH", underTenant, access.UpdateTenant, true, 200, (*Server).updateTenant},

		{"POST", underTenant + "/databases", access.CreateDatabase, true, 200, (*Server).createDatabase},
		{"GET", underTenant + "/databases", access.ListDatabases, false, 200, (*Server).listDatabases},
		{"GET", underDatabase, access.GetDatabase, false, 200, (*Server).getDatabase},
		{"DELETE", underDatabase, access.DeleteDatabase, false, 200, (*Server).deleteDatabase},

		{"POST", underDatabase + "/collections", access.CreateCollection, true, 200, (*Server).createCollection},
		{"GET", underDatabase + "/collections", access.ListCollections, false, 200, (*Server).listCollections},
		{"GET", underDatabase + "/collections_count", access.CountCollections, false, 200, (*Server).countCollections},
		{"GET", underDatabase + "/collections/by-id/{collection}", access.GetCollection, false, 200, (*Server).getCollectionByID},
		{"GET", underCollection, access.GetCollection, false, 200, (*Server).getCollection},
		{"DELETE", underCollection, access.DeleteCollection, false, 200, (*Server).deleteCollection},
		{"PUT", underCollection, access.UpdateCollection, true, 200, (*Server).updateCollection},
		{"GET", "/api/v2/collections/{crn}", access.GetCollection, false, 200, (*Server).getCollectionByCRN},

		{"POST", underCollection + "/add", access.Add, true, 201, (*Server).add},
		{"POST", underCollection + "/upsert", access.Upsert, true, 200, (*Server).upsert},
		{"POST", underCollection + "/update", access.Update, true, 200, (*Server).update},
		{"POST", underCollection + "/delete", access.Delete, true, 200, (*Server).deleteRecords},
		{"POST", underCollection + "/get", access.Get, true, 200, (*Server).get},
		{"GET", underCollection + "/count", access.Count, false, 200, (*Server).count},
		{"POST", underCollection + "/query", access.Query, true, 200, (*Server).query},
		{"POST", underCollection + "/search", access.Search, true, 200, (*Server).search},

		{"POST", underCollection + "/fork", access.ForkCollection, true, 200, (*Server).fork},
		{"GET", underCollection + "/fork_count", access.GetCollection, false, 200, (*Server).forkCount},
		{"GET", underCollection + "/indexing_status", access.GetCollection, false, 200, (*Server).indexingStatus},
		{"POST", underCollection + "/functions/attach", access.Functions, true, 200, (*Server).attachFunction},
		{"GET", underCollection + "/functions/{function}", access.Functions, false, 200, (*Server).getFunction},
		{"POST", underCollection + "/attached_functions/{function}/detach", access.Functions, true, 200, (*Server).detachFunction},
	}
	table = append(table,
		route{"GET", "/api/v2/chromad/privacy", access.ReadPrivacy, false, 200, (*Server).privacyRules},
		route{"PUT", "/api/v2/chromad/privacy", access.WritePrivacy, true, 200, (*Server).setPrivacyRules})
	table = append(table, retentionRoutes()...)
	table = append(table, auditRoutes()...)
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
		table = append(table, route{method, "/api/v1/{rest...}", access.Public, false, 410, (*Server).v1})
	}
	return table
}

// A pattern is the routes that share one path.
type pattern struct {
	text     string
	segments []string
	any      bool // its last segment stands for any path
	methods  map[string]*route
	allow    string
}

// router finds the route of a request. Paths are taken as they were sent: no
// cleaning, no redirects, one decoding, after the path has been cut into segments.
type router struct{ patterns []*pattern }

func newRouter(table []route) *router {
	rt := &router{}
	byText := map[string]*pattern{}
	for i := range table {
		r := &table[i]
		p := byText[r.pattern]
		if p == nil {
			p = &pattern{text: r.pattern, segments: strings.Split(r.pattern, "/")[1:], any: strings.HasSuffix(r.pattern, "...}"), methods: map[string]*route{}}
			byText[r.pattern] = p
			rt.patterns = append(rt.patterns, p)
		}
		p.methods[r.method] = r
		if r.method == "GET" {
			p.methods["HEAD"] = r
		}
	}
	for _, p := range rt.patterns {
		var allow []string
		for m := range p.methods {
			allow = append(allow, m)
		}
		slices.Sort(allow)
		p.allow = strings.Join(allow, ",")
	}
	slices.SortStableFunc(rt.patterns, func(a, b *pattern) int { return strings.Compare(a.rank(), b.rank()) })
	return rt
}

// rank orders patterns so that a literal segment wins over a variable one and
// the leftmost difference decides.
func (p *pattern) rank() string {
	rank := make([]byte, 0, 16)
	for _, segment := range p.segments {
		if variable(segment) {
			rank = append(rank, '1')
		} else {
			rank = append(rank, '0')
		}
	}
	return string(rank)
}

func variable(segment string) bool { return strings.HasPrefix(segment, "{") }

// find returns the pattern of an escaped path and the segments that its
// variables stand for, still escaped.
func (rt *router) find(path string) (*pattern, []string) {
	if !strings.HasPrefix(path, "/") {
		return nil, nil
	}
	parts := strings.Split(path[1:], "/")
	if len(parts) > 64 {
		return nil, nil
	}
	for _, p := range rt.patterns {
		if p.match(parts) {
			return p, p.values(parts)
		}
	}
	return nil, nil
}

func (p *pattern) match(parts []string) bool {
	for i, segment := range p.segments {
		switch {
		case p.any && i == len(p.segments)-1:
			return len(parts) > i && parts[i] != ""
		case i >= len(parts):
			return false
		case variable(segment):
			if parts[i] == "" {
				return false
			}
		case segment != parts[i]:
			return false
		}
	}
	return len(parts) == len(p.segments)
}

// values are what the variables stand for in a path that matches; of one that ends in
// any path, nothing.
func (p *pattern) values(parts []string) []string {
	if p.any {
		return nil
	}
	var values []string
	for i, segment := range p.segments {
		if variable(segment) {
			values = append(values, parts[i])
		}
	}
	return values
}

// decode turns the escaped segments into text.
func (p *pattern) decode(values []string) (map[string]string, error) {
	out := make(map[string]string, len(values))
	i := 0
	for _, segment := range p.segments {
		if !variable(segment) || i == len(values) {
			continue
		}
		name := strings.Trim(segment, "{}")
		v, err := url.PathUnescape(values[i])
		if err != nil || !utf8.ValidString(v) {
			return nil, invalid("Invalid URL: Invalid UTF-8 in `%s`", pathNames[name])
		}
		out[name] = v
		i++
	}
	return out, nil
}

// pathNames are Chroma's names of the path variables, for messages.
var pathNames = map[string]string{"tenant": "tenant_name", "database": "database_name",
	"collection": "collection_id", "crn": "crn", "function": "name", "user": "user", "role": "role"}

// noRoute answers what no row of the table is for: a status and no body.
func noRoute(w http.ResponseWriter, p *pattern) int {
	w.Header().Set("Content-Length", "0")
	if p == nil {
		w.WriteHeader(http.StatusNotFound)
		return http.StatusNotFound
	}
	w.Header().Set("Allow", p.allow)
	w.WriteHeader(http.StatusMethodNotAllowed)
	return http.StatusMethodNotAllowed
}
