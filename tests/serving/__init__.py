"""An OpenAI-compatible server whose behaviour tests decide."""

from tests.serving.chat import Chat, Text
from tests.serving.concepts import Concept
from tests.serving.faults import KINDS, Faults
from tests.serving.minds import Competent, Gullible, Mind, Random, oracle, partial, wrong
from tests.serving.server import ABILITIES, Bill, ProgrammableServer, Seen
from tests.serving.talkers import Liar, Talker

__all__ = [
    "ABILITIES", "KINDS", "Bill", "Chat", "Competent", "Concept", "Faults", "Gullible", "Liar", "Mind",
    "ProgrammableServer", "Random", "Seen", "Talker", "Text", "oracle", "partial", "wrong",
]  # fmt: skip
