//go:build unix

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
)

// tolerance is the share of a remembered ratio that a run must reach.
const tolerance = 0.8

// memory is bench/ratios.json: ratios by form of the kernels and by name.
type memory map[string]map[string]float64

func recall(name string) (memory, error) {
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return memory{}, nil
	}
	if err != nil {
		return nil, err
	}
	m := memory{}
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return m, nil
}

func (m memory) remember(name, form string, measured map[string]float64) error {
	if m[form] == nil {
		m[form] = map[string]float64{}
	}
	for what, ratio := range measured {
		m[form][what] = float64(int(ratio*100+0.5)) / 100
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(text, '\n'), 0o644)
}

// judge writes a line for every ratio and counts those that fell too far.
func judge(want, measured map[string]float64) (lines []string, fallen int) {
	for _, what := range slices.Sorted(maps.Keys(measured)) {
		before, known := want[what]
		verdict := "ok"
		switch {
		case !known:
			verdict = "not compared: no ratio is written for this form of the kernels (-write does)"
		case measured[what] < tolerance*before:
			verdict = fmt.Sprintf("SLOWER: less than %.0f %% of what is written", tolerance*100)
			fallen++
		}
		lines = append(lines, fmt.Sprintf("%-24s %6.2f, written %6.2f: %s", what, measured[what], before, verdict))
	}
	for _, what := range slices.Sorted(maps.Keys(want)) {
		if _, ok := measured[what]; !ok {
			lines = append(lines, fmt.Sprintf("%-24s not measured, written %6.2f", what, want[what]))
			fallen++
		}
	}
	return lines, fallen
}
