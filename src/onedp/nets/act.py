"""Action chunking with transformers: a conditional VAE without diffusion (ACT, Zhao et al., arXiv 2304.13705)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from onedp.nets.attention import Attention, feed_forward, sinusoidal_positions
from onedp.nets.backbone import Backbone


class EncoderBlock(nn.Module):
    """Self-attention and a feed-forward part, each behind a layer norm and a skip: ``(B, N, width) -> the same``."""

    def __init__(self, width: int, heads: int, expansion: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.feed_forward = feed_forward(width, expansion)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        x = x + self.attention(h, h)
        return x + self.feed_forward(self.norm2(x))


class DecoderBlock(EncoderBlock):
    """As an encoder block, with attention to a memory in between."""

    def __init__(self, width: int, heads: int, expansion: int):
        super().__init__(width, heads, expansion)
        self.norm_cross = nn.LayerNorm(width)
        self.cross_attention = Attention(width, heads)

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        """``(B or 1, Tp, width), (B, M, width) -> (B, Tp, width)``."""
        assert memory is not None
        h = self.norm1(x)
        x = x + self.attention(h, h)
        x = x + self.cross_attention(self.norm_cross(x), memory)
        return x + self.feed_forward(self.norm2(x))


class Act(Backbone):
    """Policy network with the signature of a denoiser's backbone: ``(B, Tp, Da), (B,), (B, cond_dim) -> (B, Tp, Da)``.

    It looks at neither chunk nor noise level: the answer is the decoder's with the latent at its prior mean, 0, as the
    paper acts (their sec. 4.2). Training gives a ``latent`` (B, latent) around ``posterior``'s mean.

    Other than the paper: one token for each observation step, made of its encoded fields, where they have one for each
    place of the picture's feature map and one for the joints; layer norms before instead of behind; no dropout, whose
    draws would come from no generator of ours.
    """

    positions: Tensor

    def __init__(
        self,
        horizon: int,
        action_dim: int,
        cond_dim: int,
        n_obs_steps: int,
        width: int = 256,
        heads: int = 4,
        expansion: int = 4,
        encoder_blocks: int = 4,
        decoder_blocks: int = 4,
        latent_dim: int = 32,
    ):
        super().__init__()
        self.n_obs_steps, self.latent_dim = n_obs_steps, latent_dim
        block = (width, heads, expansion)
        self.observation_encoder = nn.Linear(cond_dim // n_obs_steps, width)
        self.register_buffer("positions", sinusoidal_positions(max(horizon, n_obs_steps), width), persistent=False)
        # the VAE's encoder, for training only
        self.style_query = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.action_encoder = nn.Linear(action_dim, width)
        self.style_blocks = nn.ModuleList(EncoderBlock(*block) for _ in range(encoder_blocks))
        self.style_head = nn.Linear(width, 2 * latent_dim)
        # its decoder, the policy
        self.latent_encoder = nn.Linear(latent_dim, width)
        self.memory_blocks = nn.ModuleList(EncoderBlock(*block) for _ in range(encoder_blocks))
        self.queries = nn.Parameter(0.02 * torch.randn(1, horizon, width))
        self.chunk_blocks = nn.ModuleList(DecoderBlock(*block) for _ in range(decoder_blocks))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, action_dim)

    def posterior(self, actions: Tensor, cond: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (B, latent) of the latent that stands for how these actions (B, Tp, Da) were done."""
        query = self.style_query.expand(len(actions), -1, -1)
        steps = self.action_encoder(actions) + self.positions[: actions.shape[1]]
        x = torch.cat([query, self._observation_tokens(cond), steps], dim=1)
        for block in self.style_blocks:
            x = block(x)
        mean, log_variance = self.style_head(x[:, 0]).chunk(2, dim=-1)
        return mean, log_variance

    def decode(self, cond: Tensor, latent: Tensor) -> Tensor:
        """Action chunk (B, Tp, Da) for the condition (B, cond_dim) and a latent (B, latent)."""
        memory = torch.cat([self.latent_encoder(latent).unsqueeze(1), self._observation_tokens(cond)], dim=1)
        for block in self.memory_blocks:
            memory = block(memory)
        x = self.queries
        for block in self.chunk_blocks:
            x = block(x, memory)
        return self.head(self.norm(x))

    def forward(self, chunk: Tensor, t: Tensor, cond: Tensor, latent: Tensor | None = None) -> Tensor:
        if latent is None:
            latent = torch.zeros_like(cond[:, :1]).expand(-1, self.latent_dim)
        return self.decode(cond, latent)

    def _observation_tokens(self, cond: Tensor) -> Tensor:
        """``(B, To * features) -> (B, To, width)``."""
        steps = cond.unflatten(1, (self.n_obs_steps, -1))
        return self.observation_encoder(steps) + self.positions[: self.n_obs_steps]
