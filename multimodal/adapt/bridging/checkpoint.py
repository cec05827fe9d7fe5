"""The folder of a bridge: what an unfinished one keeps to go on from, and how a finished one takes its place."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.adapt.bridging.report import Bridge, BridgeReport
from multimodal.core.errors import CorruptSpace, InvalidInput
from multimodal.core.modality import Modality
from multimodal.core.serialization import CONFIG, is_space

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from multimodal.core.projector import Projector

JOB, REPORT = "bridge-job.json", "bridge.json"  # the first while it is being made, the second when it is done
STATE = "bridge-training.safetensors"


class Kept:
    """Rows and training state of one job, in a folder, or nowhere (folder None: nothing is kept).

    A job is its inputs and settings, as JSON values; what another job left is never gone on from.
    """

    def __init__(self, folder: Path | None, job: Mapping[str, Any]) -> None:
        self.folder, self.job = folder, dict(job)
        if folder is None:
            return
        _refuse_others(folder, self.job)
        if not (folder / REPORT).exists():
            folder.mkdir(parents=True, exist_ok=True)
            _write(folder / JOB, json.dumps(self.job, indent=2, ensure_ascii=False).encode())

    def array(self, name: str) -> NDArray[np.float32] | None:
        """Rows that were kept under a name, complete or not; None if there are none."""
        import numpy as np

        path = self._path(name)
        return None if path is None or not path.exists() else np.load(path, allow_pickle=False)

    def keep_array(self, name: str, rows: NDArray[np.float32]) -> None:
        import io

        import numpy as np

        path = self._path(name)
        if path is not None:
            buffer = io.BytesIO()
            np.save(buffer, rows, allow_pickle=False)
            _write(path, buffer.getvalue())

    def state(self) -> dict[str, torch.Tensor] | None:
        """The tensors that `keep_state` kept."""
        from safetensors.torch import load_file

        path = None if self.folder is None else self.folder / STATE
        return None if path is None or not path.exists() else load_file(path)

    def keep_state(self, tensors: Mapping[str, torch.Tensor]) -> None:
        from safetensors.torch import save

        if self.folder is not None:
            plain = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
            _write(self.folder / STATE, save(plain))

    def finished(self) -> tuple[BridgeReport, dict[Modality, Projector]] | None:
        """(report, what brings each modality over) if this very job was finished here before."""
        if self.folder is None or not (self.folder / REPORT).exists():
            return None
        report = BridgeReport.from_dict(_read(self.folder / REPORT, "job", "report")["report"])
        return report, {Modality(one): _projector(self.folder, one) for one in report.modalities}

    def finish(self, bridge: Bridge) -> None:
        """The bridge takes the place of what was kept, all or nothing."""
        if self.folder is None:
            return
        target = self.folder.absolute()
        # Beside the target, so that the final rename stays on one file system and is atomic.
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
            new, old = Path(scratch) / "new", Path(scratch) / "old"
            bridge.space.save_pretrained(new)
            about = {"job": self.job, "report": bridge.report.to_dict()}
            (new / REPORT).write_text(
                json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
            )
            target.replace(old)
            try:
                new.replace(target)
            except OSError:
                old.replace(target)
                raise

    def _path(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{name.replace(' ', '-')}.npy"


def _projector(folder: Path, modality: str) -> Projector:
    """What a saved bridge holds behind its encoder of a modality."""
    from safetensors.torch import load_file

    from multimodal.core.projector import Projector

    config = _read(folder / CONFIG, "encoders")["encoders"][modality]["config"]["projector"]
    tensors = load_file(folder / f"{modality}.safetensors")
    own = {
        name.removeprefix("projector."): one for name, one in tensors.items() if name.startswith("projector.")
    }
    return Projector.from_saved(config, own)


def _refuse_others(folder: Path, job: Mapping[str, Any]) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if folder.is_dir() and (folder / REPORT).is_file():
        _refuse_other_job(folder, _read(folder / REPORT, "job", "report")["job"], job, "a finished bridge")
    elif folder.is_dir() and (folder / JOB).is_file():
        _refuse_other_job(folder, _read(folder / JOB), job, "an unfinished bridge")
    else:
        what = "a file" if not folder.is_dir() else "a saved space" if is_space(folder) else "a folder"
        raise InvalidInput(f"{folder} is {what} that bridge did not make; give out= a new or empty folder")


def _refuse_other_job(folder: Path, there: Mapping[str, Any], job: Mapping[str, Any], what: str) -> None:
    differs = [key for key in job if there.get(key) != job[key]]
    if differs:
        raise InvalidInput(
            f"{folder} holds {what} of another job (other: {', '.join(differs)}); give out= another folder, or delete "
            "that one"
        )


def _read(path: Path, *wanted: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CorruptSpace(
            f"{path} is not valid JSON ({error}); delete its folder and make the bridge again"
        ) from error
    if not isinstance(found, dict) or not all(isinstance(found.get(key), dict) for key in wanted):
        raise CorruptSpace(f"{path} is not as bridge writes it; delete its folder and make the bridge again")
    return found


def _write(path: Path, content: bytes) -> None:
    scratch = path.with_name(f".{path.name}.new")
    scratch.write_bytes(content)
    scratch.replace(path)
