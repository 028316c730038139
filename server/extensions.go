package server

import (
	"net/http"
)

// What Chroma's single node knows and refuses. Bodies, names and ids are
// checked before, as if the answer were another.

func (s *Server) fork(c *call) error {
	if _, err := c.readName("ForkCollectionPayload", "new_name"); err != nil {
		return err
	}
	if err := multiRegion(c.vars["database"], "forking"); err != nil {
		return err
	}
	if _, err := c.collection(); err != nil {
		return err
	}
	return unimplemented("Collection forking is unsupported for local chroma")
}

func (s *Server) forkCount(c *call) error {
	if _, err := c.collection(); err != nil {
		return err
	}
	return unimplemented("Count forks is unsupported for local chroma")
}

func (s *Server) indexingStatus(c *call) error {
	if _, err := c.collection(); err != nil {
		return err
	}
	return &apiError{status: http.StatusInternalServerError, kind: kindInternal, message: "Method scout_logs is not implemented"}
}

func (s *Server) attachFunction(c *call) error {
	required := []string{"name", "function_id", "output_collection"}
	present := map[string]bool{}
	err := c.scan("AttachFunctionRequest", func(s *scanner, name string) {
		switch name {
		case "name", "function_id", "output_collection":
			present[name] = true
			s.text()
		default:
			s.skip()
		}
	})
	if err != nil {
		return err
	}
	for _, field := range required {
		if err := c.require(present[field], field); err != nil {
			return err
		}
	}
	if err := multiRegion(c.vars["database"], "attached functions"); err != nil {
		return err
	}
	if _, err := c.collection(); err != nil {
		return err
	}
	return unimplemented("Attached function operations are not implemented for local chroma")
}

func (s *Server) getFunction(c *call) error {
	if _, err := c.collection(); err != nil {
		return err
	}
	return notFound("Attached function not found")
}

func (s *Server) detachFunction(c *call) error {
	err := c.scan("DetachFunctionRequest", func(s *scanner, name string) {
		if name == "delete_output" {
			s.boolean()
		} else {
			s.skip()
		}
	})
	if err != nil {
		return err
	}
	if _, err := c.collection(); err != nil {
		return err
	}
	return unimplemented("Attached function operations are not implemented for local chroma")
}
