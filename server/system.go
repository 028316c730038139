package server

import (
	"cmp"
	"net/http"
	"strconv"
	"time"

	"github.com/chromad/chromad/engine"
)

const (
	apiVersion = "1.0.0" // of Chroma's API, which clients ask for
	// maxBatchSize is where clients cut their writes into pieces.
	maxBatchSize = 5461
)

func (s *Server) heartbeat(c *call) error {
	b := c.buffer()
	*b = append(*b, `{"nanosecond heartbeat":`...)
	*b = append(strconv.AppendInt(*b, time.Now().UnixNano(), 10), '}')
	c.json(*b)
	return nil
}

func (s *Server) version(c *call) error {
	c.json([]byte(`"` + apiVersion + `"`))
	return nil
}

// healthcheck is ready while the store accepts writes. After a failed sync only
// opening it again helps, so whoever watches should restart the process.
func (s *Server) healthcheck(c *call) error {
	if s.store.Err() != nil {
		c.success = http.StatusServiceUnavailable
		c.json([]byte(`{"is_executor_ready":true,"is_log_client_ready":false}`))
		return nil
	}
	c.json([]byte(`{"is_executor_ready":true,"is_log_client_ready":true}`))
	return nil
}

func (s *Server) preflight(c *call) error {
	c.json([]byte(`{"max_batch_size":` + strconv.Itoa(maxBatchSize) + `,"supports_base64_encoding":true}`))
	return nil
}

func (s *Server) identity(c *call) error {
	b := c.buffer()
	*b = appendText(append(*b, `{"user_id":`...), c.who.Name)
	*b = appendText(append(*b, `,"tenant":`...), cmp.Or(c.who.Tenant, engine.DefaultTenant))
	*b = appendText(append(*b, `,"databases":[`...), cmp.Or(c.who.Database, engine.DefaultDatabase))
	c.json(append(*b, "]}"...))
	return nil
}

func (s *Server) reset(c *call) error {
	if !s.config.AllowReset {
		return &apiError{status: http.StatusForbidden, kind: kindChroma, message: "Reset is disabled by config"}
	}
	if err := s.store.Reset(c.toTheEnd()); err != nil {
		return err
	}
	c.json([]byte("true"))
	return nil
}

func (s *Server) v1(*call) error {
	return &apiError{status: http.StatusGone, kind: kindUnimplemented, message: "The v1 API is deprecated. Please use /v2 apis"}
}
