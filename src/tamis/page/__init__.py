"""A run as one page: what it read, what each stage dropped and why, and what another bound would keep."""

from __future__ import annotations

from tamis.page.content import Page
from tamis.page.make import report, write_page, write_plots

__all__ = ["Page", "report", "write_page", "write_plots"]
