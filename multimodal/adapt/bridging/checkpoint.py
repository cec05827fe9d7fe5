"""The folder of a bridge: the state of an unfinished job, which the finished space replaces."""

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

JOB, REPORT = "bridge-job.json", "bridge.json"  # of an unfinished and of a finished bridge
STATE = "bridge-training.safetensors"


def current_method(method: str) -> str:
    """The current name of a method; "kernel" was called "memory" before."""
    return "kernel" if method == "memory" else method


class BridgeCheckpoint:
    """Rows and training state of one job in a folder; without a folder, nothing is saved.

    Args:
        folder: The folder, or None.
        job: The inputs and settings as JSON values. State of another job is never resumed.

    Raises:
        InvalidInput: If the folder contains another job, or anything else.
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
        """The rows saved under a name, possibly incomplete; None if there are none."""
        import numpy as np

        path = self._path(name)
        return None if path is None or not path.exists() else np.load(path, allow_pickle=False)

    def save_array(self, name: str, rows: NDArray[np.float32]) -> None:
        """Saves rows (n, dim) under a name."""
        import io

        import numpy as np

        path = self._path(name)
        if path is not None:
            buffer = io.BytesIO()
            np.save(buffer, rows, allow_pickle=False)
            _write(path, buffer.getvalue())

    def state(self) -> dict[str, torch.Tensor] | None:
        """The tensors saved by `save_state`; None if there are none."""
        from safetensors.torch import load_file

        path = None if self.folder is None else self.folder / STATE
        return None if path is None or not path.exists() else load_file(path)

    def save_state(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Saves the training state."""
        from safetensors.torch import save

        if self.folder is not None:
            contiguous = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
            _write(self.folder / STATE, save(contiguous))

    def finished(self) -> tuple[BridgeReport, dict[Modality, Projector]] | None:
        """(report, projectors by modality) if this job is finished, else None."""
        if self.folder is None or not (self.folder / REPORT).exists():
            return None
        values = _read(self.folder / REPORT, "job", "report")["report"]
        report = BridgeReport.from_dict({**values, "method": current_method(values["method"])})
        return report, {Modality(name): _projector(self.folder, name) for name in report.modalities}

    def finish(self, bridge: Bridge) -> None:
        """Atomically replaces the saved state with the finished bridge."""
        if self.folder is None:
            return
        target = self.folder.absolute()
        # Beside the target, so that the final rename stays on one file system and is atomic.
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
            new, old = Path(scratch) / "new", Path(scratch) / "old"
            bridge.space.save_pretrained(new)
            record = {"job": self.job, "report": bridge.report.to_dict()}
            (new / REPORT).write_text(
                json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
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
    """The projector of a saved bridge."""
    from safetensors.torch import load_file

    from multimodal.core.projector import Projector

    config = _read(folder / CONFIG, "encoders")["encoders"][modality]["config"]["projector"]
    tensors = load_file(folder / f"{modality}.safetensors")
    own = {
        name.removeprefix("projector."): tensor
        for name, tensor in tensors.items()
        if name.startswith("projector.")
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
        raise InvalidInput(
            f"{folder} is {what} that bridge did not write; pass a new or empty folder as out="
        )


def _refuse_other_job(folder: Path, there: Mapping[str, Any], job: Mapping[str, Any], what: str) -> None:
    there = {**there, "method": current_method(str(there.get("method")))}
    differs = [key for key in job if there.get(key) != job[key]]
    if differs:
        raise InvalidInput(
            f"{folder} contains {what} of another job (different: {', '.join(differs)}); pass another folder as out=, "
            "or delete that one"
        )


def _read(path: Path, *required: str) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CorruptSpace(
            f"{path} is not valid JSON ({error}); delete its folder and build the bridge again"
        ) from error
    if not isinstance(values, dict) or not all(isinstance(values.get(key), dict) for key in required):
        raise CorruptSpace(
            f"{path} does not have the expected contents; delete its folder and build the bridge again"
        )
    return values


def _write(path: Path, content: bytes) -> None:
    scratch = path.with_name(f".{path.name}.new")
    scratch.write_bytes(content)
    scratch.replace(path)
