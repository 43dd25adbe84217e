"""microgpt, the small transformer of the paper's experiment, in Flax NNX; and a GPT of any size on source code."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sketchlearn.runtime.precision import in_full_precision

VOCABULARY = 27  # a..z and the token that marks both ends of a name
WIDTH, HEADS, BLOCK = 16, 4, 16

#: Parameter names in the order in which the initial weights are drawn, with shapes (outputs, inputs).
PARAMETER_ORDER: tuple[tuple[str, tuple[int, int]], ...] = (
    ("wte", (VOCABULARY, WIDTH)),
    ("wpe", (BLOCK, WIDTH)),
    ("lm_head", (VOCABULARY, WIDTH)),
    ("attn_wq", (WIDTH, WIDTH)),
    ("attn_wk", (WIDTH, WIDTH)),
    ("attn_wv", (WIDTH, WIDTH)),
    ("attn_wo", (WIDTH, WIDTH)),
    ("mlp_fc1", (4 * WIDTH, WIDTH)),
    ("mlp_fc2", (WIDTH, 4 * WIDTH)),
)


def rms_norm(x: jax.Array) -> jax.Array:
    """``x / sqrt(mean(x²) + 1e-5)`` over the last axis."""
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-5)


class MicroGPT(nnx.Module):
    """One transformer block of width 16 with 4 heads, no biases, RMSNorm and exact GELU: 4,192 parameters.

    After Andrej Karpathy's microgpt, with GELU in place of ReLU as in Gunn
    (arXiv:2604.07328).

    Args:
        initial: one array of shape (outputs, inputs) for every name in ``PARAMETER_ORDER``.
    """

    wte: nnx.Param
    wpe: nnx.Param
    lm_head: nnx.Param
    attn_wq: nnx.Param
    attn_wk: nnx.Param
    attn_wv: nnx.Param
    attn_wo: nnx.Param
    mlp_fc1: nnx.Param
    mlp_fc2: nnx.Param

    def __init__(self, initial: dict[str, jax.Array]):
        for name, _ in PARAMETER_ORDER:
            setattr(self, name, nnx.Param(initial[name]))

    @in_full_precision
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Logits of shape (T, 27) for tokens of shape (T,), T <= 16."""
        length = tokens.shape[0]
        # A product with a one-hot matrix: under power series it is one matrix product,
        # where indexing would be a scatter for every coefficient in the backward pass.
        x = jax.nn.one_hot(tokens, VOCABULARY, dtype=self.wte[...].dtype) @ self.wte[...] + self.wpe[...][:length]
        x = rms_norm(x)
        x = x + self.attention(rms_norm(x))
        hidden = jax.nn.gelu(rms_norm(x) @ self.mlp_fc1[...].T, approximate=False)
        x = x + hidden @ self.mlp_fc2[...].T
        return x @ self.lm_head[...].T

    def attention(self, x: jax.Array) -> jax.Array:
        """Causal self-attention of (T, 16)."""
        length = x.shape[0]
        q, k, v = ((x @ w[...].T).reshape(length, HEADS, -1) for w in (self.attn_wq, self.attn_wk, self.attn_wv))
        scores = jnp.einsum("ihd,jhd->hij", q, k) / (WIDTH // HEADS) ** 0.5
        causal = jnp.tril(jnp.ones((length, length), bool))
        attention = jax.nn.softmax(jnp.where(causal, scores, -jnp.inf), axis=-1)
        return jnp.einsum("hij,jhd->ihd", attention, v).reshape(length, WIDTH) @ self.attn_wo[...].T


def name_loss(logits: jax.Array, targets: jax.Array, present: jax.Array) -> jax.Array:
    """Mean cross-entropy in nats over the positions that are present (0 or 1)."""
    log_probability = jax.nn.log_softmax(logits)
    # chosen by a product with a constant, for the reason given in MicroGPT.__call__
    chosen = jnp.sum(log_probability * jax.nn.one_hot(targets, VOCABULARY, dtype=logits.dtype), axis=-1)
    return -jnp.sum(chosen * present) / jnp.sum(present)


BYTES = 128  # ASCII; what is beyond is one more than the last letter


def code_gpt_parameters(rng: np.random.Generator, width: int, layers: int, length: int) -> dict[str, Any]:
    """Initial parameters of :func:`code_gpt`: ``12 layers width² + (128 + length) width`` numbers.

    Matrices of all layers are stacked, (layers, ...), so that a scan runs through them.
    """

    def normal(*shape: int, size: float = 0.02) -> np.ndarray:
        return (size * rng.normal(size=shape)).astype(np.float32)

    deep = 0.02 / (2 * layers) ** 0.5  # what is added to the stream, twice a layer
    return {
        "bytes": normal(BYTES, width),
        "places": normal(length, width),
        "layers": {
            "read": normal(layers, width, 3 * width),
            "mixed": normal(layers, width, width, size=deep),
            "wide": normal(layers, width, 4 * width),
            "narrow": normal(layers, 4 * width, width, size=deep),
        },
    }


def code_gpt(parameters: dict[str, Any], tokens: jax.Array, heads: int = 4) -> jax.Array:
    """Logits (B, T, 128) of bytes (B, T): a GPT whose layers are scanned, each under ``jax.checkpoint``.

    RMSNorm without parameters, causal attention, GELU of four times the width, the embedding shared with the output.
    """
    embedding = parameters["bytes"]
    x = jax.nn.one_hot(tokens, BYTES, dtype=embedding.dtype) @ embedding + parameters["places"][: tokens.shape[1]]
    causal = jnp.tril(jnp.ones((tokens.shape[1], tokens.shape[1]), bool))

    @jax.checkpoint
    def layer(x: jax.Array, p: dict[str, jax.Array]) -> tuple[jax.Array, None]:
        q, k, v = jnp.split((rms_norm(x) @ p["read"]).reshape(*x.shape[:2], heads, -1), 3, axis=-1)
        scores = jnp.einsum("bihd,bjhd->bhij", q, k) / q.shape[-1] ** 0.5
        attention = jax.nn.softmax(jnp.where(causal, scores, -jnp.inf), axis=-1)
        x = x + jnp.einsum("bhij,bjhd->bihd", attention, v).reshape(x.shape) @ p["mixed"]
        return x + jax.nn.gelu(rms_norm(x) @ p["wide"], approximate=False) @ p["narrow"], None

    x, _ = jax.lax.scan(layer, x, parameters["layers"])
    return rms_norm(x) @ embedding.T
