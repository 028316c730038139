package access

import (
	"slices"
	"strings"
)

// Action is something that can be done, by the name that Chroma gives it.
// Names of one group begin alike, see level.
type Action string

// The actions. Those of Chroma have its names (AuthzAction in
// rust/frontend-core/src/auth.rs of Chroma 1.5); the last group is ours.
const (
	Reset            Action = "system:reset"
	CreateTenant     Action = "tenant:create_tenant"
	GetTenant        Action = "tenant:get_tenant"
	UpdateTenant     Action = "tenant:update_tenant"
	CreateDatabase   Action = "db:create_database"
	GetDatabase      Action = "db:get_database"
	DeleteDatabase   Action = "db:delete_database"
	ListDatabases    Action = "db:list_databases"
	ListCollections  Action = "db:list_collections"
	CountCollections Action = "db:count_collections"
	CreateCollection Action = "db:create_collection"
	GetCollection    Action = "collection:get_collection"
	DeleteCollection Action = "collection:delete_collection"
	UpdateCollection Action = "collection:update_collection"
	ForkCollection   Action = "collection:fork_collection"
	Add              Action = "collection:add"
	Upsert           Action = "collection:upsert"
	Update           Action = "collection:update"
	Delete           Action = "collection:delete"
	Get              Action = "collection:get"
	Query            Action = "collection:query"
	Count            Action = "collection:count"
	Search           Action = "collection:search"

	Public      Action = "system:public" // needs no credential: whether the server lives, and what it speaks
	Identify    Action = "system:identity"
	RotateOwn   Action = "system:rotate_own_key" // everybody's who is somebody, as Identify
	Metrics     Action = "system:metrics"
	Functions   Action = "collection:functions"
	ReadAccess  Action = "system:read_access"
	WriteAccess Action = "system:write_access"

	ReadRetention  Action = "retention:read"
	WriteRetention Action = "retention:write"
	PlaceHold      Action = "retention:hold"
	ReleaseHold    Action = "retention:release"

	ReadPrivacy  Action = "system:read_privacy"
	WritePrivacy Action = "system:write_privacy"

	ReadAudit Action = "system:read_audit"
)

// Actions are all of them, in the order of the constants.
func Actions() []Action {
	return []Action{
		Reset, CreateTenant, GetTenant, UpdateTenant, CreateDatabase, GetDatabase, DeleteDatabase, ListDatabases,
		ListCollections, CountCollections, CreateCollection, GetCollection, DeleteCollection, UpdateCollection, ForkCollection,
		Add, Upsert, Update, Delete, Get, Query, Count, Search,
		Public, Identify, RotateOwn, Metrics, Functions, ReadAccess, WriteAccess,
		ReadPrivacy, WritePrivacy, ReadRetention, WriteRetention, PlaceHold, ReleaseHold, ReadAudit,
	}
}

// actionSet is a set of actions, a bit for each in the order of Actions.
type actionSet uint64

// facts are what every request needs to know of its action.
type facts struct {
	bit   actionSet
	level int
}

// known are the facts of each action. One that is not here is granted to nobody.
var known = func() map[Action]facts {
	out := map[Action]facts{}
	for i, a := range Actions() {
		out[a] = facts{1 << i, a.findLevel()}
	}
	return out
}()

// setOf are the actions that pattern stands for.
func setOf(pattern string) (s actionSet) {
	for a, f := range known {
		if a.matches(pattern) {
			s |= f.bit
		}
	}
	return s
}

// findLevel is how much of a target the action looks at: 0 nothing, 1 the tenant,
// 2 its database, 3 the collection.
func (a Action) findLevel() int {
	switch before, _, _ := strings.Cut(string(a), ":"); before {
	case "tenant":
		return 1
	case "db":
		switch a {
		case ListDatabases:
			return 1 // of a tenant
		case CreateCollection:
			return 3 // the one that is to be
		}
		return 2
	case "collection", "retention":
		return 3
	}
	return 0
}

// onRecords reports whether the action is about single records.
func (a Action) onRecords() bool {
	switch a {
	case Add, Upsert, Update, Delete, Get, Query, Count, Search:
		return true
	}
	return false
}

// matches reports whether an action is one that pattern stands for: its name,
// "db:*" for all that begin so, or "*".
func (a Action) matches(pattern string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(string(a), prefix)
	}
	return string(a) == pattern
}

// Known reports whether a name, or one that ends in a star, stands for any action.
func Known(pattern string) bool { return knownPattern(pattern) }

// knownPattern reports whether a pattern of actions stands for any.
func knownPattern(pattern string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok && prefix != "" && !strings.HasSuffix(prefix, ":") {
		return false // a star stands for a whole group
	}
	return slices.ContainsFunc(Actions(), func(a Action) bool { return a.matches(pattern) })
}
