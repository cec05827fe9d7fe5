"""Decodes audio files: libsndfile first, then PyAV where libsndfile refuses a file or stops before its end.

A file may hold several streams end to end, which are decoded one after another. What no decoder reads is an error if
there is no audio at all, and a `MediaWarning` otherwise.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np

from multimodal.core.errors import (
    MediaCorrupt,
    MediaError,
    MediaTooLarge,
    MediaUnsupported,
    MediaWarning,
    MissingExtra,
)
from multimodal.core.limits import get_limits
from multimodal.core.media import audio_layout
from multimodal.core.media.ffmpeg import import_av, open_av
from multimodal.core.media.resampling import resample
from multimodal.core.media.sniff import signature, unsupported
from multimodal.core.modality import Waveform

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK_SAMPLES = 1 << 18  # 262,144: 5.5 s at 48 kHz
UNKNOWN_LENGTH = 1 << 62  # libsndfile gives 2**63 - 1 for a stream without a length
MAX_DAMAGED = 0.5  # a file is refused if a larger part of its packets cannot be decoded
CURE = "copy or download it again"


def decode_file(file: BinaryIO, name: str) -> Iterator[Waveform]:
    """Blocks of mono audio, of all streams in a file, at the rate of the first.

    Args:
        file: a seekable binary file.
        name: of the file, for messages.

    Yields:
        At least one Waveform.

    Raises:
        MediaError: MediaUnsupported, MediaCorrupt or MediaTooLarge.
        MissingExtra: the format needs PyAV.
    """
    first, head = audio_layout.after_id3(file)
    size = file.seek(0, io.SEEK_END)
    if audio_layout.demuxer_of(head) in ("mp3", "aac"):
        first = 0  # their decoders skip the tag
    starts = audio_layout.ogg_streams(file, first) if head[:4] == b"OggS" else [first]
    rate_hz, n_samples = 0, 0
    while starts:
        start, *starts = starts
        end = starts[0] if starts else size
        part = file
        if start > 0 or end < size:
            part = cast("BinaryIO", io.BufferedReader(audio_layout.FileSection(file, start, end)))
        stream = _Stream(part, name if start == first else f"{name} (from byte {start:,})")
        try:
            for block in _at_rate(stream.blocks(), rate_hz):
                rate_hz, n_samples = block.rate_hz, n_samples + len(block.samples)
                get_limits().check_seconds(n_samples, rate_hz, name)
                yield block
        except MediaError as error:
            if start == first or isinstance(error, MediaTooLarge):
                raise
            _warn(
                f"{name}: {size - start:,} bytes at its end, from byte {start:,} on, were not read: {error}"
            )
        if stream.next_start is not None:
            starts = [start + stream.next_start, *starts]


def _at_rate(blocks: Iterator[Waveform], rate_hz: int) -> Iterator[Waveform]:
    """Blocks at a rate; 0 for their own. A stream of another rate is resampled as a whole."""
    first = next(blocks)
    if rate_hz in (0, first.rate_hz):
        yield first
        yield from blocks
    else:
        samples = np.concatenate([block.samples for block in itertools.chain([first], blocks)])
        yield resample(Waveform(samples, first.rate_hz), rate_hz)


class _Stream:
    """One stream of audio.

    Attributes:
        next_start: the offset in `file` at which another stream begins; known after the last block.
        n_stated: the number of samples by its header, once libsndfile has read it; 0 if unknown.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file, self.name = file, name
        _, self.head = audio_layout.after_id3(file)
        self.next_start: int | None = None
        self.n_stated = 0

    def blocks(self) -> Iterator[Waveform]:
        """Decodes it. Yields at least one block."""
        decoder = signature(self.head).decoder
        if decoder in ("pillow", "heif"):
            raise unsupported(self.name, self.head, "audio")
        if decoder.startswith("av:"):
            blocks, rate_hz = _decode_av(self.file, self.name, decoder)
            yield from _not_empty(_mono(blocks, rate_hz, self.name), self.name)
        else:
            yield from self._by_soundfile()

    def _by_soundfile(self) -> Iterator[Waveform]:
        n_samples, reason, unread = 0, "", 0
        with _descriptor_kept(self.file):
            try:
                for block in self._decode_soundfile():
                    n_samples += len(block.samples)
                    yield block
            except _soundfile_error() as error:
                reason = error.error_string
            position = _position(self.file)
        if not reason and n_samples:
            self.next_start, unread = audio_layout.after_audio(self.file, self.head, position)
            if self.next_start is not None or unread == 0:
                return
        yield from self._by_second_decoder(n_samples, reason, unread)

    def _by_second_decoder(self, n_read: int, reason: str, unread: int) -> Iterator[Waveform]:
        """What PyAV reads after the `n_read` samples of libsndfile, which gave a reason or left bytes unread."""
        if not signature(self.head).decoder:
            raise unsupported(self.name, self.head, "audio")
        demuxer = audio_layout.demuxer_of(self.head)
        n_more, hint = 0, ""
        if reason or not n_read or demuxer in audio_layout.EXACT_DEMUXERS:
            try:
                blocks, rate_hz = _decode_av(self.file, self.name, f"av:{demuxer}", skip_damaged=True)
                for block in _mono(_without(blocks, n_read), rate_hz, self.name, already=n_read):
                    n_more += len(block.samples)
                    yield block
            except MissingExtra:
                hint = "; PyAV may read it: pip install 'multimodal[av]'"
            except (MediaCorrupt, MediaUnsupported):
                if n_more:
                    raise
        if n_more:
            self._check_rest(n_read + n_more)
            return
        if reason:
            after = f" after {n_read:,} samples" if n_read else ""
            raise MediaCorrupt(
                f"{self.name}: starts like audio but cannot be decoded{after} ({reason}); {CURE}{hint}"
            )
        if not n_read:
            raise MediaCorrupt(f"{self.name}: holds no audio samples; record or export it again{hint}")
        self._warn_unread(unread, hint)

    def _check_rest(self, n_samples: int) -> None:
        """Looks for what PyAV left out, and warns of it."""
        if n_samples < self.n_stated:
            _warn(
                f"{self.name}: is damaged: its header states {self.n_stated:,} samples, and {n_samples:,} could be "
                f"decoded; {CURE}"
            )
        end = audio_layout.data_end(self.file, self.head)
        if end is not None:
            self.next_start, unread = audio_layout.after_audio(self.file, self.head, end)
            if unread:
                self._warn_unread(unread)

    def _warn_unread(self, n_bytes: int, hint: str = "") -> None:
        _warn(
            f"{self.name}: {n_bytes:,} bytes after the audio that its header states were not read; if audio is "
            f"missing, export it again{hint}"
        )

    def _decode_soundfile(self) -> Iterator[Waveform]:
        """Leaves the file, or its descriptor, at the position where libsndfile stopped."""
        import soundfile

        file, name = self.file, self.name
        file.seek(0)
        if (descriptor := _descriptor(file)) is None:
            opened = soundfile.SoundFile(file)
        else:
            # By descriptor, libsndfile reads without calling back into Python and ignores the suffix (.raw …).
            # Rewound by lseek: seek(0) inside Python's buffer leaves the descriptor where it was.
            os.lseek(descriptor, 0, os.SEEK_SET)
            opened = soundfile.SoundFile(descriptor, closefd=False)
        with opened as reader:
            if reader.frames < UNKNOWN_LENGTH:
                self.n_stated = reader.frames
                get_limits().check_seconds(self.n_stated, reader.samplerate, name)
            yield from _mono(_soundfile_blocks(reader), reader.samplerate, name)


