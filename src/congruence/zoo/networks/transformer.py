"""A small vision transformer whose sublayers have the four tap points of Kornblith et al. 2019, F.1."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from congruence.errors import ParameterError


class ChannelScale(nn.Module):
    """The gain and bias of a layer norm, apart from the normalisation."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled features."""
        return x * self.gain + self.bias


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inputs = nn.Linear(dim, 3 * dim)
        self.output = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return what every token gathers, shape (n, t, dim)."""
        n, t, dim = x.shape
        queries, keys, values = self.inputs(x).reshape(n, t, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(queries @ keys.transpose(-2, -1) / (dim // self.heads) ** 0.5, dim=-1)
        return torch.as_tensor(self.output((weights @ values).transpose(1, 2).reshape(n, t, dim)))


class FeedForward(nn.Module):
    """Two linear maps with a GELU between them, four times as wide."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.inner = nn.Linear(dim, 4 * dim)
        self.output = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return shape (n, t, dim)."""
        return torch.as_tensor(self.output(functional.gelu(self.inner(x))))


class Sublayer(nn.Module):
    """Norm, scale and body beside the residual."""

    def __init__(self, dim: int, body: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.scale = ChannelScale(dim)
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """Return the input plus what the body makes of it."""
        return torch.as_tensor(x + self.body(self.scale(self.norm(x))))


class Block(nn.Module):
    """Attention, then a feed-forward network."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention = Sublayer(dim, Attention(dim, heads))
        self.feedforward = Sublayer(dim, FeedForward(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return shape (n, t, dim)."""
        return torch.as_tensor(self.feedforward(self.attention(x)))


class VisionTransformer(nn.Module):
    """Patches to tokens, blocks, and logits from the class token.

    Parameters
    ----------
    shape : tuple of int
        Channels, height and width of the images.
    classes, depth, dim, heads, patch : int
        Numbers of classes, blocks, features and heads; side of a patch.
    """

    def __init__(self, shape: tuple[int, ...], classes: int, depth: int, dim: int, heads: int, patch: int) -> None:
        super().__init__()
        channels, height, width = shape
        if height % patch or width % patch:
            message = f"vit.patch must divide the side of the images; got {patch} for {height} x {width}. Choose one that does, as in vit:patch=4."
            raise ParameterError(message)
        tokens = 1 + (height // patch) * (width // patch)
        self.patch = patch
        self.embed = nn.Linear(channels * patch * patch, dim)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, dim))
        self.position = nn.Parameter(0.02 * torch.randn(1, tokens, dim))
        self.blocks = nn.Sequential(*(Block(dim, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.logits = nn.Linear(dim, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, shape (n, classes)."""
        n, channels, height, width = images.shape
        p, rows, columns = self.patch, height // self.patch, width // self.patch
        cells = images.reshape(n, channels, rows, p, columns, p).permute(0, 2, 4, 1, 3, 5)
        tokens = self.embed(cells.reshape(n, rows * columns, channels * p * p))
        x = torch.cat([self.token.expand(n, -1, -1), tokens], dim=1) + self.position
        return torch.as_tensor(self.logits(self.norm(self.blocks(x))[:, 0]))
