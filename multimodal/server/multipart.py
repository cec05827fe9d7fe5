"""Bodies of multipart/form-data: fields, and files in memory, within the ceiling on bodies."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from multimodal.server.endpoint import read_body, validated
from multimodal.server.errors import invalid

FORM_TYPE = "multipart/form-data"
MAX_PARTS = 128
MAX_FIELD_BYTES = 1 << 20
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Upload:
    """A file in a form. filename: as the client named it; a name, never opened."""

    filename: str
    content: bytes


@dataclass
class Form:
    """A parsed form. Names such as "image[]" are listed without their brackets."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, list[Upload]] = field(default_factory=dict)

    def file(self, name: str) -> Upload:
        """The one file of a name. Raises ApiError (400)."""
        files = self.files.get(name, [])
        if len(files) != 1:
            raise invalid(f"{name} must be one uploaded file, got {len(files)}", name)
        return files[0]

    def as_model(self, model: type[Model]) -> Model:
        """The fields as a request. Raises ApiError (400) naming the field at fault."""
        lists = {name for name, info in model.model_fields.items() if "list" in str(info.annotation)}
        values: dict[str, Any] = {
            name: given if name in lists else given[-1]
            for name, given in self.fields.items()
            if given != [""]
        }
        return validated(values, model)


async def read_form(request: Request) -> Form:
    """Reads a form.

    Raises:
        ApiError: 400 for a malformed one; otherwise as `read_body`.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if kind != FORM_TYPE.encode() or not boundary:
        raise invalid(f"the body must be {FORM_TYPE} with a boundary", code="invalid_form")
    return parse_form(await read_body(request), boundary)


def parse_form(body: bytes, boundary: bytes) -> Form:
    """Parses the body of a form. Raises ApiError (400)."""
    parts = _Parts()
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise invalid(f"the form cannot be read: {error}", code="invalid_form") from None
    if not parts.is_complete:
        raise invalid("the form is cut off: its last boundary is missing", code="invalid_form")
    return parts.form


class _Parts:
    """Collects what the parser finds."""

    def __init__(self) -> None:
        self.form = Form()
        self.is_complete = False
        self._n_parts = 0
        self._headers: dict[bytes, bytes] = {}
        self._name, self._value = bytearray(), bytearray()
        self._content: list[bytes] = []

    def callbacks(self) -> Any:
        """What the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header,
            "on_part_data": lambda data, start, end: self._content.append(data[start:end]),
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._n_parts += 1
        if self._n_parts > MAX_PARTS:
            raise invalid(f"the form has more than {MAX_PARTS} parts", code="invalid_form")
        self._headers, self._content = {}, []

    def _header(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode("utf-8", "replace").removesuffix("[]")
        content = b"".join(self._content)
        if (filename := options.get(b"filename")) is not None:
            upload = Upload(filename.decode("utf-8", "replace"), content)
            self.form.files.setdefault(name, []).append(upload)
            return
        if len(content) > MAX_FIELD_BYTES:
            raise invalid(f"{name[:100]} has {len(content):,} bytes; send a file as a file", name[:100])
        try:
            self.form.fields.setdefault(name, []).append(content.decode())
        except UnicodeDecodeError:
            raise invalid(f"{name[:100]} is no UTF-8; send a file as a file", name[:100]) from None

    def _finish(self) -> None:
        self.is_complete = True
