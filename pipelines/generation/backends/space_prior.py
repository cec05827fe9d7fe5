"""The prior of the generator: predicts latent sketches from a vector of a shared space, as in unCLIP (Ramesh 2022).

A gated MLP maps the vector of an object to clean latents in a few fixed frames. The vector of a coloured object is
nearly the sum of the object's vector and a colour component, so the colour is predicted first and subtracted, the
object is predicted without it, and its sketch is recoloured. This generalises to unseen pairs of object and colour. The
vector of two objects is nearly the sum of theirs, so the nearest known direction is removed to obtain the second
object, and that of the second to obtain the first (matching pursuit, Mallat and Zhang 1993); the same weights serve one
and two objects. A sketch is a conditional mean: sharp for an unambiguous vector, blurred otherwise. Position and
appearance are decided by the flow, which is conditioned on the sketches.
"""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

# frames of a sketch and their edge in tokens: an object that fills the image, a smaller one, and each of two halves
FRAMES = {"full": 4, "aside": 3, "first": 2, "second": 2}
HELD = sum(side**2 for side in FRAMES.values())
HALF = FRAMES["first"] ** 2
# top left corners of the smaller object and of the two halves, in tokens; in half of the layouts of a single object it
# fills the image
ASIDES = ((0, 0), (0, 1), (1, 0), (1, 1))
SINGLES = 2 * len(ASIDES)
PAIRS = (((1, 0), (1, 2)), ((0, 1), (2, 1)), ((0, 0), (2, 2)), ((0, 2), (2, 0)))
SHARPNESS = 40.0  # inverse temperature of the softmax over directions, by cosine


class Gated(nn.Module):
    """Gated linear unit (Shazeer 2020): (n, width) -> (n, inner)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.into = nn.Linear(width, 2 * inner)

    def forward(self, states: Tensor) -> Tensor:
        gate, value = self.into(self.norm(states)).chunk(2, dim=-1)
        return F.silu(gate) * value


class Dyed(nn.Module):
    """Recolours sketches (n, t, channels) by colour weights (n, dyes), token by token."""

    def __init__(self, channels: int, dyes: int, inner: int) -> None:
        super().__init__()
        self.into = nn.Linear(channels, 2 * inner)
        self.by = nn.Linear(dyes, 2 * inner, bias=False)
        self.back = nn.Linear(inner, channels)

    def forward(self, sketches: Tensor, shares: Tensor) -> Tensor:
        gate, value = (self.into(sketches) + self.by(shares)[:, None]).chunk(2, dim=2)
        return sketches + self.back(F.silu(gate) * value)  # type: ignore[no-any-return]


class DrawingPrior(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Unit vectors (n, dim) -> sketches (n, 33, channels), the tokens of FRAMES concatenated."""

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
        """Vectors (n, dim) -> sketches (n, 33, channels). All-zero vectors are allowed."""
        return self.coloured(*self.recalled(vectors))

    def recalled(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Sketches without added colour, and the colour weights (n, 3, dyes) of the whole image and each half."""
        left = self.without_nearest(vectors, vectors)
        seen = torch.stack([vectors, self.without_nearest(vectors, left), left], dim=1)
        shares = torch.softmax(self.to_dye(large(seen)), dim=2)
        whole, first_half, second_half = self.features(seen - shares @ self.dye_axes).unbind(1)
        parts = [self.to_whole(whole), self.to_half(first_half), self.to_half(second_half)]
        return torch.cat(parts, dim=1).unflatten(1, (HELD, -1)), shares

    def coloured(self, plain: Tensor, shares: Tensor) -> Tensor:
        """The sketches recoloured, each frame by the weights of its part."""
        parts = plain.split([HELD - 2 * HALF, HALF, HALF], dim=1)
        return torch.cat(
            [self.dye(part, share) for part, share in zip(parts, shares.unbind(1), strict=True)], dim=1
        )

    def without_nearest(self, vectors: Tensor, like: Tensor) -> Tensor:
        """Vectors (n, dim) minus their component along the known direction that is nearest to `like`."""
        known = F.normalize(self.axes, dim=1)
        nearest = torch.softmax(SHARPNESS * F.normalize(like, dim=1) @ known.T, dim=1) @ known
        along = F.normalize(nearest, dim=1)
        return vectors - (vectors * along).sum(1, keepdim=True) * along

    def features(self, vectors: Tensor) -> Tensor:
        """(…, dim) -> (…, known)."""
        states = self.into(large(vectors))
        return self.wide(states + self.back(self.hidden(states)))  # type: ignore[no-any-return]

    def sketch(self, vectors: Tensor) -> Tensor:
        """float32 sketches; zeros for an all-zero vector."""
        is_set = vectors.any(dim=1)[:, None, None]
        return self(vectors.to(self.dtype)).float() * is_set


def large(vectors: Tensor) -> Tensor:
    """Unit rows scaled to standard deviation 1."""
    return vectors * vectors.shape[-1] ** 0.5


def swap_halves(sketches: Tensor) -> Tensor:
    """The sketches with their two halves exchanged."""
    rest = sketches[:, : -2 * HALF]
    return torch.cat([rest, sketches[:, -HALF:], sketches[:, -2 * HALF : -HALF]], dim=1)


def apply_layout(sketches: Tensor, layouts: Tensor) -> Tensor:
    """Places the frames of sketches on canvases of 4 x 4 tokens: the single object and the two halves, zeros elsewhere.

    sketches: (n, 33, channels). layouts: int (n, 2), below SINGLES and len(PAIRS). Returns (n, 16, 2 channels).
    """
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
