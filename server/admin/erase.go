package admin

import (
	"context"
	"iter"
	"net/http"

	"github.com/chromad/chromad/engine"
)

// Receipts is the answer of GET /admin/v1/receipts.
type Receipts struct {
	PublicKey string   `json:"public_key"` // a keyset in Tink's JSON form
	Receipts  []string `json:"receipts"`   // as engine.Receipt.Bytes has them, oldest first
	Problems  []string `json:"problems"`   // receipts that cannot be read
}

// Erased is the line that tells p.
func Erased(p engine.EraseProgress) Line {
	return Line{Event: Progressed, Progress: &Progress{Segments: p.Segments, SegmentsDone: p.SegmentsDone, Bytes: p.Bytes, BytesDone: p.BytesDone}}
}

// ReceiptsOf reads the receipts of a store. The error says that there are none
// to be read, as of a plain store.
func ReceiptsOf(ctx context.Context, store interface {
	Receipts(ctx context.Context) iter.Seq2[*engine.Receipt, error]
	PublicKey() ([]byte, error)
}) (out Receipts, err error) {
	public, err := store.PublicKey()
	if err != nil {
		return out, err
	}
	out = Receipts{PublicKey: string(public), Receipts: []string{}, Problems: []string{}}
	for r, err := range store.Receipts(ctx) {
		var text []byte
		if err == nil {
			text, err = r.Bytes()
		}
		if err != nil {
			out.Problems = append(out.Problems, err.Error())
			continue
		}
		out.Receipts = append(out.Receipts, string(text))
	}
	return out, ctx.Err()
}

func (a *Admin) receipts(w http.ResponseWriter, r *http.Request) {
	out, err := ReceiptsOf(r.Context(), a.store)
	if err != nil {
		fail(w, http.StatusConflict, err)
		return
	}
	answer(w, http.StatusOK, out)
}

// Receipts asks for the receipts of erasures.
func (c *Client) Receipts(ctx context.Context) (r Receipts, err error) {
	err = c.get(ctx, "receipts", &r)
	return r, err
}

// Erase has what was deleted erased; see RotateKeys.
func (c *Client) Erase(ctx context.Context, tell func(Line)) error {
	return c.post(ctx, "erase", tell)
}
