package server

import (
	"encoding/json"
	"strings"

	"github.com/chromad/chromad/server/privacy"
)

// privacyRules answers with the rules about what may be stored.
func (s *Server) privacyRules(c *call) error {
	keeper, err := s.keeper()
	if err != nil {
		return err
	}
	rules, err := keeper.Rules(c.ctx())
	if err != nil {
		return err
	}
	b, err := json.Marshal(rules)
	if err != nil {
		return err
	}
	c.json(b)
	return nil
}

// setPrivacyRules replaces them.
func (s *Server) setPrivacyRules(c *call) error {
	keeper, err := s.keeper()
	if err != nil {
		return err
	}
	// The scanner refuses what two readers could understand differently.
	if err := c.scan("PrivacyRules", func(s *scanner, _ string) { s.skip() }); err != nil {
		return err
	}
	rules, err := privacy.Decode(c.body)
	if err != nil {
		return invalid("Validation error: %s", strings.TrimPrefix(err.Error(), "privacy: "))
	}
	if err := keeper.SetRules(c.toTheEnd(), rules); err != nil {
		return err
	}
	return c.done()
}

func (s *Server) keeper() (*privacy.Keeper, error) {
	if s.config.Privacy == nil {
		return nil, unimplemented("this server keeps no rules about what may be stored")
	}
	return s.config.Privacy, nil
}
