package main

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // an image that holds the binary alone has no time zones

	"go.yaml.in/yaml/v3"

	"github.com/chromad/chromad/server/alert"
	"github.com/chromad/chromad/server/audit"
	"github.com/chromad/chromad/server/export"
)

// exportSetting is an entry of the setting export. What a type does not name is
// an error there.
type exportSetting struct {
	Type  string   `yaml:"type"`
	Name  string   `yaml:"name"`
	Send  []string `yaml:"send"`  // events, alerts; both when empty
	Kinds []string `yaml:"kinds"` // of events; all when empty
	Queue amount   `yaml:"queue"`

	file    fileSetting
	syslog  syslogSetting
	webhook webhookSetting
	otlp    otlpSetting
}

type fileSetting struct {
	Path    string `yaml:"path"`
	MaxSize amount `yaml:"max_size"`
	Keep    int    `yaml:"keep"`
}

type syslogSetting struct {
	Address    string `yaml:"address"`
	Facility   string `yaml:"facility"`
	Framing    string `yaml:"framing"`
	tlsSetting `yaml:",inline"`
}

type webhookSetting struct {
	URL        string `yaml:"url"`
	SecretFile string `yaml:"secret_file"`
	Proxy      string `yaml:"proxy"`
	tlsSetting `yaml:",inline"`
}

type otlpSetting struct {
	URL         string `yaml:"url"`
	HeadersFile string `yaml:"headers_file"`
	Proxy       string `yaml:"proxy"`
	tlsSetting  `yaml:",inline"`
}

