"""The network: three encoders and one decoder of characters.

Scenes are encoded by the starter's image tower, speech by its audio tower, and charts by a network of its own that
keeps letters legible. The decoder attends to their states. On charts one of its attention heads is trained to point:
the position it points at is an input of the next step.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multimodal.encoders.starter.networks import (
    Attention,
    AudioTower,
    ImageTower,
    Residual,
    convolution,
    padding,
    sinusoids,
)
from multimodal.encoders.starter.omni.vocabulary import MAX_TOKENS, N_CLASSES, N_TOKENS
from multimodal.encoders.starter.parameters import AUDIO_STRIDE, AUDIO_WIDTH, DIM, MAX_FRAMES

CHART_WIDTH, CHART_HEIGHT = 256, 192  # pixels
CELL_WIDTH, CELL_HEIGHT = 4, 8  # pixels per state of a chart
COLUMNS, ROWS = CHART_WIDTH // CELL_WIDTH, CHART_HEIGHT // CELL_HEIGHT
EYE_WIDTH = 96
IMAGE_WIDTH, IMAGE_STATES = 288, 16
VECTOR_STATES = 4  # states made of the vector of an image, which tells its names best
WIDTH, HEADS, LAYERS = 192, 4, 3
POINTING_LAYER = 1  # its head 0 points
SPACE_PERIODS = (512.0, 256.0, 128.0, 64.0, 32.0, 16.0, 8.0)  # pixels
VALUE_PERIODS = (400.0, 200.0, 100.0, 50.0, 20.0, 10.0, 5.0)  # units of the axis
PLACE_FEATURES = 4 * len(SPACE_PERIODS) + 2 * len(VALUE_PERIODS) + 2
ABSENT = math.nan


def place_features(places: Tensor) -> Tensor:
    """Sinusoids of positions and axis values.

    Args:
        places: (..., 3): x and y in pixels of the chart, and the value there in units of the axis; NaN where absent.

    Returns:
        (..., PLACE_FEATURES) float32: zero where absent, and two columns that say what is present.
    """
    parts = []
    for column, periods in ((0, SPACE_PERIODS), (1, SPACE_PERIODS), (2, VALUE_PERIODS)):
        number = places[..., column : column + 1].float()
        is_known = ~number.isnan()
        angles = number.nan_to_num() * (2 * math.pi / torch.tensor(periods, device=places.device))
        parts += [angles.sin() * is_known, angles.cos() * is_known]
        if column != 0:
            parts.append(is_known.float())
    return torch.cat(parts, dim=-1)


def cell_centres() -> Tensor:
    """(cells, 3): x and y of the centre of each state of a chart in pixels, and NaN for the value."""
    y, x = torch.meshgrid(torch.arange(ROWS), torch.arange(COLUMNS), indexing="ij")
    centres = torch.stack([(x + 0.5) * CELL_WIDTH, (y + 0.5) * CELL_HEIGHT], dim=-1).view(-1, 2)
    return torch.cat([centres, torch.full((len(centres), 1), ABSENT)], dim=1)


class ChartEye(nn.Module):
    """A residual ConvNet on grey charts, with one state per cell of 4 × 8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Sequential(
            convolution(1, 32, stride=2), nn.ReLU(),
            convolution(32, 48, stride=2), nn.ReLU(), Residual(48),
            nn.Conv2d(48, EYE_WIDTH, 3, (2, 1), 1, bias=False), nn.BatchNorm2d(EYE_WIDTH), nn.ReLU(),
            Residual(EYE_WIDTH), Residual(EYE_WIDTH),
        )  # fmt: skip
        self.classes = nn.Linear(EYE_WIDTH, N_CLASSES)
        self.shift = nn.Linear(EYE_WIDTH, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels (n, 1, CHART_HEIGHT, CHART_WIDTH) uint8 -> states (n, cells, EYE_WIDTH)."""
        maps = self.maps((pixels.float() / 127.5 - 1).to(self.shift.weight.dtype))
        return maps.flatten(2).transpose(1, 2)

    def positions(self, states: Tensor) -> Tensor:
        """states (n, cells, EYE_WIDTH) -> (n, cells, 2): what each cell holds lies at this x and y in pixels."""
        size = torch.tensor([CELL_WIDTH, CELL_HEIGHT], device=states.device)
        shift = self.shift(states.to(self.shift.weight.dtype)).float()
        return cell_centres()[:, :2].to(states.device) + shift * size


class CrossAttention(nn.Module):
    """Multi-head attention of the decoder to the states of an encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(
        self, states: Tensor, keys: Tensor, values: Tensor, blocked: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """states (n, t, WIDTH), keys and values (n, HEADS, s, d) -> (n, t, WIDTH), scores of head 0 (n, t, s)."""
        n, t, _ = states.shape
        query = self.query(states).view(n, t, HEADS, WIDTH // HEADS).transpose(1, 2)
        query = query / math.sqrt(WIDTH // HEADS)
        scores = query @ keys.transpose(-1, -2)
        if blocked is not None:
            scores = scores + blocked.to(query.dtype)
        mixed = torch.softmax(scores, dim=-1) @ values
        return self.out(mixed.transpose(1, 2).reshape(n, t, WIDTH)), scores[:, 0].float()


class DecoderBlock(nn.Module):
    """Pre-norm block: causal self-attention, attention to an encoder if `sees`, MLP with squared ReLU."""

    def __init__(self, *, sees: bool) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.LayerNorm(WIDTH), Attention(WIDTH, HEADS)
        self.cross_norm = nn.LayerNorm(WIDTH) if sees else None
        self.cross = CrossAttention() if sees else None
        self.wide_norm, self.wide = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * WIDTH)
        self.narrow = nn.Linear(3 * WIDTH, WIDTH)

    def forward(
        self, states: Tensor, causal: Tensor, memory: tuple[Tensor, Tensor] | None, blocked: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """-> states (n, t, WIDTH), and the scores of head 0 if it attends to the encoder's keys and values."""
        states = states + self.attention(self.attention_norm(states), causal)
        scores = None
        if memory is not None and self.cross is not None and self.cross_norm is not None:
            seen, scores = self.cross(self.cross_norm(states), *memory, blocked)
            states = states + seen
        return states + self.narrow(F.relu(self.wide(self.wide_norm(states))).square()), scores


class Memory(nn.Module):
    """Keys and values of encoder states, shared by the layers of the decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.chart, self.image = nn.Linear(EYE_WIDTH, WIDTH), nn.Linear(IMAGE_WIDTH, WIDTH)
        self.speech = nn.Linear(AUDIO_WIDTH, WIDTH)
        self.chart_place = nn.Linear(PLACE_FEATURES, WIDTH)
        self.image_place = nn.Parameter(0.02 * torch.randn(IMAGE_STATES, WIDTH))
        self.image_vector = nn.Linear(DIM, VECTOR_STATES * WIDTH)
        self.norm, self.both = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2 * WIDTH)
        self.register_buffer("centres", place_features(cell_centres()), persistent=False)
        self.register_buffer("times", sinusoids(MAX_FRAMES // AUDIO_STRIDE + 1, WIDTH), persistent=False)

    centres: Tensor
    times: Tensor

    def of_chart(self, states: Tensor, cells: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """states of all cells, or of `cells` (n, s) int64 alone."""
        places = self.chart_place(self.centres.to(states.dtype))
        return self.split(self.chart(states) + (places if cells is None else places[cells]))

    def of_image(self, states: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """states (n, IMAGE_STATES, IMAGE_WIDTH) and vectors (n, DIM) of unit length."""
        scaled = (math.sqrt(DIM) * vectors).to(states.dtype)
        whole = self.image_vector(scaled).view(-1, VECTOR_STATES, WIDTH)
        return self.split(torch.cat([self.image(states) + self.image_place, whole], dim=1))

    def of_speech(self, states: Tensor) -> tuple[Tensor, Tensor]:
        return self.split(self.speech(states) + self.times[: states.shape[1]].to(states.dtype))

    def split(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """states (n, s, WIDTH) -> keys and values (n, HEADS, s, WIDTH / HEADS)."""
        n, s, _ = states.shape
        both = self.both(self.norm(states)).view(n, s, 2, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        keys, values = both.unbind()
        return keys, values


class Decoder(nn.Module):
    """Characters -> the next character, and where on a chart it stands."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(N_TOKENS, WIDTH)
        self.positions = nn.Parameter(0.02 * torch.randn(MAX_TOKENS, WIDTH))
        self.places = nn.Linear(PLACE_FEATURES, WIDTH)
        self.blocks = nn.ModuleList(DecoderBlock(sees=layer > 0) for layer in range(LAYERS))
        self.norm, self.out = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, N_TOKENS)

    def forward(
        self,
        tokens: Tensor,
        places: Tensor | None,
        memory: tuple[Tensor, Tensor],
        blocked: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One step for every prefix. With places, only the layer that points attends to the encoder, which saves time.

        Args:
            tokens: (n, t) int64, the task first.
            places: (n, t, 3), where each token was read, as for `place_features`; None for none.
            memory: Keys and values of the encoder.
            blocked: (n, 1, 1, s), -inf for padding of the encoder's states; None for no padding.

        Returns:
            Logits (n, t, N_TOKENS) of the next token, and the scores (n, t, s) of the head that points.
        """
        t = tokens.shape[1]
        states = self.tokens(tokens) + self.positions[:t]
        if places is not None:
            states = states + self.places(place_features(places).to(states.dtype))
        causal = torch.full((t, t), -torch.inf, device=tokens.device).triu(1)
        pointing = torch.empty(0)
        for layer, block in enumerate(self.blocks):
            attends = layer == POINTING_LAYER or places is None
            states, scores = block(states, causal, memory if attends else None, blocked)
            if layer == POINTING_LAYER:
                pointing = scores
        return self.out(self.norm(states)), pointing


class OmniNet(nn.Module):
    """All parts: `chart_eye`, the towers `image` and `audio`, `memory` and `decoder`."""

    def __init__(self) -> None:
        super().__init__()
        self.chart_eye = ChartEye()
        self.image = ImageTower()
        self.audio = AudioTower()
        self.memory, self.decoder = Memory(), Decoder()

    def chart_memory(self, states: Tensor, cells: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """States of the chart eye, of all cells or of `cells` (n, s) int64 alone -> keys and values."""
        return self.memory.of_chart(states, cells)

    def image_states(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """pixels (n, 3, 64, 64) uint8 -> states (n, IMAGE_STATES, IMAGE_WIDTH) and vectors (n, DIM)."""
        maps = self.image.feature_maps(pixels)
        return maps.flatten(2).transpose(1, 2), self.image.vectors(maps)

    def image_memory(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """pixels (n, 3, 64, 64) uint8 -> keys and values."""
        return self.memory.of_image(*self.image_states(pixels))

    def speech_memory(
        self, mels: Tensor, lengths: Tensor
    ) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor, Tensor]:
        """mels (n, frames, 64), lengths (n,) -> keys and values, blocked (n, 1, 1, s), states and their lengths."""
        states, lengths = self.audio.states(mels, lengths)
        return self.memory.of_speech(states), padding(lengths, states.shape[1])[1], states, lengths
