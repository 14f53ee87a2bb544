"""Aegis: is a text safe, and if not, in which of thirteen ways (Ghosh et al., arXiv:2404.05993).

A language model (Llama Guard, with an adapter) reads the policy and the text, and writes ``safe``, or ``unsafe`` and a
line of categories. What it writes is read by :func:`parse_verdict`.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tamis.classifiers.base import Columns, DistributedDataClassifier, ModelName
from tamis.errors import ModelError, UnknownNameError, UsageError
from tamis.models.checkpoint import TOKENIZER, find
from tamis.models.generate import Answer, Decoding, Generator, PromptTokenizer, Template
from tamis.stage import TableFunction
from tamis.table import has_text, put, text

if TYPE_CHECKING:
    import torch

__all__ = ["AEGIS_LABELS", "AegisClassifier", "Verdict", "load_guard", "parse_verdict"]

Engine = Literal["auto", "transformers", "vllm"]

BASE_MODEL = "meta-llama/LlamaGuard-7b"
DEFENSIVE = "nvidia/Aegis-AI-Content-Safety-LlamaGuard-Defensive-1.0"
_CATEGORIES = tuple(f"O{number}" for number in range(1, 14))
_UNKNOWN = "unknown"
AEGIS_LABELS = ("safe", *_CATEGORIES, _UNKNOWN)
"""All labels: ``safe``; O1 Violence, O2 Sexual, O3 Criminal Planning, O4 Guns and Illegal Weapons, O5 Controlled
Substances, O6 Suicide and Self-Harm, O7 Sexual (minor), O8 Hate and Identity Hate, O9 Personal Information, O10
Harassment, O11 Threat, O12 Profanity, O13 Needs Caution; ``unknown``."""
_POLICY = Path(__file__).with_name("aegis_policy.txt")
_PATTERN = r"(safe|unsafe\n(O1[0-3]|O[1-9])(, ?(O1[0-3]|O[1-9])){0,12})"
_LETTERS = re.compile(r"[A-Za-z]*")
_BEFORE_LIST = re.compile(r"[\s:.,-]*")
_ENTRY = re.compile(r"\w*")
_BETWEEN = re.compile(r"[ \t]*[,;]?[ \t]*")
_FEWEST_TOKENS = 4096
"""The window of Llama Guard, where a model's configuration names none."""


# -- reading the answer --------------------------------------------------------------------------------------


class Verdict(NamedTuple):
    """What an answer says."""

    label: str
    """``safe``, the first category, or ``unknown``."""
    labels: list[str]
    """``["safe"]``; all categories in their order; none where it is unsafe without any; else ``["unknown"]``."""


class _Reading(NamedTuple):
    verdict: Verdict
    decided: bool
    """Whether further text, from the end of the last word on, changes nothing."""
    first_decided: bool
    """Whether it does not change the label."""


def parse_verdict(answer: str, *, complete: bool = True) -> Verdict:
    r"""Read a model's answer; any string has a verdict.

    Upper and lower case, blanks and line ends before and between the words do not matter, and the categories may stand
    on the first line. Reading stops at the first entry that is no category, and at the end of the categories' line.
    ``complete=False`` says that the answer was cut off, so that a last ``O1`` may have been going to be ``O13``: it is
    left out, unless it is the only one.

    >>> parse_verdict("unsafe\nO1,O3")
    Verdict(label='O1', labels=['O1', 'O3'])
    >>> parse_verdict("Safe").label, parse_verdict("unsafe").label, parse_verdict("unsafe\nO14").label
    ('safe', 'unknown', 'unknown')
    """
    verdict, decided, _ = _read(answer)
    cut = not complete and not decided and len(verdict.labels) > 1 and answer[-1:].isdigit()
    return Verdict(verdict.label, verdict.labels[:-1]) if cut else verdict


def _read(answer: str) -> _Reading:
    left = answer.lstrip()
    word = _LETTERS.match(left)[0].lower()  # type: ignore[index]  # it matches the empty string, too
    if word == "safe":
        return _Reading(Verdict("safe", ["safe"]), decided=True, first_decided=True)
    if word == "unsafe":
        return _categories(left[len(word) :])
    # What may still become one of the two words is not decided yet.
    open_ended = len(word) == len(left) and ("unsafe".startswith(word) or "safe".startswith(word))
    return _Reading(Verdict(_UNKNOWN, [_UNKNOWN]), not open_ended, not open_ended)


