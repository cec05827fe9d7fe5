"""Plain records as data frames and Arrow tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import MissingExtra

if TYPE_CHECKING:
    import pandas
    import pyarrow


def data_frame(records: Sequence[dict[str, Any]], columns: list[str]) -> pandas.DataFrame:
    """A data frame from plain records. Raises MissingExtra without pandas."""
    try:
        import pandas
    except ImportError as error:
        raise MissingExtra("to_pandas()", package="pandas", extra="pandas") from error
    return pandas.DataFrame(list(records), columns=columns)


def arrow_table(records: Sequence[dict[str, Any]], types: dict[str, str]) -> pyarrow.Table:
    """A table from plain records. types: column -> "json", "float32[n]" or the name of an Arrow type."""
    import pyarrow as pa

    arrays = {}
    for name, type_name in types.items():
        values = [record[name] for record in records]
        if type_name == "json":
            values = [json.dumps(value, ensure_ascii=False) for value in values]
        if type_name.startswith("float32["):
            arrow_type = pa.list_(pa.float32(), int(type_name[8:-1]))
        else:
            arrow_type = pa.type_for_alias("string" if type_name == "json" else type_name)
        arrays[name] = pa.array(values, arrow_type)
    return pa.table(arrays)
