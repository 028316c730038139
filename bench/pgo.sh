#!/bin/sh
# Makes cmd/chromad/default.pgo anew: the profile of a server under writes, queries of every kind and reads, which go build
# uses to decide what to inline. With make data it runs over the whole set, else over the sample.
#
#   bench/pgo.sh
set -eu

cd "$(dirname "$0")/.."
data=$PWD/data/wordnet
[ -f "$data/records.jsonl" ] || data=$PWD/bench/data/sample
mkdir -p build/bench
# Built without the profile that is there: what it made inline would not be seen.
go test -c -pgo=off -o build/bench/pgo.test ./bench
(cd bench && ../build/bench/pgo.test -test.run '^$' -test.bench HTTP -test.benchtime 4x -http.data "$data" -test.cpuprofile ../build/bench/cpu.pprof)
# What the load generator does is in no server.
go tool pprof -proto -ignore '/bench\.|testing\.' -output cmd/chromad/default.pgo build/bench/pgo.test build/bench/cpu.pprof
ls -l cmd/chromad/default.pgo
