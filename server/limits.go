package server

import "time"

// Limits bound what one request may ask for. Zero fields take the defaults.
type Limits struct {
	BodyBytes  int64 // 40 MiB
	Records    int   // records of one write, 100,000
	IDs        int   // ids of one read or delete, 1,000,000
	Queries    int   // vectors of one query, 10,000
	Dimension  int   // floats of one vector, 65,535
	ListValues int   // elements of all metadata lists of one request, 1,000,000
}

// Timeouts end connections that do not keep up. Zero fields take the defaults.
type Timeouts struct {
	Header time.Duration // to send the header, 10 s
	Body   time.Duration // to send the body, 60 s
	Write  time.Duration // to take the answer, 60 s and one second more for every 256 KiB
	Idle   time.Duration // between requests, 2 min
	Busy   time.Duration // for a write to find room and become durable, 30 s
	Drain  time.Duration // for running requests when the server stops, 30 s
}

const (
	maxHeaderBytes = 64 << 10
	maxNameBytes   = 4096 // of tenants and resources, whose names are free text
	slowestReader  = 256 << 10
)

func (l Limits) withDefaults() Limits {
	setDefault(&l.BodyBytes, 40<<20)
	setDefault(&l.Records, 100_000)
	setDefault(&l.IDs, 1_000_000)
	setDefault(&l.Queries, 10_000)
	setDefault(&l.Dimension, 65_535)
	setDefault(&l.ListValues, 1_000_000)
	return l
}

func (t Timeouts) withDefaults() Timeouts {
	setDefault(&t.Header, 10*time.Second)
	setDefault(&t.Body, time.Minute)
	setDefault(&t.Write, time.Minute)
	setDefault(&t.Idle, 2*time.Minute)
	setDefault(&t.Busy, 30*time.Second)
	setDefault(&t.Drain, 30*time.Second)
	return t
}

func setDefault[T int | int64 | time.Duration](p *T, v T) {
	if *p == 0 {
		*p = v
	}
}
