package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/chromad/chromad/server/access"
)

func usersList(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newUsersPage("list", "PATH", "List users, their roles and keys. Nothing secret is shown.", "")
	return p.show(ctx, args, stdout, stderr, func(policy *access.Policy) error {
		if len(policy.Users) == 0 {
			fmt.Fprintln(stderr, "there are no users: whoever reaches the server may do everything")
			return nil
		}
		w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
		for _, u := range policy.Users {
			state := ""
			if u.Disabled {
				state = " (disabled)"
			}
			fmt.Fprintf(w, "%s%s\n", u.Name, state)
			for _, b := range u.Roles {
				fmt.Fprintf(w, "  role\t%s\t%s\n", b.Role, whereText(b.On))
			}
			for _, k := range u.Keys {
				ends := "never ends"
				if !k.Expires.IsZero() {
					ends = "ends " + k.Expires.Format(time.DateTime)
				}
				fmt.Fprintf(w, "  key\t%s\t%s\tmade %s\t%s\n", k.ID, k.Name, k.Created.Format(time.DateTime), ends)
			}
			for _, name := range slices.Sorted(maps.Keys(u.Attributes)) {
				fmt.Fprintf(w, "  attribute\t%s\t%s\n", name, strings.Join(u.Attributes[name], ", "))
			}
			for _, l := range limitLines(u.Limits) {
				fmt.Fprintf(w, "  limit\t%s\n", l)
			}
			if u.Password != "" {
				fmt.Fprintf(w, "  password\n")
			}
			for _, c := range u.Certificates {
				fmt.Fprintf(w, "  certificate\t%s\n", c)
			}
		}
		return w.Flush()
	})
}

func whereText(s access.Scope) string {
	any := func(text string) string {
		if text == "" {
			return "*"
		}
		return text
	}
	if s == (access.Scope{}) {
		return "everywhere"
	}
	return any(s.Tenant) + "/" + any(s.Database) + "/" + any(s.Collection)
}

func usersExport(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newUsersPage("export", "PATH", "Write users and roles as YAML. Keys and passwords are hashes in it.", "")
	return p.show(ctx, args, stdout, stderr, func(policy *access.Policy) error {
		text, err := yaml.Marshal(policy)
		if err == nil {
			_, err = stdout.Write(text)
		}
		return err
	})
}

// show reads the arguments, and has print write the policy of the store.
func (p *usersPage) show(ctx context.Context, args []string, stdout, stderr io.Writer, print func(*access.Policy) error) int {
	rest, err := p.arguments(args, "PATH")
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	p.look = true
	err = p.with(ctx, rest[0], func(from policyOf) error {
		policy, err := from.Policy(ctx)
		if err != nil {
			return err
		}
		return print(policy)
	})
	if err != nil {
		return p.fail(err, stderr)
	}
	return exitOK
}

const maxPolicyFile = 8 << 20

func usersImport(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newUsersPage("import", "PATH FILE", "Replace all users and roles by those of a YAML file, as export writes it.", "")
	p.forceFlag()
	rest, err := p.arguments(args, "PATH", "FILE")
	if err != nil {
		return p.refuse(err, stdout, stderr)
	}
	policy, err := readPolicy(rest[1])
	if err != nil {
		return p.fail(err, stderr)
	}
	return p.run(ctx, rest[0], stdout, stderr, counted(len(policy.Users), "user")+" and "+counted(len(policy.Roles), "role")+" of "+rest[1]+" in the place of those of before",
		access.Command{Do: "import", Policy: policy})
}

// readPolicy reads YAML by way of JSON, whose reader refuses what it does not know.
func readPolicy(path string) (*access.Policy, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPolicyFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxPolicyFile {
		return nil, fmt.Errorf("%s: larger than %s", path, size(maxPolicyFile))
	}
	var tree any
	if err := yaml.Unmarshal(text, &tree); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	text, err = json.Marshal(tree)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	policy, err := access.Read(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return policy, nil
}
