"""diffusers checkpoints: a local folder, or a Hub repository from which only the required files are fetched.

model_index.json names the components. For each component, the safetensors of one variant are used; without any, the
pickled .bin, which diffusers and transformers read with `weights_only`, so that no code in it runs. Checkpoints with
custom code are refused.
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
    """A checkpoint to read. name: as given, for messages. folder: a local folder; None for a Hub repository."""

    name: str
    folder: Path | None
    repo: str = ""
    revision: str | None = None
    offline: bool = False
    variant: str | None = None

    def fetched(self) -> tuple[Path, dict[str, Any]]:
        """The folder with all required files, and the content of its model_index.json.

        Raises UnknownModel, DownloadError; CheckpointError if it is not a diffusers checkpoint, contains custom code,
        or lacks the weights of a component.
        """
        folder = self._index_folder()
        index = self._index(folder)
        parts = _parts(self.name, index)
        if self.folder is not None:
            names = [path.relative_to(folder).as_posix() for path in folder.glob("*/*") if path.is_file()]
            self._chosen(parts, names)
            return folder, index
        at: dict[str, Any] = {"revision": folder.name, "offline": self.offline, "extra": EXTRA}
        wanted = self._chosen(parts, hub.listing(self.repo, **at))
        hub.snapshot(self.repo, patterns=[INDEX, *wanted], **at)
        return folder, index

    def pipeline_class(self) -> type:
        """The class named in model_index.json; nothing else is fetched. Raises as `fetched` does."""
        import diffusers

        index = self._index(self._index_folder())
        _parts(self.name, index)
        pipeline_class: type = getattr(diffusers, index["_class_name"])
        return pipeline_class

    def prior(self) -> str | None:
        """The prior named in the model card of a decoder checkpoint (Kandinsky, Stable Cascade), or None."""
        folder = self._index_folder()
        if not (folder / CARD).is_file():
            return None
        head = (folder / CARD).read_text(encoding="utf-8", errors="replace").partition("\n---")[0]
        match = re.search(r"^prior:\s*\n?\s*-?\s*['\"]?([\w.-]+/[\w.-]+)", head, re.MULTILINE)
        return None if match is None else f"diffusers/{match.group(1)}"

    def _index_folder(self) -> Path:
        if self.folder is None:
            return hub.snapshot(
                self.repo, patterns=(INDEX, CARD), revision=self.revision, offline=self.offline, extra=EXTRA
            )
        if not self.folder.is_dir():
            raise UnknownModel(f"{self.name!r} names the folder {str(self.folder)!r}, which does not exist")
        return self.folder

    def _index(self, folder: Path) -> dict[str, Any]:
        path = folder / INDEX
        if not path.is_file():
            raise UnknownModel(
                f"{self.name!r} has no {INDEX}, so it is not a diffusers checkpoint; give a folder written by "
                "save_pretrained() of diffusers, or the id of a model"
            )
        try:
            index = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CheckpointError(f"{path} is not JSON ({error}); fetch or copy it again") from error
        if not isinstance(index, dict) or "_class_name" not in index:
            raise CheckpointError(f"{path} names no diffusers pipeline; fetch or copy it again")
        return index

    def _chosen(self, parts: Iterable[str], names: Sequence[str]) -> list[str]:
        """The files of a repository to fetch. Raises CheckpointError for a component without usable weights."""
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
                if name.endswith(ending) and (match := NAMED.fullmatch(file)):
                    by_variant.setdefault(match["variant"], []).append(name)
            for variant in (
                self.variant,
                None,
            ):  # as upstream: a component without the variant uses its default
                if variant in by_variant:
                    return by_variant[variant]
            others |= {variant for variant in by_variant if variant is not None}
        if others:
            raise CheckpointError(
                f"{self.name!r} has weights of {part!r} only as {', '.join(sorted(others))}: give "
                f"variant={min(others)!r}"
            )
        return []


def source_of(
    rest: str, *, name: str, revision: str | None, offline: bool, variant: str | None
) -> DiffusersSource:
    """The source named by "diffusers/<rest>". Raises UnknownModel for an empty name, MissingExtra."""
    require_diffusers()
    if not rest:
        raise UnknownModel(
            "'diffusers' needs the id of a model or a folder: 'diffusers/stabilityai/sdxl-turbo', 'diffusers/./folder'"
        )
    if rest.startswith(FOLDER_PREFIXES) or rest in (".", ".."):
        return DiffusersSource(name, Path(rest).expanduser(), variant=variant)
    return DiffusersSource(name, None, rest, revision, offline, variant)


def require_diffusers() -> None:
    """Raises MissingExtra unless diffusers and transformers are installed; the starter needs only the former."""
    for package in ("diffusers", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra("generating images", package=package, extra=EXTRA)


def _parts(name: str, index: Mapping[str, Any]) -> list[str]:
    """The components stored in folders. Raises CheckpointError for classes of other libraries."""
    import diffusers

    class_name, version = index["_class_name"], diffusers.__version__
    if not isinstance(class_name, str) or not hasattr(diffusers, class_name):
        raise CheckpointError(
            f"{name!r} is a {class_name if isinstance(class_name, str) else 'pipeline'}, which diffusers {version} "
            "does not know, or it contains custom code, which is never run: upgrade diffusers, or use another model"
        )
    parts = []
    for part, value in index.items():
        if part.startswith("_") or not (isinstance(value, list) and len(value) == 2) or value[0] is None:
            continue
        library = str(value[0])
        if library not in ("diffusers", "transformers") and not hasattr(diffusers.pipelines, library):
            raise CheckpointError(
                f"{name!r} has a component {part!r} of {library!r}, which is neither diffusers nor transformers: "
                "custom code is never run; use another model"
            )
        parts.append(part)
    return parts
