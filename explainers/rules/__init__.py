"""'rule v1': a small language for what a unit fires on. Parsed, never run as code; see docs/rules.md."""
