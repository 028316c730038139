// Package export sends copies of the audit log's events, and alerts, to where
// the operator's configuration says: a file, a syslog server, a webhook, a
// collector of OpenTelemetry logs.
//
//	message.go   what is sent: an event or an alert, in every form's terms
//	exporter.go  a bounded queue and one goroutine for each target
//	metrics.go   what was sent, tried again and dropped
//	file.go      lines of JSON, rotated
//	syslog.go    RFC 5424, over UDP, TCP, TLS and unix sockets
//	webhook.go   signed POSTs of JSON
//	otlp.go      OTLP/HTTP, in the JSON encoding of the protocol
//
// Copies are sent after the event is in the audit log, which stays the record:
// a target that is away is tried again, and when its queue is full the newest
// events are dropped for it, counted and told in the log. Nothing of it delays
// a request. A message may come twice, when an answer was lost.
package export
