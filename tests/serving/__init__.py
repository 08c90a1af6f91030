"""An OpenAI-compatible server whose behaviour tests decide."""

from tests.serving.chat import Chat, Text
from tests.serving.concepts import Concept
from tests.serving.faults import KINDS, Faults
from tests.serving.minds import Competent, Gullible, Mind, Random, oracle, partial, wrong
from tests.serving.server import ABILITIES, Bill, ProgrammableServer, Seen

__all__ = [
    "ABILITIES", "KINDS", "Bill", "Chat", "Competent", "Concept", "Faults", "Gullible", "Mind", "ProgrammableServer",
    "Random", "Seen", "Text", "oracle", "partial", "wrong",
]  # fmt: skip
