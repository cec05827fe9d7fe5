"""Forms of requests: fields and uploaded files, below the ceilings."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from multimodal.server.endpoint import read_body, state_of, validated
from multimodal.server.errors import invalid

FORM_TYPE = "multipart/form-data"
MAX_FIELDS = 200
MAX_FIELD_BYTES = 1 << 20
Model = TypeVar("Model", bound=BaseModel)


class Upload(NamedTuple):
    """An uploaded file. name: as the client gave it, which says nothing about its content."""

    field: str
    name: str
    content: bytes


class Form(NamedTuple):
    """The fields and files of a form, in their order; a name may occur several times."""

    fields: dict[str, list[str]]
    files: list[Upload]

    def field(self, name: str, default: str | None = None) -> str | None:
        """The last value of a field."""
        values = self.fields.get(name)
        return values[-1] if values else default

    def files_of(self, *names: str) -> list[Upload]:
        """The files of fields with these names, or with these names and "[]"."""
        return [file for file in self.files if file.field.removesuffix("[]") in names]

    def file(self, name: str) -> Upload:
        """The one file of a field. Raises ApiError (400)."""
        files = self.files_of(name)
        if len(files) != 1:
            raise invalid(f"{name} must be one uploaded file, got {len(files)}", name)
        return files[0]

    def as_model(self, model: type[Model]) -> Model:
        """The fields as a request; "name[]" is a list, and an empty field counts as absent.

        Raises:
            ApiError: 400 naming the field at fault.
        """
        lists = {name for name, info in model.model_fields.items() if "list" in str(info.annotation)}
        values: dict[str, Any] = {}
        for given, strings in self.fields.items():
            if strings != [""]:
                name = given.removesuffix("[]")
                values[name] = strings if name in lists else strings[-1]
        return validated(values, model)


async def read_form(request: Request) -> Form:
    """The form in the body of a request.

    Raises:
        ApiError: 400 for what is no form, or as `read_body`.
    """
    content_type = request.headers.get("content-type", "")
    if not content_type.lower().startswith(FORM_TYPE):
        raise invalid(f"the body must be a form; send Content-Type: {FORM_TYPE}")
    body = await read_body(request)
    max_files = state_of(request).config.ceilings.media

    async def stream() -> AsyncGenerator[bytes]:
        yield body
        yield b""

    parser = MultiPartParser(
        request.headers, stream(), max_files=max_files, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES
    )
    try:
        parsed = await parser.parse()
    except (MultiPartException, KeyError, UnicodeError) as error:
        raise invalid(f"the form cannot be read: {error}", code="invalid_form") from None
    form = Form({}, [])
    try:
        for name, value in parsed.multi_items():
            if isinstance(value, UploadFile):
                form.files.append(Upload(name, value.filename or "", await value.read()))
            else:
                form.fields.setdefault(name, []).append(value)
    finally:
        await parsed.close()
    return form
