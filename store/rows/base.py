"""What all rows are made with."""

from __future__ import annotations

import datetime as dt
from typing import Any

Json = dict[str, Any]


def moment(value: dt.datetime | None) -> str | None:
    """ISO 8601 in UTC, to the second."""
    return None if value is None else value.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