// tlsSetting is whom to trust, and who we are.
type tlsSetting struct {
	CA   string `yaml:"ca"`
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

const (
	maxTargets = 16
	eventsWord = "events"
	alertsWord = "alerts"
)

var targetName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,31}$`)

// readExports reads the setting export. Files and addresses are looked at when
// the server starts.
func readExports(o *options, n *yaml.Node) error {
	if n.Kind != yaml.SequenceNode || len(n.Content) > maxTargets {
		return fmt.Errorf("a list of up to %d targets", maxTargets)
	}
	for _, entry := range n.Content {
		s, err := readExport(entry)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(o.exports, func(other exportSetting) bool { return other.Name == s.Name }) {
			return fmt.Errorf("%s is there twice: give one of them another name", s.Name)
		}
		o.exports = append(o.exports, s)
	}
	return nil
}

func readExport(n *yaml.Node) (s exportSetting, err error) {
	var kind struct {
		Type string `yaml:"type"`
	}
	if err := n.Decode(&kind); err != nil {
		return s, err
	}
	// KnownFields sees the fields of the whole struct: common ones, and the type's.
	switch kind.Type {
	case "file":
		var t struct {
			exportSetting `yaml:",inline"`
			fileSetting   `yaml:",inline"`
		}
		err = strictly(n, &t)
		s, s.file = t.exportSetting, t.fileSetting
	case "syslog":
		var t struct {
			exportSetting `yaml:",inline"`
			syslogSetting `yaml:",inline"`
		}
		err = strictly(n, &t)
		s, s.syslog = t.exportSetting, t.syslogSetting
		if f := s.syslog.Framing; err == nil && f != "" && f != "octets" && f != "lines" {
			err = fmt.Errorf("framing %q: octets or lines", f)
		}
	case "webhook":
		var t struct {
			exportSetting  `yaml:",inline"`
			webhookSetting `yaml:",inline"`
		}
		err = strictly(n, &t)
		s, s.webhook = t.exportSetting, t.webhookSetting
	case "otlp":
		var t struct {
			exportSetting `yaml:",inline"`
			otlpSetting   `yaml:",inline"`
		}
		err = strictly(n, &t)
		s, s.otlp = t.exportSetting, t.otlpSetting
	default:
		err = fmt.Errorf("type %q: file, syslog, webhook or otlp", kind.Type)
	}
	if err != nil {
		return s, err
	}
	s.Name = cmp.Or(s.Name, s.Type)
	return s, s.check()
}

func (s *exportSetting) check() error {
	if !targetName.MatchString(s.Name) {
		return fmt.Errorf("name %q: up to 32 small letters, digits, - and _", s.Name)
	}
	for _, w := range s.Send {
		if w != eventsWord && w != alertsWord {
			return fmt.Errorf("%s: send %q: events, alerts", s.Name, w)
		}
	}
	kinds := []audit.Kind{audit.Authentication, audit.Decision, audit.Access, audit.Admin, audit.System}
	for _, k := range s.Kinds {
		if !slices.Contains(kinds, audit.Kind(k)) {
			return fmt.Errorf("%s: kind %q: authentication, decision, access, admin, system", s.Name, k)
		}
	}
	if s.Queue < 0 || s.Queue > 1<<30 || s.Queue != 0 && s.Queue < 64<<10 {
		return fmt.Errorf("%s: queue is 64KiB to 1GiB", s.Name)
	}
	for _, t := range []tlsSetting{s.syslog.tlsSetting, s.webhook.tlsSetting, s.otlp.tlsSetting} {
		if (t.Cert == "") != (t.Key == "") {
			return fmt.Errorf("%s: cert and key belong together", s.Name)
		}
	}
	return nil
}

func (s *exportSetting) sends(word string) bool {
	return len(s.Send) == 0 || slices.Contains(s.Send, word)
}

// ruleSetting is an entry of alerts: rules.
type ruleSetting struct {
	Rule     string   `yaml:"rule"`
	Name     string   `yaml:"name"`
	Severity string   `yaml:"severity"`
	CoolDown string   `yaml:"cool_down"`
	By       string   `yaml:"by"`
	Count    int      `yaml:"count"`
	Rows     int64    `yaml:"rows"`
	Within   string   `yaml:"within"`
	Actions  []string `yaml:"actions"`
	Hours    []string `yaml:"hours"`
	TimeZone string   `yaml:"time_zone"`
}

// readAlerts reads the setting alerts. A list of rules stands instead of the
// usual ones; an empty one switches alerts off.
func readAlerts(o *options, n *yaml.Node) error {
	var s struct {
		CoolDown string         `yaml:"cool_down"`
		TimeZone string         `yaml:"time_zone"`
		Rules    *[]ruleSetting `yaml:"rules"`
	}
	if err := strictly(n, &s); err != nil {
		return err
	}
	byDefault, err := parseSpan(s.CoolDown)
	if err != nil {
		return fmt.Errorf("cool_down: %w", err)
	}
	rules := alert.Defaults()
	if s.Rules != nil {
		rules = []alert.Rule{}
		for i, r := range *s.Rules {
			r.TimeZone = cmp.Or(r.TimeZone, s.TimeZone)
			rule, err := r.rule()
			if err != nil {
				return fmt.Errorf("rules[%d]: %w", i, err)
			}
			rules = append(rules, rule)
		}
	}
	for i := range rules {
		rules[i].CoolDown = cmp.Or(rules[i].CoolDown, byDefault)
	}
	o.alerts, err = alert.Check(rules)
	return err
}

// parseSpan reads a length of time; nothing is 0.
func parseSpan(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err == nil && d <= 0 {
		err = errors.New("a length of time, as 10m")
	}
	return d, err
}

func (s *ruleSetting) rule() (r alert.Rule, err error) {
	r = alert.Rule{Kind: alert.Kind(s.Rule), Name: s.Name, By: alert.By(s.By), Count: s.Count, Rows: s.Rows, Actions: s.Actions}
	if s.Severity != "" {
		known := false
		if r.Severity, known = export.SeverityOf(s.Severity); !known {
			return r, fmt.Errorf("severity %q: info, notice, warning, critical", s.Severity)
		}
	}
	if r.CoolDown, err = parseSpan(s.CoolDown); err != nil {
		return r, fmt.Errorf("cool_down: %w", err)
	}
	if r.Within, err = parseSpan(s.Within); err != nil {
		return r, fmt.Errorf("within: %w", err)
	}
	if len(s.Hours) > 0 || r.Kind == alert.OutsideHours {
		if r.Hours, err = alert.ParseHours(strings.TrimSpace(s.TimeZone), s.Hours...); err != nil {
			return r, err
		}
	}
	return r, nil
}
