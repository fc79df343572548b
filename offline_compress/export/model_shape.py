# SPDX-License-Identifier: Apache-2.0
"""The dimensions of a SmolVLM / Idefics3 model, read from config.json; what the graph template lacks is refused."""

from __future__ import annotations

from dataclasses import dataclass

from offline_compress.errors import ExportError

MODEL_TYPES = ("smolvlm", "idefics3")
UNSUPPORTED = "this graph template serves SmolVLM / Idefics3 with a plain Llama text model; export such a model"


@dataclass(frozen=True)
class VisionShape:
    """SigLIP vision transformer. ``tokens`` = grid * grid patches; ``image_tokens`` what the text model sees."""

    hidden_size: int
    layers: int
    heads: int
    intermediate_size: int
    image_size: int
    patch_size: int
    epsilon: float
    scale_factor: int
    channels: int = 3

    @property
    def grid(self) -> int:
        return self.image_size // self.patch_size

    @property
    def tokens(self) -> int:
        return self.grid * self.grid

    @property
    def image_tokens(self) -> int:
        return self.tokens // self.scale_factor**2

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.heads

    @property
    def patch_values(self) -> int:
        return self.channels * self.patch_size**2


@dataclass(frozen=True)
class TextShape:
    """Llama text model: RMSNorm, rotary positions, grouped-query attention, SwiGLU."""

    hidden_size: int
    layers: int
    query_heads: int
    kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    max_positions: int
    rope_theta: float
    epsilon: float
    image_token_id: int


def read_vision_shape(config: dict) -> VisionShape:
    """Raises ExportError, naming the setting, for what the template does not support."""
    require(config.get("model_type") in MODEL_TYPES, f"model_type {config.get('model_type')!r}")
    vision = section(config, "vision_config")
    activation = vision.get("hidden_act", "gelu_pytorch_tanh")
    require(activation == "gelu_pytorch_tanh", f"vision_config.hidden_act {activation!r}")
    require(vision.get("num_channels", 3) == 3, f"vision_config.num_channels {vision.get('num_channels')}")
    shape = VisionShape(
        hidden_size=number(vision, "hidden_size"),
        layers=number(vision, "num_hidden_layers"),
        heads=number(vision, "num_attention_heads"),
        intermediate_size=number(vision, "intermediate_size"),
        image_size=whole_patches(number(vision, "image_size"), number(vision, "patch_size")),
        patch_size=number(vision, "patch_size"),
        epsilon=float(vision.get("layer_norm_eps", 1e-6)),
        scale_factor=number(config, "scale_factor", 2),
    )
    require(shape.hidden_size % shape.heads == 0, f"vision heads {shape.heads} for a width of {shape.hidden_size}")
    require(shape.grid % shape.scale_factor == 0, f"scale_factor {shape.scale_factor} for a grid of {shape.grid}")
    return shape


def read_text_shape(config: dict) -> TextShape:
    """Raises ExportError, naming the setting, for what the template does not support."""
    text = section(config, "text_config")
    require(text.get("model_type", "llama") == "llama", f"text_config.model_type {text.get('model_type')!r}")
    require(text.get("hidden_act", "silu") == "silu", f"text_config.hidden_act {text.get('hidden_act')!r}")
    for flag in ("qk_layer_norms", "rope_interleaved"):
        require(not text.get(flag), f"text_config.{flag}")
    heads = number(text, "num_attention_heads")
    shape = TextShape(
        hidden_size=number(text, "hidden_size"),
        layers=number(text, "num_hidden_layers"),
        query_heads=heads,
        kv_heads=number(text, "num_key_value_heads", heads),
        head_dim=number(text, "head_dim", number(text, "hidden_size") // heads),
        intermediate_size=number(text, "intermediate_size"),
        vocab_size=number(text, "vocab_size"),
        max_positions=number(text, "max_position_embeddings"),
        rope_theta=rope_theta(text),
        epsilon=float(text.get("rms_norm_eps", 1e-6)),
        image_token_id=number(config, "image_token_id"),
    )
    require(heads % shape.kv_heads == 0, f"num_key_value_heads {shape.kv_heads} for {heads} query heads")
    require(shape.head_dim % 2 == 0, f"an odd head_dim of {shape.head_dim}")
    return shape


def whole_patches(image_size: int, patch_size: int) -> int:
    """The pixels that the patches cover: 378 of 384 with patches of 14, as in the 2.2B."""
    require(0 < patch_size <= image_size, f"patch_size {patch_size} for images of {image_size}")
    return image_size // patch_size * patch_size


def rope_theta(text: dict) -> float:
    """transformers 5 keeps theta in ``rope_parameters``, older releases beside ``rope_scaling``."""
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    require(kind == "default", f"text_config rope_type {kind!r}")
    require(rope.get("partial_rotary_factor", 1.0) == 1.0, "a partial rotary embedding")
    return float(rope.get("rope_theta", text.get("rope_theta", 10000.0)))


def section(config: dict, name: str) -> dict:
    value = config.get(name)
    require(isinstance(value, dict), f"a config.json without {name}")
    return value


def number(settings: dict, name: str, default: int | None = None) -> int:
    value = settings.get(name)
    value = default if value is None else value
    require(isinstance(value, int) and not isinstance(value, bool) and value >= 0, f"{name} = {value!r}")
    return int(value)


def require(holds: bool, setting: str) -> None:
    if not holds:
        raise ExportError(f"{setting} is not supported", UNSUPPORTED)
