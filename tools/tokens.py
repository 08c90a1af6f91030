"""The text of single tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase


def _byte_alphabet() -> dict[str, int]:
    """The characters by which GPT-2's byte-level BPE writes the 256 bytes (Radford et al. 2019, `bytes_to_unicode`)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {chr(byte): byte for byte in printable}
    for offset, byte in enumerate(b for b in range(256) if b not in printable):
        alphabet[chr(256 + offset)] = byte
    return alphabet


_BYTES = _byte_alphabet()
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Pieces:
    """Writes each token as the text that it stands for, whatever its neighbours are.

    A piece depends on its token only, so that one token always looks the same; bytes that are not a whole character
    are written ``\\xNN``. Joined, pieces give the text, except that sentencepiece's space before the first word is
    kept, and that special tokens are written by name.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._special = {index: str(token) for index, token in getattr(tokenizer, "added_tokens_decoder", {}).items()}
        self._style = _style(tokenizer)
        self._known: dict[int, str] = {}

    def __call__(self, ids: Sequence[int]) -> list[str]:
        return [self._piece(int(index)) for index in ids]

    def _piece(self, index: int) -> str:
        if index not in self._known:
            self._known[index] = self._write(index)
        return self._known[index]

    def _write(self, index: int) -> str:
        if index in self._special:
            return self._special[index]
        token = self._tokenizer.convert_ids_to_tokens(index)
        if token is None:
            return f"<unused {index}>"
        if self._style == "bytes" and all(character in _BYTES for character in token):
            return _decode(bytes(_BYTES[character] for character in token))
        if self._style == "sentencepiece":
            byte = _BYTE_TOKEN.fullmatch(token)
            return _decode(bytes([int(byte[1], 16)])) if byte else token.replace("▁", " ")
        if self._style == "wordpiece":
            return token.removeprefix("##") if token.startswith("##") else f" {token}"
        return str(self._tokenizer.decode([index], clean_up_tokenization_spaces=False))


def _decode(data: bytes) -> str:
    return data.decode("utf-8", errors="backslashreplace")


def _style(tokenizer: PreTrainedTokenizerBase) -> str:
    """How a tokenizer writes spaces and bytes: by its decoder if it has one, else by its vocabulary."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoder = getattr(backend, "decoder", None)
    if decoder is not None:
        description = decoder.__getstate__()
        names = json.dumps(json.loads(description), ensure_ascii=False)
        if '"ByteLevel"' in names:
            return "bytes"
        if '"WordPiece"' in names:
            return "wordpiece"
        if '"Metaspace"' in names or "▁" in names:
            return "sentencepiece"
    vocabulary = tokenizer.get_vocab()
    for mark, style in (("Ġ", "bytes"), ("▁", "sentencepiece"), ("##", "wordpiece")):
        if sum(token.startswith(mark) for token in vocabulary) > len(vocabulary) // 20:
            return style
    return "decode"
