# SPDX-License-Identifier: Apache-2.0
"""The contract of the operators: names, attributes, shapes and types.

Exporter, NumPy executor and C++ delegate all follow this file; ``src/delegate/attributes.h`` mirrors the
structs byte for byte (a test compares the two). An operator's attributes travel in ``custom_options`` as one
packed little-endian struct behind a common header::

    magic   4 bytes  b"EVO1"
    version u16      version of this operator's attributes
    size    u16      bytes that follow the header

A new version of a struct only appends fields, and 0 in them means what the version before meant: older files load.

Notation: ``rows`` is the number of tokens in this call (dynamic), ``K`` in_features, ``N`` out_features,
``D`` a width, ``T`` tokens. All tensors are dense and row-major; f32 unless said otherwise.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import astuple, dataclass, fields
from typing import ClassVar, TypeVar

from custom_ops.errors import OperatorError

MAGIC = b"EVO1"
HEADER = struct.Struct("<4sHH")
BLOCK_ROWS = 16  # output rows that are interleaved in one packed block
MOST_THREADS = 64  # of the delegate: kMaxThreads in plugin.cc
BLOCK_BYTES = 64  # bytes of one packed block: 16 output rows x 4 bytes
GROUP_MULTIPLE = 32  # a group of inputs that share a scale is a multiple of this


class WeightFormat(enum.IntEnum):
    """How a weight matrix (N, K) is stored; see packing.py for the layouts."""

    TERNARY = 1  # 2 bits a weight, codes w + 1
    BINARY = 2  # 1 bit a weight, codes (w + 1) / 2
    INT8 = 3  # w in -127..127
    FLOAT32 = 4  # plain (N, K) float32; embedding tables only
    INT2 = 5  # w in -2..1
    INT3 = 6  # w in -4..3; a plane of 2 bits and one of 1 bit
    INT4 = 7  # w in -8..7
    TERNARY_DENSE = 8  # ternary, five weights a byte (1.6 bits)


class Activation(enum.IntEnum):
    NONE = 0
    GELU_TANH = 1
    SILU = 2


GROUPED = (WeightFormat.INT2, WeightFormat.INT3, WeightFormat.INT4)  # formats that may have group scales


class NormKind(enum.IntEnum):
    LAYER = 1
    RMS = 2


class CacheFormat(enum.IntEnum):
    """How an attention cache stores K and V."""

    FLOAT32 = 0
    FLOAT16 = 1  # values beyond +-65504 are clipped
    INT8 = 2  # codes with a scale per position and kv head


A = TypeVar("A", bound="Attributes")


@dataclass(frozen=True)
class Attributes:
    """Base of the attribute structs; a subclass declares its fields in the order of its ``LAYOUT``."""

    OP: ClassVar[str]
    VERSION: ClassVar[int]
    LAYOUT: ClassVar[struct.Struct]
    EARLIER: ClassVar[dict[int, int]] = {}  # earlier versions that are still read, and their sizes

    def to_bytes(self) -> bytes:
        body = self.LAYOUT.pack(*astuple(self))
        return HEADER.pack(MAGIC, self.VERSION, len(body)) + body

    @classmethod
    def from_bytes(cls: type[A], raw: bytes) -> A:
        """Parse ``custom_options``; fields that an earlier version lacks are 0. Raises OperatorError where magic,
        version or size do not fit."""
        newest = HEADER.size + cls.LAYOUT.size
        allowed = [newest, *(HEADER.size + size for size in cls.EARLIER.values())]
        if len(raw) not in allowed:
            raise OperatorError(f"{cls.OP}: {len(raw)} bytes of attributes, expected {newest}", REEXPORT)
        magic, version, size = HEADER.unpack_from(raw)
        known = {**cls.EARLIER, cls.VERSION: cls.LAYOUT.size}
        if magic != MAGIC or known.get(version) != size or len(raw) != HEADER.size + size:
            raise OperatorError(
                f"{cls.OP}: attributes {magic!r} version {version} size {size}, "
                f"expected {MAGIC!r} version {cls.VERSION} size {cls.LAYOUT.size}",
                REEXPORT,
            )
        values = cls.LAYOUT.unpack_from(raw.ljust(newest, b"\0"), HEADER.size)
        return cls(**{field.name: value for field, value in zip(fields(cls), values, strict=True)})


REEXPORT = "export the bundle again with this version of edge-vlm-compress"


@dataclass(frozen=True)
class Linear(Attributes):
    """``y = activation((q(x) W^T) * a * scale + bias) + residual``; q: symmetric int8 per row, a its scale.

    Inputs: x (rows, K), weights u8 (packed), scale (N,), then, where the attributes say so, group_scale f16 and zero i8
    (both packed by `packing.pack_groups`), bias (N,), residual (rows, N), norm_weight (K,), norm_bias (K,).
    Output: y (rows, N).

    ``norm_kind`` 0: as above. Otherwise ``q(Norm(x))`` in place of q(x), the very bits of a Norm before this operator,
    with ``norm_epsilon``; norm_weight is there then, norm_bias for LAYER.

    ``group_size`` 0: the product is an exact int32. Otherwise (INT2, INT3, INT4 alone) every ``group_size`` inputs, a
    multiple of 32, share a scale and, where ``has_zero``, a zero point; the last group is what is left. Sums inside a
    group are exact int32, those over groups float32 in the order of the groups::

        q(x) W^T  becomes  sum over g of float(sum over k in g of q[k] * (w[n, k] - zero[n, g])) * group_scale[n, g]
    """

    OP: ClassVar[str] = "EdgeVlmLinear"
    VERSION: ClassVar[int] = 3
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<iiiiiiiiif")
    EARLIER: ClassVar[dict[int, int]] = {1: 24, 2: 32}
    weight_format: int
    in_features: int
    out_features: int
    activation: int = Activation.NONE
    has_bias: int = 0
    has_residual: int = 0
    group_size: int = 0
    has_zero: int = 0
    norm_kind: int = 0
    norm_epsilon: float = 0.0


@dataclass(frozen=True)
class Norm(Attributes):
    """LayerNorm or RMSNorm. Inputs: x (rows, D), weight (D,), bias (D,) for LAYER. Output: (rows, D)."""

    OP: ClassVar[str] = "EdgeVlmNorm"
    VERSION: ClassVar[int] = 1
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<iif")
    kind: int
    width: int
    epsilon: float


@dataclass(frozen=True)
class Attention(Attributes):
    """Attention against K,V that the delegate keeps under ``cache_id``, position by position.

    Inputs: qkv (rows, (Hq + 2 Hkv) * Dh), positions i32 (rows,). Output: (rows, Hq * Dh).

    - Every row first writes its K,V at its position (0 <= position < capacity).
    - ``causal = 0`` (encoder): each query attends to all positions written so far. With some rows only this is
      the sparse encoder; with all rows it is the dense one, bit for bit.
    - ``causal = 1`` (decoder): positions are consecutive and start at most at the cached length; what lay behind
      is forgotten; the query at position p attends to 0..p. ``rope_theta > 0``: rotary embedding of q and k
      (halves rotated, as in Llama).
    - ``cache_format`` INT8: each head's q, k (rotated) and v become int8 as Linear's activations do. Scores are
      exact integers times the two scales. The softmax's weights, each times the scale of its v, become integers of
      0..16256 (the largest v scale within reach maps to 16256), and their product with the codes of v is exact.
    """

    OP: ClassVar[str] = "EdgeVlmAttention"
    VERSION: ClassVar[int] = 2
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<iiiiiiffi")
    EARLIER: ClassVar[dict[int, int]] = {1: 32}
    cache_id: int
    capacity: int
    query_heads: int
    kv_heads: int
    head_dim: int
    causal: int
    rope_theta: float
    scale: float
    cache_format: int = CacheFormat.FLOAT32


@dataclass(frozen=True)
class Embedding(Attributes):
    """Token embeddings, with image features put where the image token stands.

    Inputs: ids i32 (rows,), weights (packed INT8 as for Linear with N = vocab, K = width; or plain FLOAT32),
    scale (vocab,) (ones for FLOAT32), and image_features (I, D) where ``has_image``. The j-th occurrence of
    ``image_token_id`` takes row j of image_features; the counts must agree. Output: (rows, D).
    """

    OP: ClassVar[str] = "EdgeVlmEmbedding"
    VERSION: ClassVar[int] = 1
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<iiiii")
    weight_format: int
    vocab_size: int
    width: int
    image_token_id: int
    has_image: int


@dataclass(frozen=True)
class SwiGlu(Attributes):
    """``silu(gate) * up``. Input: (rows, 2 F), gate first. Output: (rows, F)."""

    OP: ClassVar[str] = "EdgeVlmSwiGlu"
    VERSION: ClassVar[int] = 1
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<i")
    width: int


@dataclass(frozen=True)
class TokenScatter(Attributes):
    """Write rows into the delegate's token cache, give the whole cache out.

    Inputs: x (rows, D), positions i32 (rows,). Output: (capacity, D); rows never written are zero.
    """

    OP: ClassVar[str] = "EdgeVlmTokenScatter"
    VERSION: ClassVar[int] = 1
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<iii")
    cache_id: int
    capacity: int
    width: int


@dataclass(frozen=True)
class TokenGather(Attributes):
    """Read rows from the token cache that a TokenScatter of the same id wrote.

    Input: positions i32 (rows,). Output: (rows, D); rows never written are zero.
    """

    OP: ClassVar[str] = "EdgeVlmTokenGather"
    VERSION: ClassVar[int] = 1
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<iii")
    cache_id: int
    capacity: int
    width: int


@dataclass(frozen=True)
class Sample(Attributes):
    """The next token of each row of logits, so that no logits leave the graph.

    Inputs: logits (rows, V), positions i32 (at least rows,) of which the last ones count, temperature f32 (1,),
    choice i32 (2,): top_k, seed.
    Output (rows, 2): the token id (exact: V is at most 2^24) and the natural logarithm of its probability, which is
    that of the logits as they are, whatever the temperature.

    Temperature 0 takes the largest logit, the first of equals. Above, the largest of
    ``logit / temperature - ln(-ln u)`` among the ``top_k`` largest logits and those equal to the last of them (0: all);
    u in (0, 1) is a hash of seed, position and token, so a draw depends on nothing else. See `reference.uniform`.
    """

    OP: ClassVar[str] = "EdgeVlmSample"
    VERSION: ClassVar[int] = 1
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<i")
    vocab_size: int


OPERATORS: dict[str, type[Attributes]] = {
    op.OP: op for op in (Linear, Norm, Attention, Embedding, SwiGlu, TokenScatter, TokenGather, Sample)
}
