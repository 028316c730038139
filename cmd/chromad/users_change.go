package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/chromad/chromad/server/access"
	"github.com/chromad/chromad/server/limit"
)

const (
	attributeHelp = "`name=value,value` that rules about records may ask for; may be repeated"
	limitHelp     = "`bound=number`: requests, rows, bytes, concurrent; or of an action, as db:*:rows=9; repeatable"
)

// parseAttributes reads name=value,value.
func parseAttributes(texts []string) (access.Attributes, error) {
	var out access.Attributes
	for _, text := range texts {
		name, values, ok := strings.Cut(text, "=")
		if !ok || name == "" || values == "" {
			return nil, fmt.Errorf("--attribute %q: write name=value, or name=value,value", text)
		}
		if out == nil {
			out = access.Attributes{}
		}
		out[name] = append(out[name], strings.Split(values, ",")...)
	}
	return out, nil
}

// parseLimits reads bound=number and action:bound=number.
func parseLimits(texts []string) (*limit.Set, error) {
	var out *limit.Set
	for _, text := range texts {
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			return nil, fmt.Errorf("--limit %q: write bound=number, as requests=100", text)
		}
		if out == nil {
			out = &limit.Set{}
		}
		bounds, at := &out.Bounds, strings.LastIndexByte(name, ':')
		if at < 0 {
			if err := setBound(bounds, name, value); err != nil {
				return nil, fmt.Errorf("--limit %q: %w", text, err)
			}
			continue
		}
		if out.Actions == nil {
			out.Actions = map[string]limit.Bounds{}
		}
		of := out.Actions[name[:at]]
		if err := setBound(&of, name[at+1:], value); err != nil {
			return nil, fmt.Errorf("--limit %q: %w", text, err)
		}
		out.Actions[name[:at]] = of
	}
	return out, out.Check(access.Known)
}

func setBound(b *limit.Bounds, name, value string) error {
	to := map[string]*float64{"requests": &b.Requests, "rows": &b.Rows, "bytes": &b.Bytes}[name]
	var err error
	switch {
	case name == "concurrent":
		b.Concurrent, err = strconv.Atoi(value)
	case to == nil:
		return fmt.Errorf("%q is no bound: requests, rows, bytes or concurrent", name)
	case name == "bytes" && value != "-1":
		var s size
		err = s.Set(value)
		*to = float64(s)
	default:
		*to, err = strconv.ParseFloat(value, 64)
	}
	if err != nil {
		return fmt.Errorf("%q is no number", value)
	}
	return nil
}

// limitLines are the bounds that say something, as --limit takes them.
func limitLines(s *limit.Set) (out []string) {
	if s == nil {
		return nil
	}
	add := func(prefix string, b limit.Bounds) {
		for _, f := range []struct {
			name  string
			value float64
		}{{"requests", b.Requests}, {"rows", b.Rows}, {"bytes", b.Bytes}, {"concurrent", float64(b.Concurrent)}} {
			if f.value != 0 {
				out = append(out, prefix+f.name+"="+strconv.FormatFloat(f.value, 'f', -1, 64))
			}
		}
	}
	add("", s.Bounds)
	for _, action := range slices.Sorted(maps.Keys(s.Actions)) {
		add(action+":", s.Actions[action])
	}
	return out
}

func usersAttributes(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newUsersPage("attributes", "PATH NAME --attribute NAME=VALUES", "Set what rules about records may ask about a user, in the place of what there is. Without --attribute, nothing.", `
Example, for a role whose rule is {team: {$in: "${attributes.team}"}}:

  chromad users attributes ./chroma ada --attribute team=red,blue
`)
	var texts list
	p.Var(&texts, "attribute", attributeHelp)
	rest, err := p.arguments(args, "PATH", "NAME")
	var attributes access.Attributes
	if err == nil {
		attributes, err = parseAttributes(texts)
	}
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	return p.run(ctx, rest[0], stdout, stderr, "set the attributes of user "+rest[1], access.Command{Do: "set-attributes", User: rest[1], Attributes: attributes})
}

func usersLimits(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newUsersPage("limits", "PATH NAME --limit BOUND=NUMBER", "Set how much a user may ask for, in the place of what there is. Without --limit, what roles and the server say.", `
Example:

  chromad users limits ./chroma app --limit requests=100 --limit bytes=50MiB --limit collection:query:requests=20

Bounds are a second, concurrent apart. -1 lifts the server's own. Where roles say something, the stricter of both holds.
`)
	var texts list
	p.Var(&texts, "limit", limitHelp)
	rest, err := p.arguments(args, "PATH", "NAME")
	var limits *limit.Set
	if err == nil {
		limits, err = parseLimits(texts)
	}
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	return p.run(ctx, rest[0], stdout, stderr, "set the limits of user "+rest[1], access.Command{Do: "set-limits", User: rest[1], Limits: limits})
}
