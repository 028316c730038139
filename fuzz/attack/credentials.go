package main

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// credentials are attacks on who may do what.
func credentials() []attack {
	out := []attack{
		{"credentials: guessed keys", "401, or 429 after too many of them", guessKeys},
		{"credentials: guessed passwords", "401, or 429 while others are hashed", guessPasswords},
		{"credentials: another tenant's ids", "as an id that nobody has", foreign},
	}
	if *timing > 0 {
		out = append(out, attack{"credentials: timing of keys", "|t| below 4.5: the time does not tell how much of a key is right", timeKeys})
	}
	return out
}

const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

func guess(r *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = digits[r.IntN(len(digits))]
	}
	return string(b)
}

func guessKeys(t *target) error {
	r := rand.New(rand.NewPCG(*seed, 1))
	id := t.admin[:len("chromad_")+9] // what of a key may be seen, and the line after it
	n := 3000
	if *long {
		n = 100_000
	}
	for i := range n {
		key := id + guess(r, len(t.admin)-len(id))
		switch i % 3 {
		case 1:
			key = "chromad_" + guess(r, len(t.admin)-len("chromad_"))
		case 2:
			key = t.admin[:r.IntN(len(t.admin))]
			if key == "" {
				continue
			}
		}
		if status, answer, err := t.do(key, "GET", identity, ""); err != nil || status != 401 && status != 429 {
			return fmt.Errorf("%d %s, %v", status, answer, err)
		}
	}
	return nil
}

func guessPasswords(t *target) error {
	r := rand.New(rand.NewPCG(*seed, 2))
	done := make(chan error, 8)
	for range cap(done) {
		first := guess(r, 12)
		go func() { done <- t.guessPassword(first) }()
	}
	var errs []error
	for range cap(done) {
		errs = append(errs, <-done)
	}
	return errors.Join(errs...)
}

func (t *target) guessPassword(first string) error {
	for i := range 5 {
		q, err := http.NewRequest("GET", "https://"+t.address+identity, nil)
		if err != nil {
			return err
		}
		q.SetBasicAuth("ada", fmt.Sprint(first, i))
		res, err := t.client.Do(q)
		if err != nil {
			return err
		}
		res.Body.Close()
		if res.StatusCode != 401 && res.StatusCode != 429 {
			return errors.New(res.Status)
		}
	}
	return nil
}

var uuid = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}`)

// foreign asks for acme's collection as beta, and compares with an id that
// nobody has.
func foreign(t *target) error {
	theirs, nobodys := uuid.FindString(t.docs), "11111111-2222-4333-8444-555555555555"
	for _, c := range []struct{ method, route, body string }{
		{"GET", "", ""}, {"GET", "/count", ""}, {"GET", "/indexing_status", ""}, {"DELETE", "", ""}, {"PUT", "", `{"new_name":"stolen"}`},
		{"POST", "/get", `{}`}, {"POST", "/query", `{"query_embeddings":[[1,2]]}`}, {"POST", "/search", `{"searches":[]}`},
		{"POST", "/add", `{"ids":["x"],"embeddings":[[1,2]]}`}, {"POST", "/upsert", `{"ids":["x"],"embeddings":[[1,2]]}`},
		{"POST", "/update", `{"ids":["a"],"embeddings":[[1,2]]}`}, {"POST", "/delete", `{"ids":["a"]}`}, {"POST", "/fork", `{"new_name":"stolen"}`},
	} {
		for _, in := range []string{"/api/v2/tenants/beta/databases/main/collections/", "/api/v2/tenants/acme/databases/main/collections/"} {
			var seen []string
			for _, id := range []string{theirs, nobodys} {
				status, answer, err := t.do(t.other, c.method, in+id+c.route, c.body)
				if err != nil {
					return err
				}
				if status < 400 || status >= 500 && status != 501 {
					return fmt.Errorf("%s %s: %d %.200s", c.method, in+id+c.route, status, answer)
				}
				seen = append(seen, fmt.Sprint(status, " ", strings.ReplaceAll(string(answer), id, "ID")))
			}
			if seen[0] != seen[1] {
				return fmt.Errorf("%s %s: %q is told from %q", c.method, in+"ID"+c.route, seen[0], seen[1])
			}
		}
	}
	if status, answer, err := t.do(t.own, "POST", t.docs+"/get", `{"ids":["a","x"]}`); err != nil || status != 200 || !strings.Contains(string(answer), `"ids":["a"]`) {
		return fmt.Errorf("acme's record: %d %s %w", status, answer, err)
	}
	return nil
}

// timeKeys sends keys that share more and less of their beginning with the
// right one, by chance, and compares how long the refusals took (Welch's t).
// By HTTP/1.1: HTTP/2 compresses keys, and the more alike they are the better.
func timeKeys(t *target) error {
	client := t.plain()
	r := rand.New(rand.NewPCG(*seed, 3))
	lengths := []int{0, 1, 8, 21, 42}
	id := len("chromad_") + 9
	times := make([][]float64, len(lengths))
	for range *timing {
		k := r.IntN(len(lengths))
		from := id + lengths[k]
		next := digits[(strings.IndexByte(digits, t.admin[from])+1+r.IntN(62))%64] // never the right one
		key := t.admin[:from] + string(next) + guess(r, len(t.admin)-from-1)
		begin := time.Now()
		status, _, err := t.doBy(client, key, "GET", identity, "")
		took := time.Since(begin)
		if err != nil || status != 401 {
			return fmt.Errorf("%d %w", status, err)
		}
		times[k] = append(times[k], float64(took.Nanoseconds()))
	}
	for k := range times {
		slices.Sort(times[k])
		times[k] = times[k][:len(times[k])*9/10] // what the system did in between says nothing
	}
	var errs []error
	for k := 1; k < len(times); k++ {
		score := welch(times[0], times[k])
		fmt.Printf("        %2d characters right against none: t = %+.2f over %d and %d answers\n", lengths[k], score, len(times[k]), len(times[0]))
		if math.Abs(score) > 4.5 {
			errs = append(errs, fmt.Errorf("%d right characters: t = %.2f", lengths[k], score))
		}
	}
	return errors.Join(errs...)
}

func welch(a, b []float64) float64 {
	mean := func(x []float64) (m, v float64) {
		for _, f := range x {
			m += f / float64(len(x))
		}
		for _, f := range x {
			v += (f - m) * (f - m) / float64(len(x)-1)
		}
		return m, v / float64(len(x))
	}
	ma, va := mean(a)
	mb, vb := mean(b)
	return (ma - mb) / math.Sqrt(va+vb)
}
