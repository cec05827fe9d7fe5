"""Does a damaged item still find itself among the undamaged ones?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from multimodal.auditing.checks.common import NotTested, Subject, clip_item, interval, nearest
from multimodal.auditing.finding import Example, Finding
from multimodal.auditing.generators.audio import AUDIO_KINDS, damage_audio
from multimodal.auditing.generators.images import KINDS, damage
from multimodal.core.items import Image, Item
from multimodal.core.modality import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.auditing.checks.common import Rows

FEWEST = 10
MEAN_LIMIT, MIDDLE_LIMIT = 0.80, 0.50
MIDDLE = 3  # the severity of the second limit
CONTROL = "undamaged items"
LIMIT = (
    f"the mean is below {MEAN_LIMIT:.2f} of the control, or severity {MIDDLE} below {MIDDLE_LIMIT:.2f} of it"
)


def image_corruption(subject: Subject) -> list[Finding]:
    """One finding for each kind of damage to images, and their mean."""
    subject.needs(Modality.IMAGE)
    stack = subject.material.images
    _enough(stack, "images")

    def damaged(kind: str, severity: int) -> list[Item]:
        return [Image(pixels) for pixels in damaged_images(subject, kind, severity)]

    return _findings(
        subject, "image", list(KINDS), subject.clean_images(), damaged, [Image(pixels) for pixels in stack]
    )


def audio_corruption(subject: Subject) -> list[Finding]:
    """One finding for each kind of damage to audio, and their mean."""
    subject.needs(Modality.AUDIO)
    clips = subject.material.clips
    _enough(clips, "clips")

    def damaged(kind: str, severity: int) -> list[Item]:
        return [
            clip_item(
                damage_audio(clip, kind, severity, clips[:place] + clips[place + 1 :], subject.seed + place)
            )
            for place, clip in enumerate(clips)
        ]

    return _findings(
        subject, "audio", list(AUDIO_KINDS), subject.clean_clips(), damaged, list(map(clip_item, clips))
    )


def damaged_images(subject: Subject, kind: str, severity: int) -> list[NDArray[np.uint8]]:
    """All images with one kind of damage."""
    return [
        damage(pixels, kind, severity, subject.seed + place)
        for place, pixels in enumerate(subject.material.images)
    ]


def damaged_vectors(subject: Subject, kind: str, severity: int) -> Rows:
    """The vectors of all images with one kind of damage, computed once."""
    rows: Rows = subject.once(
        f"damaged {kind} {severity}", lambda: subject.images(damaged_images(subject, kind, severity))
    )
    return rows


def _enough(items: Sequence[Any], what: str) -> None:
    if len(items) < FEWEST:
        raise NotTested(f"{len(items)} {what}, at least {FEWEST} are needed")


def _findings(
    subject: Subject,
    what: str,
    kinds: Sequence[str],
    clean: Rows,
    damaged: Callable[[str, int], list[Item]],
    originals: Sequence[Item],
) -> list[Finding]:
    """A finding for each kind and one for the mean over kinds."""
    import numpy as np

    every = np.arange(len(clean))
    control = float((nearest(clean, clean) == every).mean())
    findings, per_item = [], np.zeros(len(clean))
    names = subject.material.image_names if what == "image" else subject.material.clip_names
    for kind in kinds:
        found: dict[int, NDArray[np.bool_]] = {}
        answers: dict[int, NDArray[np.int64]] = {}
        items: list[Item] = []
        for severity in subject.severities:
            items = damaged(kind, severity) if what == "audio" else []
            is_audio = what == "audio"
            rows = subject.encode(items) if is_audio else damaged_vectors(subject, kind, severity)
            answers[severity] = nearest(rows, clean)
            found[severity] = answers[severity] == every
        shares = np.mean([found[severity] for severity in subject.severities], axis=0)
        per_item += shares / len(kinds)
        examples = _examples(found, answers, lambda s, kind=kind: damaged(kind, s), originals, names)  # type: ignore[misc]
        findings.append(_kind_finding(what, kind, shares, found, control, subject.seed, examples))
    value, low, high = interval(per_item, subject.seed)
    warns = value < MEAN_LIMIT * control
    findings.insert(
        0,
        Finding(
            f"{what}: all damage",
            "corruption",
            "warn" if warns else "fine",
            f"{value:.0%} of damaged {'images' if what == 'image' else 'clips'} still find themselves, "
            f"over {len(kinds)} kinds",
            value,
            low,
            high,
            CONTROL,
            control,
            f"below {MEAN_LIMIT:.2f} of the control",
            len(clean),
            "train with augmentation of the kinds that fail below" if warns else "",
        ),
    )
    return findings


def _kind_finding(
    what: str,
    kind: str,
    shares: NDArray[np.float64],
    found: dict[int, NDArray[np.bool_]],
    control: float,
    seed: int,
    examples: tuple[Example, ...],
) -> Finding:
    value, low, high = interval(shares, seed)
    by_severity = {str(severity): round(float(flags.mean()), 4) for severity, flags in found.items()}
    middle = by_severity.get(str(MIDDLE), value)
    warns = value < MEAN_LIMIT * control or middle < MIDDLE_LIMIT * control
    return Finding(
        f"{what}: {kind}",
        "corruption",
        "warn" if warns else "fine",
        f"{kind}: {value:.0%} still find themselves; at severity {MIDDLE}, {middle:.0%}",
        value,
        low,
        high,
        CONTROL,
        control,
        LIMIT,
        len(shares),
        f"add {kind} to the augmentation of the {what} tower, or refuse such input" if warns else "",
        examples if warns else (),
        {"by severity": by_severity},
    )


def _examples(
    found: dict[int, NDArray[np.bool_]],
    answers: dict[int, NDArray[np.int64]],
    remade: Callable[[int], list[Item]],
    originals: Sequence[Item],
    names: Sequence[str | None],
) -> tuple[Example, ...]:
    """Three items that are lost at the lowest severity at which any is."""
    for severity, flags in found.items():
        lost = (~flags).nonzero()[0][:3]
        if len(lost) >= min(3, len(flags)) or severity == max(found):
            items = remade(severity) if len(lost) else []
            return tuple(
                Example(
                    originals[place],
                    items[place],
                    names[place] or f"item {place}",
                    names[answers[severity][place]] or f"item {answers[severity][place]}",
                )
                for place in map(int, lost)
            )
    return ()