def _warn(message: str) -> None:
    warnings.warn(message, MediaWarning, stacklevel=2)


# --- libsndfile -----------------------------------------------------------------------------------------


def _soundfile_error() -> type[Any]:
    import soundfile

    error: type[Any] = soundfile.LibsndfileError
    return error


def _descriptor(file: BinaryIO) -> int | None:
    """The descriptor of a file on disk; None for bytes, or a section of a file."""
    on_disk = isinstance(file, io.BufferedReader) and isinstance(file.raw, io.FileIO)
    return file.fileno() if on_disk else None


def _position(file: BinaryIO) -> int:
    """The offset at which libsndfile stopped reading."""
    descriptor = _descriptor(file)
    return file.tell() if descriptor is None else os.lseek(descriptor, 0, os.SEEK_CUR)


@contextlib.contextmanager
def _descriptor_kept(file: BinaryIO) -> Iterator[None]:
    """Restores the position of the descriptor, which Python's buffer does not know to have moved."""
    descriptor = _descriptor(file)
    if descriptor is None:
        yield
        return
    position = os.lseek(descriptor, 0, os.SEEK_CUR)
    try:
        yield
    finally:
        os.lseek(descriptor, position, os.SEEK_SET)


def _soundfile_blocks(reader: Any) -> Iterator[NDArray[np.float32]]:
    """Blocks (n, channels), to the end of the file."""
    while len(block := reader.read(BLOCK_SAMPLES, dtype="float32", always_2d=True)):
        yield block


