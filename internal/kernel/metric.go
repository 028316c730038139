package kernel

import "fmt"

// Metric says how far apart two vectors are.
type Metric uint8

// The metrics. Their numbers are stored in files.
const (
	L2     Metric = iota // squared Euclidean distance
	Cosine               // 1 - the cosine of the angle
	IP                   // 1 - the inner product
)

// String returns "l2", "cosine" or "ip".
func (m Metric) String() string {
	switch m {
	case L2:
		return "l2"
	case Cosine:
		return "cosine"
	case IP:
		return "ip"
	}
	return fmt.Sprintf("metric(%d)", uint8(m))
}

// Distance is the distance that users see: squared for L2, 1 - cosine, or
// 1 - inner product.
func Distance(m Metric, a, b []float32) float32 {
	switch m {
	case Cosine:
		return 1 - Dot(a, b)*InvNorm(a)*InvNorm(b)
	case IP:
		return 1 - Dot(a, b)
	}
	return L2Squared(a, b)
}
