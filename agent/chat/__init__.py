"""Chat with the explainer: a conversation over the database and the subject, which says nothing that no row backs.

`Session` is the conversation, `ToolShelf` what it may use; events say what happens (`agent.chat.events`). There is no
terminal in here: the command line and the web page are two ways to show the same events.
"""

from __future__ import annotations

from agent.chat.checker import check, cited
from agent.chat.costs import Estimate, Thresholds
from agent.chat.lookups import Library
from agent.chat.session import ChatLimits, Session
from agent.chat.slash import SlashError
from agent.chat.tools import ToolShelf

__all__ = [
    "ChatLimits", "Estimate", "Library", "Session", "SlashError", "Thresholds", "ToolShelf", "check", "cited",
]  # fmt: skip
