package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/chromad/chromad/internal/outbound"
)

// ErrCutOff says that the answer ended before the work did: the server has
// stopped. Asking again goes on.
var ErrCutOff = errors.New("the server has ended before the work was done")

// maxAnswer bounds what is read of an answer, in bytes: keys of a million
// collections. A longer one is cut off.
const maxAnswer = 256 << 20

// maxLine bounds one line, in bytes: an error may name many collections.
const maxLine = 16 << 20

// Client asks an Admin.
type Client struct{ http *http.Client }

// NewClient makes a client whose connections come from dial.
func NewClient(dial func(ctx context.Context) (net.Conn, error)) *Client {
	return &Client{outbound.Only(dial)}
}

// Status asks what the store is and what is under way.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	err = c.get(ctx, "status", &s)
	return s, err
}

// Keys asks for the keys of an encrypted store.
func (c *Client) Keys(ctx context.Context) (k Keys, err error) {
	err = c.get(ctx, "keys", &k)
	return k, err
}

// RotateKeys has everything put under new keys. tell (nil: nobody) is called
// with every line but the last. An error of ctx: the work goes on without the caller.
func (c *Client) RotateKeys(ctx context.Context, tell func(Line)) error {
	return c.post(ctx, "keys/rotate", tell)
}

// Compact has segments merged; see RotateKeys.
func (c *Client) Compact(ctx context.Context, tell func(Line)) error {
	return c.post(ctx, "compact", tell)
}

func (c *Client) get(ctx context.Context, what string, v any) error {
	body, err := c.ask(ctx, http.MethodGet, what, http.NoBody)
	if err != nil {
		return err
	}
	defer body.Close()
	return decode(body, what, v)
}

// send has something done that in says, and reads the answer into out. When that
// ends too soon, it may have been done: ErrCutOff.
func (c *Client) send(ctx context.Context, what string, in, out any) error {
	text, err := json.Marshal(in)
	if err != nil {
		return err
	}
	body, err := c.ask(ctx, http.MethodPost, what, bytes.NewReader(text))
	if err != nil {
		return err
	}
	defer body.Close()
	if err := decode(body, what, out); err != nil {
		return errors.Join(err, ErrCutOff)
	}
	return nil
}

func decode(body io.Reader, what string, v any) error {
	if err := json.NewDecoder(io.LimitReader(body, maxAnswer)).Decode(v); err != nil {
		return fmt.Errorf("admin socket: %s: %w", what, err)
	}
	return nil
}

func (c *Client) post(ctx context.Context, what string, tell func(Line)) error {
	body, err := c.ask(ctx, http.MethodPost, what, http.NoBody)
	if err != nil {
		return err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var l Line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return fmt.Errorf("admin socket: %s: %w", what, err)
		}
		switch l.Event {
		case Done:
			return nil
		case Failed:
			return errors.New(l.Error)
		}
		if tell != nil {
			tell(l)
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return ErrCutOff
}

// ask sends a request and returns the body of an answer that says 200.
func (c *Client) ask(ctx context.Context, method, what string, body io.Reader) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://chromad/admin/v1/"+what, body)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	if res.StatusCode == http.StatusOK {
		return res.Body, nil
	}
	defer res.Body.Close()
	var said struct{ Error string }
	text, _ := io.ReadAll(io.LimitReader(res.Body, 1<<16))
	if json.Unmarshal(text, &said) != nil || said.Error == "" {
		said.Error = fmt.Sprintf("status %d, %.200s", res.StatusCode, text)
	}
	return nil, errors.New(said.Error)
}
