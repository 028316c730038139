package main

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"strconv"

	"go.yaml.in/yaml/v3"

	"github.com/chromad/chromad/server"
	"github.com/chromad/chromad/server/access"
	"github.com/chromad/chromad/server/limit"
)

// amount is a number of bytes, with or without a unit; -1 is allowed where it
// means that there is no bound.
type amount int64

// UnmarshalYAML is yaml.Unmarshaler's.
func (a *amount) UnmarshalYAML(n *yaml.Node) error {
	if n.Value == "-1" {
		*a = -1
		return nil
	}
	return (*size)(a).Set(n.Value)
}

// boundsSetting is limit.Bounds as it is written.
type boundsSetting struct {
	Requests   float64 `yaml:"requests"`
	Rows       float64 `yaml:"rows"`
	Bytes      amount  `yaml:"bytes"`
	Concurrent int     `yaml:"concurrent"`
}

func (b boundsSetting) bounds() limit.Bounds {
	return limit.Bounds{Requests: b.Requests, Rows: b.Rows, Bytes: float64(b.Bytes), Concurrent: b.Concurrent}
}

// quotaSetting is server.Quota as it is written.
type quotaSetting struct {
	Databases           int64  `yaml:"databases"`
	Collections         int64  `yaml:"collections"`
	DatabaseCollections int64  `yaml:"database_collections"`
	Records             int64  `yaml:"records"`
	CollectionRecords   int64  `yaml:"collection_records"`
	Bytes               amount `yaml:"bytes"`
	CollectionBytes     amount `yaml:"collection_bytes"`
	Dimensions          int64  `yaml:"dimensions"`
}

func (q quotaSetting) quota() server.Quota {
	return server.Quota{Databases: q.Databases, Collections: q.Collections, DatabaseCollections: q.DatabaseCollections,
		Records: q.Records, CollectionRecords: q.CollectionRecords, Bytes: int64(q.Bytes), CollectionBytes: int64(q.CollectionBytes), Dimensions: q.Dimensions}
}

// strictly decodes a node in which every field must be known.
func strictly(n *yaml.Node, into any) error {
	text, err := yaml.Marshal(n)
	if err != nil {
		return err
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true) // which a node's own Decode does not have
	return d.Decode(into)
}

// readLimits reads the setting limits.
func readLimits(o *options, n *yaml.Node) error {
	var s struct {
		boundsSetting `yaml:",inline"`
		Actions       map[string]boundsSetting `yaml:"actions"`
	}
	if err := strictly(n, &s); err != nil {
		return err
	}
	o.limits = &limit.Set{Bounds: s.bounds()}
	for name, b := range s.Actions {
		if o.limits.Actions == nil {
			o.limits.Actions = map[string]limit.Bounds{}
		}
		o.limits.Actions[name] = b.bounds()
	}
	return o.limits.Check(access.Known)
}

// readAdmission reads the setting admission.
func readAdmission(o *options, n *yaml.Node) error {
	var s struct {
		Reads  int    `yaml:"reads"`
		Writes int    `yaml:"writes"`
		Memory amount `yaml:"memory"`
	}
	if err := strictly(n, &s); err != nil {
		return err
	}
	if s.Reads < 0 || s.Writes < 0 || s.Memory < 0 || s.Reads > math.MaxInt16 || s.Writes > math.MaxInt16 {
		return fmt.Errorf("reads and writes are 0 (as many as fit) to %d, memory is a size", math.MaxInt16)
	}
	o.admission = server.Admission{Reads: s.Reads, Writes: s.Writes, Memory: int64(s.Memory)}
	return nil
}

// readQuotas reads the setting quotas.
func readQuotas(o *options, n *yaml.Node) error {
	var s struct {
		quotaSetting `yaml:",inline"`
		Tenants      map[string]quotaSetting `yaml:"tenants"`
	}
	if err := strictly(n, &s); err != nil {
		return err
	}
	o.quotas = server.Quotas{Quota: s.quota()}
	for name, q := range s.Tenants {
		if o.quotas.Tenants == nil {
			o.quotas.Tenants = map[string]server.Quota{}
		}
		o.quotas.Tenants[name] = q.quota()
	}
	return o.quotas.Check()
}

// readFailures reads the setting auth_failures.
func readFailures(o *options, n *yaml.Node) error {
	f, err := strconv.ParseFloat(n.Value, 64)
	if err != nil || !(f >= 0 && f <= 1e6) {
		return fmt.Errorf("%q: how often a minute authentication may fail from one address, 0 to 1000000; 0 is without bound", n.Value)
	}
	o.failures = f
	return nil
}

// admitted is the setting admission with the part of memory that is for bodies
// and answers.
func (o *options) admitted(memory memoryPlan) server.Admission {
	a := o.admission
	a.Memory = cmp.Or(a.Memory, memory.answers)
	return a
}
