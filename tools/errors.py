"""Errors that people see. Each message says what is wrong, where, and what to do, in one to three lines."""

from __future__ import annotations


class NeuroglossError(Exception):
    """A condition that the user can mend; the command line prints the message alone and exits with status 2."""


class SubjectError(NeuroglossError):
    """The subject model cannot be loaded or mapped."""


class UnitError(NeuroglossError):
    """A unit or a unit pattern names something that the subject does not have, or is not well formed."""


class DictionaryError(NeuroglossError):
    """A sparse dictionary cannot be read, or does not fit the subject."""


class CorpusError(NeuroglossError):
    """A corpus cannot be read, or is too small to split."""


class IndexDataError(NeuroglossError):
    """An activation index is missing, incomplete, corrupt, or belongs to other inputs."""


class SealedError(NeuroglossError):
    """Somebody asked for examples of a split that is sealed to them."""


class InterventionError(NeuroglossError):
    """An edit of a forward pass names what is not there, does not fit, or drives the model out of its numbers."""