def _categories(rest: str) -> _Reading:
    """Read the categories after the word ``unsafe``."""
    found: list[str] = []
    place = _BEFORE_LIST.match(rest).end()  # type: ignore[union-attr]  # as above
    while True:
        end = _ENTRY.match(rest, place).end()  # type: ignore[union-attr]  # as above
        entry, at_end = rest[place:end].upper(), end == len(rest)
        known = entry in _CATEGORIES
        if known and entry not in found:
            found.append(entry)
        if at_end or not known:
            break
        place = _BETWEEN.match(rest, end).end()  # type: ignore[union-attr]  # as above
    # Text may go on, and make an O3 of an O, an O13 of an O1, or a list of one category.
    decided = not (at_end and (known or any(each.startswith(entry) for each in _CATEGORIES)))
    if found:
        return _Reading(Verdict(found[0], found), decided, first_decided=decided or not (known and len(found) == 1))
    return _Reading(Verdict(_UNKNOWN, [_UNKNOWN] if entry or not at_end else []), decided, first_decided=decided)


# -- the stage -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class AegisClassifier(DistributedDataClassifier):
    """Adds whether a document is safe, or the category in which it is not; keeps those with the labels asked for.

    Answer: ``pred_column`` holds one of :data:`AEGIS_LABELS`, the first category where the model lists several.
        ``unknown`` is an answer that is neither, or ``unsafe`` without one of the thirteen categories.
        ``labels_column``, if named, holds all categories as a list: ``["safe"]``, ``["O1", "O3"]``, ``[]`` for unsafe
        without a category, ``["unknown"]`` for an answer that is not standard. With ``keep_raw_pred`` the answer
        itself is kept.
    Empty text: A null or blank text is not shown to the model; its answers are null, and with ``filter_by`` it is
        dropped.
    Prompt: The policy that comes with Tamis names the thirteen categories of the paper in words of our own. A published
        checkpoint was trained with its own exact wording: give that as a file with ``prompt_template``, the place of
        the document written ``{document}``. The document is cut where both do not fit the model's window; what
        comes after it never is.
    Relations: NeMo Curator's class encodes the prompt anew for each document, always writes on to 100 tokens or the
        end, and reads lists of categories as ``unknown``.
    """

    model: ModelName | Callable[..., object] | None = BASE_MODEL
    """Hub id (gated: pass ``token``) or directory of the language model under the adapter."""
    aegis_variant: ModelName | None = DEFENSIVE
    """Hub id or directory of a LoRA adapter, or of a whole model, which then takes the place of ``model``; None for
    ``model`` as it is. The published ones end in Defensive-1.0 and Permissive-1.0."""
    pred_column: str = "aegis_pred"
    """Column for the label."""
    labels_column: str | None = None
    """Column for the list of all categories; not written by default."""
    raw_pred_column: str = "_aegis_raw_pred"
    """Column for the answer as the model wrote it."""
    keep_raw_pred: bool = False
    """Whether that column is written. The model then writes on where its answer is not standard."""
    max_chars: int | None = 6000
    """Characters of a document that the model sees; the column itself is never cut."""
    prompt_template: str | os.PathLike[str] | None = None
    """File with the prompt, ``{document}`` once in it; by default the policy that comes with Tamis."""
    max_new_tokens: int = 64
    """Bound on an answer; all thirteen categories take about 45 tokens, and ``safe`` takes one."""
    engine: Engine = "auto"
    """``transformers`` or ``vllm``; by default vLLM where it is installed beside a CUDA device."""
    columns: Columns = "legacy"
    """Both versions name the columns alike; accepted for uniformity."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if callable(self.model) or self.model_file_name is not None or self.labels is not None:
            message = f"{self.name} takes the directory or hub id of a language model, and has labels of its own."
            raise UsageError(message)
        if self.prob_column is not None:
            message = f"{self.name} writes text, and no probabilities: leave prob_column out."
            raise UsageError(message)
        if self.engine not in get_args(Engine):
            raise UnknownNameError.of(str(self.engine), get_args(Engine), kind="engine", where=self.name)
        if type(self.max_new_tokens) is not int or self.max_new_tokens < 1:
            message = f"{self.name}: max_new_tokens must be a positive whole number; got {self.max_new_tokens!r}."
            raise UsageError(message)
        self._check_filter(AEGIS_LABELS)

    def answer_types(self) -> dict[str, pa.DataType]:
        """The columns it makes; the template is looked at here, before anything runs."""
        self._template()
        types = {self.pred_column: pa.string()}
        if self.labels_column is not None:
            types[self.labels_column] = pa.list_(pa.string())
        if self.keep_raw_pred:
            types[self.raw_pred_column] = pa.string()
        return types

    def _template(self) -> Template:
        return Template.read(Path(self.prompt_template or _POLICY).expanduser(), who=self.name)

    def decided(self, answer: str) -> bool:
        """Whether an answer is long enough for the columns that are written."""
        reading = _read(answer)
        if self.keep_raw_pred:
            return reading.decided and reading.verdict.label != _UNKNOWN
        return reading.decided if self.labels_column is not None else reading.first_decided

    def open(self) -> TableFunction:
        """Load the model onto its device and return the function that answers and marks."""
        generate = self.generator()

        def run(table: pa.Table) -> pa.Table:
            texts = text(table, self.column_read, self.name)
            if self.max_chars is not None:
                texts = pc.utf8_slice_codeunits(texts, 0, self.max_chars)
            rows = np.flatnonzero(has_text(texts))
            answers: list[Answer | None] = [None] * len(texts)
            for row, answer in zip(rows, generate(texts.take(pa.array(rows)).to_pylist()), strict=True):
                answers[row] = answer
            for name, values in self._columns(answers).items():
                table = put(table, name, values)
            return self.marked(table)

        return run

    def _columns(self, answers: list[Answer | None]) -> dict[str, pa.Array]:
        verdicts = [
            None if a is None else parse_verdict(a.text, complete=a.tokens < self.max_new_tokens) for a in answers
        ]
        made = {self.pred_column: pa.array([v and v.label for v in verdicts], pa.string())}
        if self.labels_column is not None:
            made[self.labels_column] = pa.array([v and v.labels for v in verdicts], pa.list_(pa.string()))
        if self.keep_raw_pred:
            made[self.raw_pred_column] = pa.array([a and a.text for a in answers], pa.string())
        return made

    def generator(self) -> Generator:
        """What answers documents: the model on its device, by one of the two engines."""
        from tamis.models.device import pick_device, pick_dtype
        from tamis.models.tokenizer import load_tokenizer

        device = pick_device(self.device, who=self.name)
        vllm = self.engine == "vllm" or (
            self.engine == "auto" and device.type == "cuda" and importlib.util.find_spec("vllm") is not None
        )
        base, adapter = find_guard(self.model, self.aegis_variant, who=self.name, token=self.token)
        where = (
            base if self.tokenizer is None else find(self.tokenizer, who=self.name, token=self.token, holds=TOKENIZER)
        )
        tokenizer = load_tokenizer(where, who=self.name)
        window = self._window(base)
        decoding = Decoding(self.decided, self.max_new_tokens, _PATTERN)
        prompts = PromptTokenizer(tokenizer, self._template(), window - self.max_new_tokens, who=self.name)
        if vllm:
            from tamis.models.vllm_engine import VllmGenerator

            return VllmGenerator(
                base, prompts, decoding, who=self.name, dtype=self.dtype, window=window, adapter=adapter
            )
        from tamis.models.batching import Budget
        from tamis.models.decoder import PrefixDecoder
        from tamis.models.lora import load_causal

        dtype = pick_dtype(self.dtype, device, who=self.name)
        model = load_causal(base, who=self.name, dtype=dtype, adapter=adapter).to(device)
        tokens = _TOKENS[device.type == "cpu"] if self.batch_tokens == "auto" else self.batch_tokens
        budget = Budget(tokens=tokens, rows=self.batch_size, packed=True)
        return PrefixDecoder(model, tokenizer, prompts, decoding, budget, who=self.name)

    def _window(self, base: Path) -> int:
        """Tokens of prompt and answer together."""
        from tamis.models.checkpoint import read_config

        positions = int(read_config(base, who=self.name).get("max_position_embeddings") or _FEWEST_TOKENS)
        if self.max_length is not None and not 0 < self.max_length <= positions:
            message = f"{self.name}: max_length must be from 1 to {positions}; got {self.max_length}."
            raise ModelError(message)
        return self.max_length or positions


_TOKENS = {True: 2048, False: 8192}
"""Tokens in a batch, on a processor and elsewhere."""


def find_guard(model: object, variant: ModelName | None, *, who: str, token: str | None) -> tuple[Path, Path | None]:
    """The directories of the language model and of the adapter on it, if there is one.

    Raises:
        ModelError: One of them cannot be found.
    """
    from tamis.models.lora import ADAPTER_CONFIG, find_adapter

    adapter = None if variant is None else find_adapter(variant, who=who, token=token)
    if adapter is not None and not (adapter / ADAPTER_CONFIG).is_file():
        return adapter, None
    if not isinstance(model, str | os.PathLike):
        message = f"{who} needs the directory or hub id of a language model; got {model!r}."
        raise ModelError(message)
    return find(model, who=who, token=token), adapter


def load_guard(
    model: object, variant: ModelName | None, *, who: str, token: str | None, dtype: torch.dtype
) -> tuple[torch.nn.Module, Path]:
    """The language model with its adapter merged, on the CPU, and the directory of its tokenizer."""
    from tamis.models.lora import load_causal

    base, adapter = find_guard(model, variant, who=who, token=token)
    return load_causal(base, who=who, dtype=dtype, adapter=adapter), base
