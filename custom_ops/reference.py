# SPDX-License-Identifier: Apache-2.0
"""The operators in NumPy: what each one means, in the fewest lines. The C++ kernels are tested against these.

Integer accumulation is exact; float steps follow the order of the C++ kernels. Arrays are float32, row-major;
``rows`` is the number of tokens of a call.
"""

from __future__ import annotations

import numpy as np

from custom_ops import spec
from custom_ops.errors import OperatorError
from custom_ops.packing import Groups
from custom_ops.spec import Activation, CacheFormat, NormKind

QUANTIZED_MAX = np.float32(127)
LARGEST_HALF = np.float32(65504)
LARGEST_WEIGHT = np.float32(127 * 128)  # of a softmax weight as integer, in int8 caches
FLOAT32_INTEGERS = 2**24  # integers up to here are exact in float32


def quantize_activations(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric int8 per row: ``x (rows, K) -> codes int8 (rows, K), scale (rows,)``, rounding half to even.

    A row without a usable maximum (all zero, or so small that 127 / max overflows) has codes and scale 0.
    """
    peak = np.fmax.reduce(np.abs(x), axis=1, initial=np.float32(0))
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        factor = QUANTIZED_MAX / peak
        usable = np.isfinite(factor)
        factor = np.where(usable, factor, np.float32(0))
        codes = np.rint(np.clip(x * factor[:, None], -QUANTIZED_MAX, QUANTIZED_MAX))
        codes = np.where(np.isnan(codes), -QUANTIZED_MAX, codes).astype(np.int8)
    return codes, np.where(usable, peak / QUANTIZED_MAX, np.float32(0)).astype(np.float32)


def accumulate(codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Exact ``codes (rows, K) @ weights (N, K)^T`` as int32, through BLAS in a float type that holds every sum."""
    largest = codes.shape[1] * 127 * int(np.abs(weights.astype(np.int16)).max(initial=1))
    exact = np.float32 if largest < FLOAT32_INTEGERS else np.float64
    return (codes.astype(exact) @ weights.T.astype(exact)).astype(np.int32)


def linear(
    x: np.ndarray,
    weights: np.ndarray,
    scale: np.ndarray,
    bias: np.ndarray | None = None,
    residual: np.ndarray | None = None,
    activation: int = Activation.NONE,
    groups: Groups | None = None,
) -> np.ndarray:
    """``activation((q(x) W^T) * a * scale + bias) + residual``; x (rows, K), weights int8 codes (N, K)."""
    codes, row_scale = quantize_activations(x)
    products = (
        accumulate(codes, weights).astype(np.float32) if groups is None else accumulate_groups(codes, weights, groups)
    )
    return finish_linear(products * (row_scale[:, None] * scale[None, :]), bias, residual, activation)


def finish_linear(y: np.ndarray, bias: np.ndarray | None, residual: np.ndarray | None, activation: int) -> np.ndarray:
    """``activation(y + bias) + residual``; y (rows, N)."""
    if bias is not None:
        y = y + bias
    y = ACTIVATIONS[Activation(activation)](y)
    return y if residual is None else y + residual


def accumulate_groups(codes: np.ndarray, weights: np.ndarray, groups: Groups) -> np.ndarray:
    """``codes (rows, K)``, ``weights (N, K)`` -> (rows, N): exact inside a group, float32 sums over groups in order."""
    total = np.zeros((len(codes), len(weights)), np.float32)
    for group, start in enumerate(range(0, codes.shape[1], groups.size)):
        part = slice(start, start + groups.size)
        products = accumulate(codes[:, part], weights[:, part])
        if groups.zero is not None:
            sums = codes[:, part].sum(axis=1, dtype=np.int32)
            products = products - sums[:, None] * groups.zero[:, group].astype(np.int32)
        total = total + products.astype(np.float32) * groups.scale[:, group].astype(np.float32)
    return total


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    """``x * sigmoid(2 u)``, which is ``x / 2 * (1 + tanh u)`` with u = sqrt(2 / pi) (x + 0.044715 x^3)."""
    u = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x * x * x)
    return x * sigmoid(2 * u)


def silu(x: np.ndarray) -> np.ndarray:
    return x * sigmoid(x)


def sigmoid(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.float32(1) / (np.float32(1) + np.exp(-x))


ACTIVATIONS = {Activation.NONE: lambda x: x, Activation.GELU_TANH: gelu_tanh, Activation.SILU: silu}


def norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, kind: int, epsilon: float) -> np.ndarray:
    """LayerNorm or RMSNorm over the last dimension; x (rows, D), weight and bias (D,)."""
    if NormKind(kind) == NormKind.RMS:
        return x / np.sqrt(np.mean(x * x, axis=1, keepdims=True) + np.float32(epsilon)) * weight
    centred = x - np.mean(x, axis=1, keepdims=True)
    variance = np.mean(centred * centred, axis=1, keepdims=True)
    y = centred / np.sqrt(variance + np.float32(epsilon)) * weight
    return y if bias is None else y + bias


