"""What a search imports, and what it leaves out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pydantic
import pytest

from multimodal.index import Index
from multimodal.index.storage.deferred import defer_import, deferred_models, unchecked_overrides

UNNEEDED = (
    "torch", "lance_namespace_urllib3_client.api.table_api", "transformers", "diffusers", "torchaudio", "torchvision",
    "open_clip",
    "matplotlib", "polars", "datasets", "av", "openvino", "sklearn", "pandas", "multimodal.index.ingest.scheduler",
    "multimodal.cli.indexes.index",
)  # fmt: skip


def run(code: str, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True
    ).stdout


def test_a_search_of_the_command_line_imports_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "notes.lance", "starter")
    index.add([f"note {number}" for number in range(12)])
    code = (
        "import sys\nfrom multimodal.__main__ import main\n"
        "sys.argv = ['multimodal', 'search', sys.argv[1], 'a note']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print('imported:', [name for name in {UNNEEDED!r} if name in sys.modules])"
    )
    shown = run(code, str(index.path))
    assert "note 3" in shown and shown.rstrip().endswith("imported: []")


def test_a_deferred_package_is_complete_when_it_is_used(tmp_path: Path) -> None:
    package = tmp_path / "slow_package"
    package.mkdir()
    (package / "__init__.py").write_text("print('runs')\nANSWER = 42\n")
    (package / "part.py").write_text("VALUE = 1\n")
    code = (
        "import sys\nsys.path.insert(0, sys.argv[1])\nfrom multimodal.index.storage.deferred import defer_import\n"
        "defer_import('slow_package')\nfrom slow_package.part import VALUE\nprint(VALUE)\n"
        "import slow_package\nprint(slow_package.ANSWER, slow_package.ANSWER, hasattr(slow_package, 'other'))"
    )
    assert run(code, str(tmp_path)) == "1\nruns\n42 42 False\n"


def test_what_is_imported_or_not_installed_is_left_alone() -> None:
    before = sys.modules["json"]
    defer_import("json")
    defer_import("no_such_package_at_all")
    assert sys.modules["json"] is before and "no_such_package_at_all" not in sys.modules


def test_a_hidden_package_can_be_imported_later(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text("try:\n    import optional\nexcept ImportError:\n    optional = None\n")
    (tmp_path / "optional.py").write_text("")
    code = (
        "import sys\nsys.path.insert(0, sys.argv[1])\nfrom multimodal.index.storage.deferred import import_without\n"
        "import_without('user', 'optional')\nimport user, optional\nprint(user.optional, optional.__name__)"
    )
    assert run(code, str(tmp_path)) == "None optional\n"


def test_overrides_are_checked_again_afterwards() -> None:
    overrides = pytest.importorskip("overrides")
    before = overrides.override
    with unchecked_overrides():

        class Base:
            @overrides.override
            def nothing(self) -> None: ...

    assert Base.nothing.__override__ is True  # type: ignore[attr-defined]
    assert overrides.override is before


def test_a_model_that_is_defined_meanwhile_is_prepared_when_it_is_used() -> None:
    with deferred_models():

        class Later(pydantic.BaseModel):
            number: int

    class Now(pydantic.BaseModel):
        number: int

    assert (Later.__pydantic_complete__, Now.__pydantic_complete__) == (False, True)
    assert Later.model_validate({"number": "3"}).number == 3
    with pytest.raises(pydantic.ValidationError):
        Later.model_validate({"number": "three"})
