"""A checkpoint of diffusers: a folder of one's own, or a repository of the hub of which only what is needed is fetched.

Its model_index.json names the parts. Of each part the safetensors of one variant are taken; where there are none, the
pickled .bin, which diffusers and transformers read with `weights_only`, so that nothing in it is run. Code of its own
is refused.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multimodal.core.catalog import FOLDER_PREFIXES
from multimodal.core.errors import CheckpointError, MissingExtra, UnknownModel
from multimodal.core.hub import api as hub

INDEX, CARD = "model_index.json", "README.md"
SETTINGS = (".json", ".txt", ".model", ".jinja", ".tiktoken")
WEIGHTS = (".safetensors", ".bin")  # the first that a part has
NAMED = re.compile(r"(?P<stem>model|diffusion_pytorch_model|pytorch_model)(\.(?P<variant>[^.]+))?")
SHARD = re.compile(r"-\d{5}-of-\d{5}")
EXTRA = "diffusion"


@dataclass(frozen=True)
class DiffusersSource:
    """name: as it was asked for, for messages. folder: one's own, or None for a repository of the hub."""

    name: str
    folder: Path | None
    repo: str = ""
    revision: str | None = None
    offline: bool = False
    variant: str | None = None

    def fetched(self) -> tuple[Path, dict[str, Any]]:
        """The folder with all that is needed, and what its model_index.json says.

        Raises UnknownModel, DownloadError; CheckpointError if it is no checkpoint of diffusers, brings code of its own,
        or lacks the weights of a part.
        """
        folder = self._index_folder()
        index = self._index(folder)
        parts = _parts(self.name, index)
        if self.folder is not None:
            names = [one.relative_to(folder).as_posix() for one in folder.glob("*/*") if one.is_file()]
            self._chosen(parts, names)
            return folder, index
        at: dict[str, Any] = {"revision": folder.name, "offline": self.offline, "extra": EXTRA}
        wanted = self._chosen(parts, hub.listing(self.repo, **at))
        hub.snapshot(self.repo, patterns=[INDEX, *wanted], **at)
        return folder, index

    def pipeline_class(self) -> type:
        """The class that its model_index.json names; nothing more is fetched. Raises what `fetched` raises."""
        import diffusers

        index = self._index(self._index_folder())
        _parts(self.name, index)
        found: type = getattr(diffusers, index["_class_name"])
        return found

    def prior(self) -> str | None:
        """The other half that its card names, for a checkpoint that draws from vectors (Kandinsky, Stable Cascade)."""
        folder = self._index_folder()
        if not (folder / CARD).is_file():
            return None
        head = (folder / CARD).read_text(encoding="utf-8", errors="replace").partition("\n---")[0]
        found = re.search(r"^prior:\s*\n?\s*-?\s*['\"]?([\w.-]+/[\w.-]+)", head, re.MULTILINE)
        return None if found is None else f"diffusers/{found.group(1)}"

    def _index_folder(self) -> Path:
        if self.folder is None:
            return hub.snapshot(
                self.repo, patterns=(INDEX, CARD), revision=self.revision, offline=self.offline, extra=EXTRA
            )
        if not self.folder.is_dir():
            raise UnknownModel(f"{self.name!r} names the folder {str(self.folder)!r}, and there is none")
        return self.folder

    def _index(self, folder: Path) -> dict[str, Any]:
        path = folder / INDEX
        if not path.is_file():
            raise UnknownModel(
                f"{self.name!r} has no {INDEX}, so it is no checkpoint of diffusers; give a folder that "
                "save_pretrained() of diffusers wrote, or the id of a model"
            )
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CheckpointError(f"{path} is not JSON ({error}); fetch or copy it again") from error
        if not isinstance(found, dict) or "_class_name" not in found:
            raise CheckpointError(f"{path} names no pipeline of diffusers; fetch or copy it again")
        return found

    def _chosen(self, parts: Iterable[str], names: Sequence[str]) -> list[str]:
        """Of the files of a repository, those to fetch. Raises CheckpointError for a part without usable weights."""
        chosen: list[str] = []
        for part in parts:
            inside = [name for name in names if name.startswith(f"{part}/") and name.count("/") == 1]
            chosen += [name for name in inside if name.endswith(SETTINGS)]
            chosen += self._weights(part, inside)
        return chosen

    def _weights(self, part: str, names: Sequence[str]) -> list[str]:
        others: set[str] = set()
        for ending in WEIGHTS:
            by_variant: dict[str | None, list[str]] = {}
            for name in names:
                file = SHARD.sub("", name.removeprefix(f"{part}/").removesuffix(ending))
                if name.endswith(ending) and (told := NAMED.fullmatch(file)):
                    by_variant.setdefault(told["variant"], []).append(name)
            for variant in (
                self.variant,
                None,
            ):  # a part without that variant is taken whole, as upstream does
                if variant in by_variant:
                    return by_variant[variant]
            others |= {one for one in by_variant if one is not None}
        if others:
            raise CheckpointError(
                f"{self.name!r} has weights of {part!r} only as {', '.join(sorted(others))}: give "
                f"variant={min(others)!r}"
            )
        return []


def source_of(
    rest: str, *, name: str, revision: str | None, offline: bool, variant: str | None
) -> DiffusersSource:
    """The source that "diffusers/<rest>" means. Raises UnknownModel for an empty one, MissingExtra."""
    require_diffusers()
    if not rest:
        raise UnknownModel(
            "'diffusers' needs the id of a model or a folder: 'diffusers/stabilityai/sdxl-turbo', 'diffusers/./folder'"
        )
    if rest.startswith(FOLDER_PREFIXES) or rest in (".", ".."):
        return DiffusersSource(name, Path(rest).expanduser(), variant=variant)
    return DiffusersSource(name, None, rest, revision, offline, variant)


def require_diffusers() -> None:
    """Raises MissingExtra unless diffusers and transformers are installed; the starter draws without the latter."""
    for package in ("diffusers", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra("drawing pictures", package=package, extra=EXTRA)


def _parts(name: str, index: Mapping[str, Any]) -> list[str]:
    """The parts that are kept in folders. Raises CheckpointError for code that is not diffusers' or transformers'."""
    import diffusers

    known, told = index["_class_name"], diffusers.__version__
    if not isinstance(known, str) or not hasattr(diffusers, known):
        raise CheckpointError(
            f"{name!r} is a {known if isinstance(known, str) else 'pipeline'} that diffusers {told} does not know, or "
            "brings code of its own, which is never run here: upgrade diffusers, or take another model"
        )
    found = []
    for part, value in index.items():
        if part.startswith("_") or not (isinstance(value, list) and len(value) == 2) or value[0] is None:
            continue
        library = str(value[0])
        if library not in ("diffusers", "transformers") and not hasattr(diffusers.pipelines, library):
            raise CheckpointError(
                f"{name!r} has a part {part!r} out of {library!r}, which is neither diffusers nor transformers: "
                "code of its own is never run here; take another model"
            )
        found.append(part)
    return found
