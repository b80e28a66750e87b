"""`tinyllm summarize MODEL`: translate.py has both commands."""

from .translate import summarize as command

__all__ = ["command"]
