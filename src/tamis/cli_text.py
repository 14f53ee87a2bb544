"""What every command prints with: the consoles, and text made fit for a terminal."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console  # noqa: TID251  the terminal library lives here

__all__ = ["console_of_errors", "console_of_output", "escape", "excerpt", "number_text", "printable", "say"]


def console_of_output() -> Console:
    """Standard output: coloured at a terminal, plain and never cut where it is piped."""
    from rich.console import Console  # noqa: TID251  the terminal library lives here

    # Piped output is plain and not cut at 80 columns, so that grep and awk see whole lines.
    piped = not sys.stdout.isatty()
    return Console(highlight=False, width=200 if piped else None, soft_wrap=piped)


def console_of_errors() -> Console:
    """Standard error."""
    from rich.console import Console  # noqa: TID251  the terminal library lives here

    return Console(stderr=True, highlight=False)


def escape(text: str) -> str:
    """Text that is shown as it is where markup is understood."""
    from rich import markup  # noqa: TID251  the terminal library lives here

    return markup.escape(printable(text))


def printable(text: str) -> str:
    """Text without characters that would move the cursor or colour the terminal."""
    return "".join(c if c.isprintable() or c == " " else " " for c in text)


def excerpt(text: str, width: int) -> str:
    """The beginning of a text on one line."""
    flat = " ".join(printable(text).split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def say(console: Console, text: str, style: str | None = None) -> None:
    """Print lines that may hold a path: broken between words at the terminal's width, and whole in a pipe.

    A path is never broken, so that it can be copied; lines go on below their own beginning.
    """
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip())]
        if console.is_terminal:
            shown = textwrap.fill(
                line, console.width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
            )
        else:
            shown = line
        console.print(shown, style=style, markup=False, highlight=False, soft_wrap=True)


def number_text(value: Any) -> str:
    """A number with three digits that matter; anything else as it is."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
