# Verbs of the project. Each is short: what is long lives in a script or a Go
# test, so that it can be run without make.

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOSEC       := github.com/securego/gosec/v2/cmd/gosec@v2.26.1
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.8.0
QEMU        := 1:7.2+dfsg-*
FUZZTIME    ?= 30s
SOAK        ?= 1
N           ?= 10000
SEED        ?= 1

.DEFAULT_GOAL := help
.PHONY: help build install clean test race lint generate check-generate fuzz soak crash mutants neon compat data bench pgo bench-peers docs cover ci vuln

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## compile everything, and the command into bin/
	go build ./...
	go build -o bin/chromad ./cmd/chromad

install: ## install chromad with go install
	go install ./cmd/chromad

clean: ## remove what build, cover and the scripts made (never a store)
	rm -rf bin build

test: ## the suite that must always pass, two to three minutes
	go test ./...

race: ## the same under the race detector, long suites shortened
	go test -race -short ./...

lint: ## gofmt, vet, the rule tests, staticcheck, gosec
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	go vet ./...
	go test -run '^Test(Floors|Imports|Rules|Docs)' ./engine
	go run $(STATICCHECK) ./...
	.ci/gosec

vuln: ## known vulnerabilities in what we call (needs vuln.go.dev)
	go run $(GOVULNCHECK) ./...

generate: ## assembly, format pages: everything made by a program
	go generate ./...

check-generate: generate ## fail when a generated file is not what its program makes
	git diff --exit-code --stat

fuzz: ## every fuzz target in turn, FUZZTIME each
	.ci/fuzz $(FUZZTIME)

soak: ## the large gate, before a release; SOAK=0.001 is a thousandth of it
	SEED=$(SEED) .ci/soak $(SOAK)

crash: ## power cuts on the whole engine: N seeds from SEED on
	go test -timeout 30m -run '^TestPowerCut' ./engine -powercut.seeds=$(N) -powercut.first=$(SEED)

mutants: ## planted bugs, each of which the suites must find
	go run ./internal/mutant/run

neon: ## the arm64 kernels, under an emulator where this is another machine
	.ci/neon

compat: ## Chroma's Python and JavaScript clients against chromad
	sh server/clients/run.sh
	bash server/clients/secured.sh

data: ## WordNet with embeddings into data/ (resumable)
	bench/data/build.sh

bench: ## the full WordNet set through HTTP and engine
	sh bench/run.sh

pgo: ## the profile that chromad is built with, made anew
	bench/pgo.sh

bench-peers: ## other vector indexes on the same data, hours; PEERS='--quick' tries it
	python3 bench/peers/run.py $(PEERS)

docs: ## links, file names and snippets of the pages
	go test -run '^Test(Docs|ImportsListed)' ./engine
	bash docs/readme_check.sh
	bash docs/security_check.sh

cover: ## coverage of each package, and a page in build/cover.html
	@mkdir -p build
	go test -short -coverprofile=build/cover.out ./...
	go tool cover -html=build/cover.out -o build/cover.html

ci: ## everything that must hold before a change lands
	.ci/run
