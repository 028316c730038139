package server

import (
	"errors"
	"net/http"
	"testing"
)

// sickStore is a store that accepts no more writes.
type sickStore struct{ Store }

func (sickStore) Err() error { return errors.New("the disk has failed") }

func TestHealthcheck(t *testing.T) {
	r := newRig(t, Config{}, nil)
	r.want(http.StatusOK, `{"is_executor_ready":true,"is_log_client_ready":true}`, "GET", "/api/v2/healthcheck", "")
	r.store = sickStore{r.store}
	r.want(http.StatusServiceUnavailable, `{"is_executor_ready":true,"is_log_client_ready":false}`, "GET", "/api/v2/healthcheck", "")
}
