"""Transformer layers in which only some tokens ask, and only some are looked at.

The layers are MMPretrain's, with their own weights. Fewer tokens cost less.

Letters: B images, L tokens, Q of them that ask, K that are looked at, H heads, D
embedding width.
"""

from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from mmpretrain.models.utils import MultiheadAttention
from torch import Tensor
from torch.nn import functional as F

ALL = slice(None)


def attend(
    attention: MultiheadAttention,
    x: Tensor,
    queries: slice = ALL,
    keys: slice = ALL,
    bias: Tensor | None = None,
) -> Tensor:
    """Fused attention from some tokens to some: no L x L map is made to mask others.

    Args:
        attention: Gives the weights.
        x: Normed tokens (B, L, D).
        queries: Of L, those that ask.
        keys: Of L, those that are looked at.
        bias: Added to the logits, any shape that broadcasts to (B, H, Q, K).

    Returns:
        (B, Q, D).
    """
    weight, offset = attention.qkv.weight, attention.qkv.bias
    width = len(weight) // 3

    def project(tokens: Tensor, rows: slice) -> Tensor:
        """Projections (n, B, H, …, d), for n · D rows of the weight."""
        out = F.linear(tokens, weight[rows], None if offset is None else offset[rows])
        out = out.unflatten(-1, (-1, attention.num_heads, width // attention.num_heads))
        return out.permute(2, 0, 3, 1, 4)

    (q,) = project(x[:, queries], slice(width))
    k, v = project(x[:, keys], slice(width, None))
    out = F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=bias,
        dropout_p=attention.attn_drop if attention.training else 0.0,
    )
    out = attention.proj(out.transpose(1, 2).flatten(2))
    return attention.out_drop(attention.gamma1(attention.proj_drop(out)))


def run_layer(
    layer: TransformerEncoderLayer,
    x: Tensor,
    queries: slice = ALL,
    keys: slice = ALL,
    bias: Tensor | None = None,
) -> Tensor:
    """A whole layer for the tokens that ask, (B, L, D) to (B, Q, D); see `attend`."""
    x = x[:, queries] + attend(layer.attn, layer.ln1(x), queries, keys, bias)
    return layer.ffn(layer.ln2(x), identity=x)
