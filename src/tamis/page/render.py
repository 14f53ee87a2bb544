"""The page as one HTML file: its data, its plots' library and its own script are in it, and it asks for nothing else.

Texts of documents are data that the script puts in as text, never as HTML. The page's policy forbids every request,
and every script and style but those that the file itself holds, which are named by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from functools import lru_cache
from importlib import resources
from typing import Any

import orjson

from tamis.page.charts import PALETTES, class_spec, compare_spec, config, histogram_spec, vega
from tamis.page.content import Page, RunView, to_json

__all__ = ["render"]

_SCRIPTS = ("base", "sieve", "plots", "overview", "scores", "recipe", "documents", "compare", "main")
"""In the order in which they stand in the page: the later use the earlier."""

_ESCAPED = {
    b"<": b"\\u003c",
    b">": b"\\u003e",
    b"&": b"\\u0026",
    "\u2028".encode(): b"\\u2028",
    "\u2029".encode(): b"\\u2029",
}
_FONTS = "system-ui, sans-serif"


def render(page: Page) -> str:
    """The page as HTML, of 1 MB and what its data need.

    Raises:
        MissingExtraError: The package that brings the plots' library is not installed.
    """
    library, script, style = _library(), _script(), _style()
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src {_hash(library)} {_hash(script)}",
            f"style-src {_hash(style)}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    holes = {
        "policy": policy,
        "version": html.escape(page.version),
        "refresh": f'<meta http-equiv="refresh" content="{int(page.refresh)}">\n' if page.live else "",
        "title": html.escape(page.title),
        "style": style,
        "data": _data(page),
        "library": library,
        "script": script,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda hole: holes[hole[1]], _asset("page.html"))


def _asset(name: str) -> str:
    return resources.files("tamis.page").joinpath("assets", name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script, as the package brings them."""
    bundle: str = vega("The page of a report").javascript_bundle()
    # A browser counts line ends as \n before it hashes; what would end the element cannot stand in it.
    return bundle.replace("\r\n", "\n").replace("</script", "<\\/script").replace("<!--", "<\\!--")


@lru_cache(maxsize=1)
def _script() -> str:
    parts = [_asset(f"{name}.js") for name in _SCRIPTS]
    return '(() => {\n"use strict";\n' + "\n".join(parts) + "})();\n"


@lru_cache(maxsize=1)
def _style() -> str:
    light, dark = (" ".join(f"--{k}: {v};" for k, v in PALETTES[name].items()) for name in ("light", "dark"))
    themes = (
        f":root {{ color-scheme: light; {light} }}\n"
        f'@media (prefers-color-scheme: dark) {{ :root:not([data-theme="light"]) {{ color-scheme: dark; {dark} }} }}\n'
        f':root[data-theme="dark"] {{ color-scheme: dark; {dark} }}\n'
    )
    return themes + _asset("page.css")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _data(page: Page) -> str:
    """The page's content, the plots, and their colours, as JSON that cannot end the element it stands in."""
    rest = orjson.dumps({"specs": _specs(page), "themes": {name: config(p, _FONTS) for name, p in PALETTES.items()}})
    content = b'{"page":' + to_json(page) + b"," + rest[1:]
    for character, escaped in _ESCAPED.items():
        content = content.replace(character, escaped)
    return content.decode()


def _specs(page: Page) -> dict[str, Any]:
    compare: dict[str, Any] = {}
    if len(page.runs) == 2:
        first, second = page.runs
        other = {score.column: score for score in second.scores if len(score.edges) > 1}
        for score in first.scores:
            if score.column in other and len(score.edges) > 1:
                compare[score.column] = compare_spec(score, other[score.column], (first.name, second.name))
    return {"runs": [_of_run(run) for run in page.runs], "compare": compare}


def _of_run(run: RunView) -> dict[str, Any]:
    return {
        "scores": {score.column: histogram_spec(score) for score in run.scores if len(score.edges) > 1},
        "classes": {view.column: class_spec(view) for view in run.classes},
    }
