"""One file a step. A database is only ever brought forward."""