def swiglu(x: np.ndarray) -> np.ndarray:
    """``silu(gate) * up``; x (rows, 2 F), gate first."""
    gate, up = np.split(x, 2, axis=1)
    return silu(gate) * up


def embedding(
    ids: np.ndarray,
    table: np.ndarray,
    scale: np.ndarray,
    image_features: np.ndarray | None = None,
    image_token_id: int = -1,
) -> np.ndarray:
    """Rows of ``table (vocab, D) * scale (vocab,)``; the j-th image token takes row j of image_features (I, D).

    Raises OperatorError for an id outside the vocabulary, or another number of image tokens than of features.
    """
    if ids.size and not (ids.min() >= 0 and ids.max() < len(table)):
        raise OperatorError(f"token id {ids.min()}..{ids.max()} outside the vocabulary of {len(table)}")
    rows = table[ids].astype(np.float32) * scale[ids][:, None]
    if image_features is not None:
        images = ids == image_token_id
        if images.sum() != len(image_features):
            raise OperatorError(f"{images.sum()} image tokens in the prompt, {len(image_features)} image features")
        rows[images] = image_features
    return rows


def sample(logits: np.ndarray, positions: np.ndarray, temperature: np.ndarray, choice: np.ndarray) -> np.ndarray:
    """Token id and log-probability of each row, float32 (rows, 2); see spec.Sample. Raises OperatorError."""
    top_k, seed = (int(value) for value in choice)
    heat = float(temperature[0])
    if not (0 <= heat < np.inf and top_k >= 0):
        raise OperatorError(f"temperature {heat}, top_k {top_k}: neither may be negative or infinite")
    rows = logits.astype(np.float64)
    scores = rows
    if heat > 0:
        noise = np.stack(
            [-np.log(-np.log(uniform(seed, int(position), rows.shape[1]))) for position in positions[-len(rows) :]]
        )
        scores = rows / heat + noise
        if 0 < top_k < rows.shape[1]:
            scores = np.where(rows >= np.sort(rows, axis=1)[:, -top_k, None], scores, -np.inf)
    tokens = np.argmax(scores, axis=1)
    peak = rows.max(axis=1)
    chosen = rows[np.arange(len(rows)), tokens] - peak - np.log(np.exp(rows - peak[:, None]).sum(axis=1))
    return np.stack([tokens, chosen], axis=1).astype(np.float32)


def uniform(seed: int, position: int, tokens: int) -> np.ndarray:
    """float64 (tokens,) in (0, 1): steps of 2^-24 from the 32-bit finaliser of MurmurHash3, applied three times."""
    mixed = mix(np.uint32(seed & 0xFFFFFFFF), np.uint32(0x9E3779B9))
    mixed = mix(mixed, np.uint32(position & 0xFFFFFFFF))
    return ((mix(mixed, np.arange(tokens, dtype=np.uint32)) >> np.uint32(8)) + 0.5) * 2.0**-24


def mix(state: np.ndarray, value: np.ndarray) -> np.ndarray:
    h = np.atleast_1d(state ^ value)
    with np.errstate(over="ignore"):
        h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
        h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
        return h ^ (h >> np.uint32(16))