def _mono(
    blocks: Iterator[NDArray[np.float32]], rate_hz: int, name: str, *, already: int = 0
) -> Iterator[Waveform]:
    """Mixes blocks (n, channels) to mono (n,), checks them, and stops at the limits. already: samples before them."""
    n_samples = already
    for block in blocks:
        n_samples += len(block)
        get_limits().check_seconds(n_samples, rate_hz, name)
        mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
        if not np.isfinite(mono).all():
            raise MediaCorrupt(f"{name}: its samples hold NaN or infinity; export it again as 16-bit PCM")
        yield Waveform(mono, rate_hz)


def _not_empty(blocks: Iterator[Waveform], name: str) -> Iterator[Waveform]:
    is_empty = True
    for block in blocks:
        is_empty = False
        yield block
    if is_empty:
        raise MediaCorrupt(f"{name}: holds no audio samples; record or export it again")


def _without(blocks: Iterator[NDArray[np.float32]], n_samples: int) -> Iterator[NDArray[np.float32]]:
    """Blocks (n, channels) without the first `n_samples` of them in all."""
    for block in blocks:
        if len(kept := block[n_samples:]):
            yield kept
        n_samples = max(0, n_samples - len(block))


# --- PyAV -----------------------------------------------------------------------------------------------


def _decode_av(
    file: BinaryIO, name: str, decoder: str, *, skip_damaged: bool = False
) -> tuple[Iterator[NDArray[np.float32]], int]:
    """Blocks (n, channels) of the first audio stream, and their rate in Hz. The blocks raise MediaCorrupt.

    skip_damaged: leave out packets that cannot be decoded, with a warning, as ffmpeg does.
    """
    av = import_av(name)
    container = open_av(file, name, decoder)
    try:
        if not container.streams.audio:
            raise MediaUnsupported(f"{name}: has no audio track")
        stream = container.streams.audio[0]
        rate_hz = int(stream.rate or 0)
        if rate_hz < 1:
            raise MediaCorrupt(f"{name}: its audio track states no sampling rate; export it again")
        if stream.duration is not None and stream.time_base is not None:
            get_limits().check_seconds(int(stream.duration * stream.time_base * rate_hz), rate_hz, name)
        elif container.duration is not None and container.duration > 0:
            get_limits().check_seconds(container.duration * rate_hz // av.time_base, rate_hz, name)
    except BaseException:
        container.close()
        raise
    return _av_blocks(av, container, stream, name, skip_damaged), rate_hz


def _av_blocks(
    av: Any, container: Any, stream: Any, name: str, skip_damaged: bool
) -> Iterator[NDArray[np.float32]]:
    """Blocks (n, channels), converted to float at the rate of the stream. Closes the container."""
    to_float = _ToFloat(av, stream.rate)
    n_packets, n_damaged = 0, 0
    with container:
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
                frames = [] if packet is None else packet.decode()
            except av.FFmpegError as error:
                n_damaged += 1
                if not skip_damaged or n_damaged > MAX_DAMAGED * (n_packets + 1) + 1:
                    raise MediaCorrupt(
                        f"{name}: its audio track cannot be decoded ({error.strerror}); {CURE}"
                    ) from error
                continue
            n_packets += 1
            for frame in frames:
                yield from to_float(frame)
            if packet is None:
                break
        yield from to_float(None)
    if n_damaged:
        _warn(
            f"{name}: {n_damaged:,} of its {n_packets + n_damaged:,} packets are damaged and were left out; {CURE}"
        )


class _ToFloat:
    """Converts frames to float blocks (n, channels) at one rate, although a stream may change its format."""

    def __init__(self, av: Any, rate_hz: int) -> None:
        self.av, self.rate_hz = av, rate_hz
        self.resampler: Any = None
        self.format: tuple[str, str, int] | None = None

    def __call__(self, frame: Any | None) -> Iterator[NDArray[np.float32]]:
        """The blocks of a frame; None for what is left at the end."""
        described = None if frame is None else (frame.format.name, frame.layout.name, frame.sample_rate)
        if described != self.format:
            if self.resampler is not None:
                yield from self._converted(None)
            self.resampler = self.av.AudioResampler(format="fltp", rate=self.rate_hz)
            self.format = described
        if frame is not None:
            yield from self._converted(frame)

    def _converted(self, frame: Any | None) -> Iterator[NDArray[np.float32]]:
        for converted in self.resampler.resample(frame):
            yield converted.to_ndarray().T
