// Command attack attacks a running chromad that has TLS and users: with
// requests as bytes that no client sends, with clients that are slow, with
// bodies that are bombs, with HTTP/2 and TLS out of order, and with credentials
// that are guessed or belong to another tenant.
//
//	go run ./fuzz/attack -binary bin/chromad     all of it, under a minute
//	go run ./fuzz/attack -long                   more of each, and what takes minutes
//	go run ./fuzz/attack -timing 100000          and whether the time that a wrong key takes tells how much of it is right
//
// Each attack says what it expects. All the while a client that does nothing
// wrong must get its answers, and the process's memory must stay below a bound;
// in the end the server must stop as it should, its log must hold no stack and
// no secret, and chromad check must find nothing. Exit status 0: no findings.
package main