class TokenCache:
    """What TokenScatter writes and TokenGather reads: (capacity, width), rows never written are zero."""

    def __init__(self, capacity: int, width: int) -> None:
        self.rows = np.zeros((capacity, width), np.float32)

    def scatter(self, x: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Write x (rows, D) at positions; returns a copy of the whole cache."""
        check_positions(positions, len(self.rows))
        self.rows[positions] = x
        return self.rows.copy()

    def gather(self, positions: np.ndarray) -> np.ndarray:
        check_positions(positions, len(self.rows))
        return self.rows[positions]


class AttentionCache:
    """K and V by position, shared by all calls with one ``cache_id``; see spec.Attention."""

    def __init__(self, attributes: spec.Attention) -> None:
        shape = (attributes.capacity, attributes.kv_heads, attributes.head_dim)
        self.attributes = attributes
        self.keys, self.values = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self.written = np.zeros(attributes.capacity, bool)

    def attend(self, qkv: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Write K,V of these rows, then attend; qkv (rows, (Hq + 2 Hkv) Dh) -> (rows, Hq Dh)."""
        a = self.attributes
        q, k, v = np.split(qkv, np.cumsum([a.query_heads * a.head_dim, a.kv_heads * a.head_dim]), axis=1)
        q, k, v = (part.reshape(len(qkv), -1, a.head_dim) for part in (q, k, v))
        check_positions(positions, a.capacity)
        if a.causal:
            self.check_consecutive(positions)
        if a.rope_theta > 0:
            q, k = rotate(q, positions, a.rope_theta), rotate(k, positions, a.rope_theta)
        self.keys[positions], self.values[positions] = self.stored(k), self.stored(v)
        self.written[positions] = True
        visible = np.broadcast_to(self.written, (len(qkv), a.capacity))
        if a.causal:
            self.written[positions[-1:].max(initial=-1) + 1 :] = False
            visible = np.arange(a.capacity) <= positions[:, None]
        q = q * np.float32(a.scale)
        if a.cache_format == CacheFormat.INT8:
            return self.integer_softmax(self.stored(q), visible)
        return self.softmax_of_scores(q, visible)

    def stored(self, x: np.ndarray) -> np.ndarray:
        """x (rows, heads, Dh) as the cache's format holds it, in float32; int8 goes by row and head."""
        if self.attributes.cache_format == CacheFormat.FLOAT16:
            return np.clip(x, -LARGEST_HALF, LARGEST_HALF).astype(np.float16).astype(np.float32)
        if self.attributes.cache_format == CacheFormat.INT8:
            codes, scale = quantize_activations(x.reshape(-1, x.shape[2]))
            return (codes.astype(np.float32) * scale[:, None]).reshape(x.shape)
        return x

    def check_consecutive(self, positions: np.ndarray) -> None:
        length = int(self.written.sum())
        if len(positions) and (positions[0] > length or (np.diff(positions) != 1).any()):
            raise OperatorError(f"positions {positions} do not continue the {length} cached ones")

    def softmax_of_scores(self, q: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """q (rows, Hq, Dh), visible (rows, capacity)."""
        group = q.shape[1] // self.keys.shape[1]
        keys, values = (np.repeat(part, group, axis=1) for part in (self.keys, self.values))  # (capacity, Hq, Dh)
        scores = np.einsum("qhd,khd->hqk", q, keys)
        scores = np.where(visible[None], scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=2, keepdims=True))
        weights /= weights.sum(axis=2, keepdims=True)
        return np.einsum("hqk,khd->qhd", weights, values).reshape(len(q), -1).astype(np.float32)

    def integer_softmax(self, q: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """As `softmax_of_scores`, with weight times value scale rounded to integers of 0..16256; see spec.Attention."""
        group = q.shape[1] // self.keys.shape[1]
        keys, values = (np.repeat(part, group, axis=1) for part in (self.keys, self.values))  # (capacity, Hq, Dh)
        scale = np.abs(values).max(axis=2).T / QUANTIZED_MAX  # (Hq, capacity)
        scores = np.where(visible[None], np.einsum("qhd,khd->hqk", q, keys), -np.inf)
        weights = np.exp(scores - scores.max(axis=2, keepdims=True))
        reach = visible.shape[1] - np.argmax(visible[:, ::-1], axis=1)  # (rows,) positions up to the last visible one
        peak = np.maximum.accumulate(scale, axis=1)[:, reach - 1][:, :, None]  # (Hq, rows, 1)
        step = np.where(peak > 0, peak, 1) / LARGEST_WEIGHT
        codes = values.transpose(1, 0, 2) / np.where(scale > 0, scale, 1)[:, :, None]  # (Hq, capacity, Dh)
        mixed = np.rint(weights * scale[:, None, :] / step) @ np.rint(codes) * step
        return (mixed / weights.sum(axis=2, keepdims=True)).transpose(1, 0, 2).reshape(len(q), -1).astype(np.float32)


def rotate(x: np.ndarray, positions: np.ndarray, theta: float) -> np.ndarray:
    """Rotary embedding as in Llama: x (rows, heads, Dh), halves rotated by position / theta^(2 i / Dh)."""
    half = x.shape[2] // 2
    frequency = (1 / float(theta) ** (np.arange(half) * 2 / x.shape[2])).astype(np.float32)
    angle = (positions[:, None].astype(np.float32) * frequency).astype(np.float64)[:, None, :]
    cosine, sine = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    low, high = x[..., :half], x[..., half:]
    return np.concatenate([low * cosine - high * sine, high * cosine + low * sine], axis=2)


def check_positions(positions: np.ndarray, capacity: int) -> None:
    if positions.size and not (positions.min() >= 0 and positions.max() < capacity):
        raise OperatorError(f"position {positions.min()}..{positions.max()} outside 0..{capacity - 1}")
