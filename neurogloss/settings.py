"""Where things are kept: the data folder and the database, from options, the environment or sensible defaults."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


def default_home() -> Path:
    """The folder where this platform keeps a user's application data, with our name at its end."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Application Support")
    else:
        base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "neurogloss"


class Settings(BaseSettings):
    """Settings of one call. Each comes from an option, else from ``NEUROGLOSS_<NAME>``, else from its default."""

    model_config = SettingsConfigDict(env_prefix="NEUROGLOSS_", env_ignore_empty=True, extra="ignore")

    home: Path = Field(default_factory=default_home)
    """Data folder: activation indexes, graph checkpoints and, unless `db` says otherwise, the database."""

    db: str | None = None
    """The database: a path of a SQLite file, or an SQLAlchemy URL such as ``postgresql+psycopg://host/name``."""

    llm: str | None = None
    """The language model that `chat` asks where none is named: ``vllm:MODEL@URL``, ``openai:MODEL@URL``."""

    confirm_passes: int = Field(default=500, ge=0)
    """`chat` asks before it does what takes more forward passes than this,"""

    confirm_seconds: float = Field(default=30.0, ge=0)
    """or more seconds,"""

    confirm_dollars: float = Field(default=0.25, ge=0)
    """or more US dollars."""

    @property
    def database(self) -> str:
        """Path or URL of the database: `db`, else ``neurogloss.db`` in the data folder."""
        if self.db is None:
            return str(self.home.expanduser() / "neurogloss.db")
        return self.db if is_url(self.db) else str(Path(self.db).expanduser())

    @property
    def indexes(self) -> Path:
        """Folder of the activation indexes."""
        return self.home.expanduser() / "indexes"


def resolve(*, db: str | None = None, home: Path | None = None) -> Settings:
    """Settings with the given options over the environment over the defaults."""
    given = {"db": db, "home": home}
    return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def is_url(database: str) -> bool:
    """Whether a database is given as an SQLAlchemy URL rather than as a path."""
    return re.match(r"^[a-z][a-z0-9+]*://", database) is not None


def sqlite_file(database: str) -> Path | None:
    """The file of a SQLite database given by path or URL; None for a server's database or one in memory."""
    if not is_url(database):
        return Path(database)
    if not database.startswith("sqlite") or database.rstrip("/").endswith((":", ":memory:")):
        return None
    return Path(database.partition("://")[2].partition("?")[0].removeprefix("/"))


def without_password(database: str) -> str:
    """The database's path or URL as it may be printed."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", database)
