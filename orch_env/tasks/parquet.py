"""Rows as the bytes of a Parquet file."""

from __future__ import annotations

import io
from collections.abc import Sequence

from orch_env.types import OrchError
from orch_env.types.json import JsonObject


def parquet_bytes(rows: Sequence[JsonObject]) -> bytes:
    """The rows as a Parquet file.

    Raises:
        OrchError: pyarrow is missing, or a column's values are not of one type.
    """
    try:
        from pyarrow import ArrowException, Table
        from pyarrow.parquet import write_table
    except ModuleNotFoundError as missing:
        raise OrchError(
            "a Parquet file needs pyarrow: pip install pyarrow, or write to a .jsonl file"
        ) from missing
    file = io.BytesIO()
    try:
        write_table(Table.from_pylist(list(rows)), file)
    except (ArrowException, UnicodeEncodeError) as problem:
        raise OrchError(
            f"these rows do not fit into Parquet ({problem}): write to a .jsonl file"
        ) from problem
    return file.getvalue()
