"""What a picture should hold, from a vector of a shared space: the first half of drawing, as in unCLIP (Ramesh 2022).

A perceptron with gates recalls the thing that a vector tells of, as clean latents in a few fixed frames. A vector of a
coloured thing is nearly the sum of the thing's and of what the colour adds, so the colour is read first and taken out,
the thing recalled as it is, and its sketch dyed: things and colours never met together are known as well as others. A
vector of two things is nearly the sum of theirs, so the nearest of the directions that are known is taken out of it to
see the second, and that of the second to see the first (matching pursuit, Mallat and Zhang 1993): two things are known
by the same weights as one. A sketch is the mean of what is meant: sharp where a vector is plain, blurred where not.
Where things stand and how they look in the end is the flow's part, which sees the sketches beside its noise.
"""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

# the frames of a sketch, by the tokens a side: a thing that fills the picture, one put aside, and each of two halves
FRAMES = {"full": 4, "aside": 3, "first": 2, "second": 2}
HELD = sum(side**2 for side in FRAMES.values())
HALF = FRAMES["first"] ** 2
# where a thing put aside begins, in tokens from the top and the left, and where two halves do; half of the layouts of
# one thing fill the picture
ASIDES = ((0, 0), (0, 1), (1, 0), (1, 1))
SINGLES = 2 * len(ASIDES)
PAIRS = (((1, 0), (1, 2)), ((0, 1), (2, 1)), ((0, 0), (2, 2)), ((0, 2), (2, 0)))
SHARPNESS = 40.0  # of the choice among directions, against cosines


class Gated(nn.Module):
    """Products of numbers (Shazeer 2020): (n, width) -> (n, inner)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.into = nn.Linear(width, 2 * inner)

    def forward(self, states: Tensor) -> Tensor:
        gate, value = self.into(self.norm(states)).chunk(2, dim=-1)
        return F.silu(gate) * value


class Dyed(nn.Module):
    """Sketches (n, t, channels) in the colours told by shares (n, dyes), each token by itself."""

    def __init__(self, channels: int, dyes: int, inner: int) -> None:
        super().__init__()
        self.into = nn.Linear(channels, 2 * inner)
        self.by = nn.Linear(dyes, 2 * inner, bias=False)
        self.back = nn.Linear(inner, channels)

    def forward(self, sketches: Tensor, shares: Tensor) -> Tensor:
        gate, value = (self.into(sketches) + self.by(shares)[:, None]).chunk(2, dim=2)
        return sketches + self.back(F.silu(gate) * value)  # type: ignore[no-any-return]


class DrawingPrior(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """vectors (n, dim), unit rows -> sketches (n, 33, channels), the tokens of FRAMES one after another."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        dim: int = 256,
        channels: int = 48,
        width: int = 512,
        inner: int = 640,
        known: int = 1120,
        directions: int = 1120,
        dyes: int = 12,
        dyed: int = 256,
    ) -> None:
        super().__init__()
        self.to_dye = nn.Linear(dim, dyes)
        self.dye_axes = nn.Parameter(torch.zeros(dyes, dim))
        self.into = nn.Linear(dim, width)
        self.hidden = Gated(width, inner)
        self.back = nn.Linear(inner, width)
        self.wide = Gated(width, known)
        self.to_whole = nn.Linear(known, (HELD - 2 * HALF) * channels)
        self.to_half = nn.Linear(known, HALF * channels)
        self.dye = Dyed(channels, dyes, dyed)
        self.axes = nn.Parameter(torch.randn(directions, dim) / dim**0.5)

    def forward(self, vectors: Tensor) -> Tensor:
        """Zeros are taken as they are."""
        return self.coloured(*self.recalled(vectors))

    def recalled(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Sketches in things' own colours, and the shares of the dyes (n, 3, dyes) of the whole and each half."""
        left = self.without_nearest(vectors, vectors)
        seen = torch.stack([vectors, self.without_nearest(vectors, left), left], dim=1)
        shares = torch.softmax(self.to_dye(large(seen)), dim=2)
        one, again, two = self.features(seen - shares @ self.dye_axes).unbind(1)
        parts = [self.to_whole(one), self.to_half(again), self.to_half(two)]
        return torch.cat(parts, dim=1).unflatten(1, (HELD, -1)), shares

    def coloured(self, plain: Tensor, shares: Tensor) -> Tensor:
        """The sketches dyed: of each frame the share of what it shows."""
        parts = plain.split([HELD - 2 * HALF, HALF, HALF], dim=1)
        return torch.cat(
            [self.dye(part, share) for part, share in zip(parts, shares.unbind(1), strict=True)], dim=1
        )

    def without_nearest(self, vectors: Tensor, like: Tensor) -> Tensor:
        """What is left of the vectors (n, dim) without the known direction that is nearest to `like`."""
        known = F.normalize(self.axes, dim=1)
        nearest = torch.softmax(SHARPNESS * F.normalize(like, dim=1) @ known.T, dim=1) @ known
        along = F.normalize(nearest, dim=1)
        return vectors - (vectors * along).sum(1, keepdim=True) * along

    def features(self, things: Tensor) -> Tensor:
        """(…, dim) -> (…, known)."""
        states = self.into(large(things))
        return self.wide(states + self.back(self.hidden(states)))  # type: ignore[no-any-return]

    def sketch(self, vectors: Tensor) -> Tensor:
        """float32; nothing, all zeros, of a vector of zeros."""
        told = vectors.any(dim=1)[:, None, None]
        return self(vectors.to(self.dtype)).float() * told


def large(vectors: Tensor) -> Tensor:
    """Unit rows with numbers of deviation one."""
    return vectors * vectors.shape[-1] ** 0.5


def swap_halves(sketches: Tensor) -> Tensor:
    """With the halves exchanged."""
    rest = sketches[:, : -2 * HALF]
    return torch.cat([rest, sketches[:, -HALF:], sketches[:, -2 * HALF : -HALF]], dim=1)


def apply_layout(sketches: Tensor, layouts: Tensor) -> Tensor:
    """sketches (n, 33, channels), layouts int (n, 2), below SINGLES and PAIRS -> (n, 16, 2 channels): one thing and two
    halves, each where it may stand in a picture of 4 x 4 tokens, and zeros around them."""
    side = FRAMES["full"]
    frames = [part.unflatten(1, (edge, edge)) for part, edge in zip(
        sketches.split([edge**2 for edge in FRAMES.values()], dim=1), FRAMES.values(), strict=True
    )]  # fmt: skip

    def put(paper: Tensor, frame: Tensor, corner: tuple[int, int]) -> Tensor:
        down, across = corner
        paper[:, down : down + frame.shape[1], across : across + frame.shape[2]] = frame
        return paper

    canvases = sketches.new_zeros(2, len(sketches), side, side, sketches.shape[2])
    for place in range(SINGLES):
        rows = (layouts[:, 0] == place).nonzero()[:, 0]
        whole = place < SINGLES - len(ASIDES)
        frame, corner = (frames[0], (0, 0)) if whole else (frames[1], ASIDES[place - SINGLES])
        canvases[0, rows] = put(canvases[0, rows], frame[rows], corner)
    for place, corners in enumerate(PAIRS):
        rows = (layouts[:, 1] == place).nonzero()[:, 0]
        for frame, corner in zip(frames[2:], corners, strict=True):
            canvases[1, rows] = put(canvases[1, rows], frame[rows], corner)
    return torch.cat([canvases[0], canvases[1]], dim=3).flatten(1, 2)
