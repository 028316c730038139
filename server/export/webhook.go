package export

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/chromad/chromad/internal/outbound"
)

// Headers of a webhook's request.
const (
	// SignatureHeader holds "t=SECONDS,v1=HEX": the time, and HMAC-SHA256 under
	// the secret of the time in decimal digits, a full stop, and the body.
	SignatureHeader = "X-Chromad-Signature"
	// DeliveryHeader is the same for all attempts to deliver one batch.
	DeliveryHeader = "X-Chromad-Delivery"
)

// minSecret is the least length of a secret, in bytes.
const minSecret = 16

// Webhook says who gets POSTs.
type Webhook struct {
	URL    string                 // https, or http on this machine
	Secret func() ([]byte, error) // of signatures; asked before each request, so that it can be changed
	Proxy  string                 // "http://host:port"; empty: none
	TLS    *tls.Config
}

type webhook struct {
	Webhook
	client *http.Client

	batch    *Message // the first of the batch that was tried last
	delivery string
}

// NewWebhook makes a sender of POSTs. Nothing is connected yet.
func NewWebhook(d *outbound.Dialer, c Webhook) (Sender, error) {
	client, err := newClient(d, "webhook", c.URL, c.Proxy, c.TLS)
	if err != nil {
		return nil, err
	}
	w := &webhook{Webhook: c, client: client}
	if c.Secret == nil {
		return nil, errors.New("secret_file is missing: whoever finds the address could send what looks like chromad's")
	}
	_, err = w.secret()
	return w, err
}

// newClient makes a client to the host of a URL, and no other.
func newClient(d *outbound.Dialer, purpose, address, proxy string, t *tls.Config) (*http.Client, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Fragment != "":
		return nil, errors.New("url: https://HOST/PATH") // it may hold a secret
	case u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())):
		return nil, errors.New("url: https, or http on this machine only: whoever sits in between could read what was done, and by whom")
	}
	place, err := outbound.PlaceOf(u)
	if err != nil {
		return nil, errors.New("url: https://HOST/PATH")
	}
	way, err := d.Way(purpose, place)
	if err != nil {
		return nil, err
	}
	if proxy != "" {
		if err := way.Proxy(proxy); err != nil {
			return nil, err
		}
	}
	return way.Client(outbound.Client{TLS: t, Answer: maxAnswer}), nil
}

// maxAnswer is what is read of an answer, in bytes.
const maxAnswer = 64 << 10

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func (w *webhook) secret() ([]byte, error) {
	s, err := w.Secret()
	if err == nil && len(s) < minSecret {
		err = fmt.Errorf("secret_file: %d bytes, at least %d", len(s), minSecret)
	}
	return s, err
}

// Send posts {"version":1,"messages":[…]}.
func (w *webhook) Send(ctx context.Context, batch []Message) error {
	if len(batch) == 0 {
		return nil
	}
	secret, err := w.secret()
	if err != nil {
		return err
	}
	if w.batch != &batch[0] {
		var id [16]byte
		if _, err := rand.Read(id[:]); err != nil {
			return err
		}
		w.batch, w.delivery = &batch[0], hex.EncodeToString(id[:])
	}
	body := []byte(`{"version":1,"messages":[`)
	for i := range batch {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, batch[i].JSON...)
	}
	body = append(body, "]}"...)
	header := http.Header{"Content-Type": {"application/json"}, DeliveryHeader: {w.delivery}}
	header.Set(SignatureHeader, sign(secret, time.Now(), body))
	_, err = post(ctx, w.client, w.URL, header, body)
	return err
}

// sign makes the value of SignatureHeader.
func sign(secret []byte, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(t + "."))
	mac.Write(body)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

// post sends a body and wants a status that says it was taken. Errors do not
// name the URL, which may hold a secret.
func post(ctx context.Context, client *http.Client, address string, header http.Header, body []byte) (answer []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the url cannot be used")
	}
	r.Header = header
	r.Header.Set("User-Agent", program)
	res, err := client.Do(r)
	if e, ok := errors.AsType[*url.Error](err); ok {
		return nil, e.Err
	}
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(res.Body) // which the client bounds
	switch s := res.StatusCode; {
	case s >= 200 && s < 300:
		return answer, nil // taken, whatever became of the rest of the answer
	case s == http.StatusBadRequest, s == http.StatusRequestEntityTooLarge, s == http.StatusUnprocessableEntity:
		return nil, &Rejected{fmt.Errorf("answered %s", res.Status)}
	}
	failed := fmt.Errorf("answered %s", res.Status)
	if seconds, e := strconv.Atoi(res.Header.Get("Retry-After")); e == nil && seconds > 0 && seconds < 1<<20 {
		return nil, &Later{time.Duration(seconds) * time.Second, failed}
	}
	return nil, errors.Join(failed, err)
}

// Close ends connections.
func (w *webhook) Close() error {
	w.client.CloseIdleConnections()
	return nil
}
