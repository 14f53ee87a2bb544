"""``Generate``: what a language model writes after each prompt, free or held to a closed set of tags."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import orjson
import pyarrow as pa

from tamis.errors import MissingColumnError, ModelError, UnknownNameError, UsageError
from tamis.hashing import document_id
from tamis.models.checkpoint import TOKENIZER, find, here, read_config, require_extra
from tamis.models.generate import Continuation, Continuer, Request, Rules
from tamis.models.lora import ADAPTER_CONFIG, find_adapter
from tamis.models.packages import PACKAGES
from tamis.models.stage import WINDOW, DeviceStage, makes_field
from tamis.models.tag_trie import read_vocabulary
from tamis.stage import Needs, TableFunction
from tamis.table import put
from tamis.tags import completion_tags, parse_tags

__all__ = ["Generate", "find_causal"]

Engine = Literal["torch", "vllm"]
ModelName = str | os.PathLike[str]

_MESSAGES = "messages"
_BODY = "prompt_body"
_FEWEST_TOKENS = 2048
"""The window of a model whose configuration names none."""


@dataclass(frozen=True, kw_only=True)
class Generate(DeviceStage):
    """Adds what a language model writes after each prompt, and the tags it names there.

    Answer: ``generated_column`` holds the text as it was written, without special tokens; ``tags_column`` the tags of
        its first line that is not blank, a list with commas or one that :func:`tamis.tags.parse_tags` knows by its
        first character, each once, in their order. With ``tags`` the
        model can write nothing but a list ``a, b, c`` of these, one at least and none twice; a tag that the bound on
        the length cut off is not among the answer's tags.
    Empty text: A null or blank prompt is not shown to the model; its answer is "" and no tags.
    Prompt: The column ``prompt_field``; where there is none, the column ``messages`` with the model's chat template, up
        to where the assistant answers last. A prompt that does not fit the model's window beside the answer loses the
        end of its body (the characters that ``prompt_body`` names), and else its middle.
    Randomness: With ``temperature`` above 0 an answer is a function of (seed, id, prompt). In float32 an answer is the
        same whatever is in its batch; in bfloat16 sums are rounded, and rarely another token wins.
    """

    model: ModelName = field(kw_only=False)
    """Hub id or directory of a causal language model; or the directory of a LoRA adapter, which names its model."""
    prompt_field: str = "prompt"
    """Column that is read (string)."""
    max_new_tokens: int = 32
    """Bound on an answer."""
    temperature: float = 0.0
    """0 takes the likeliest token each time; more samples among them, 1 by their probability."""
    top_p: float = 1.0
    """When sampling: of the tokens, the likeliest ones that have this much of the probability together, in (0, 1]."""
    seed: int = 0
    """When sampling."""
    stop: Sequence[str] = ()
    """An answer ends before the first of these texts."""
    tags: str | os.PathLike[str] | Sequence[str] | None = None
    """The tags that may be written, or a file of them: one a line, or a JSON list. By default anything may be
    written."""
    adapter: ModelName | None = None
    """Directory or hub id of a LoRA adapter of that model, as PEFT writes it."""
    merge_adapter: bool = True
    """Whether it is added to the weights as they load, which is faster, or runs beside them, as in training (needs
    PEFT)."""
    tokenizer: ModelName | None = None
    """Hub id or directory of the tokenizer; that of the model by default."""
    engine: Engine = "torch"
    """``torch``, or ``vllm`` where it is installed; vLLM never merges an adapter."""
    generated_column: str = "generated"
    """Column for the text (string)."""
    tags_column: str = "predicted_tags"
    """Column for the tags (list of strings)."""

    weights: ClassVar[tuple[str, ...]] = ("model", "adapter", "tokenizer", "tags")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.engine not in get_args(Engine):
            raise UnknownNameError.of(str(self.engine), get_args(Engine), kind="engine", where=self.name)
        if type(self.max_new_tokens) is not int or self.max_new_tokens < 1:
            message = f"{self.name}: max_new_tokens must be a positive whole number; got {self.max_new_tokens!r}."
            raise UsageError(message)
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            message = f"{self.name}: temperature must be 0 (the likeliest token) or more; got {self.temperature!r}."
            raise UsageError(message)
        if not 0 < self.top_p <= 1:
            message = f"{self.name}: top_p must be above 0 and at most 1; got {self.top_p!r}."
            raise UsageError(message)
        if isinstance(self.stop, str) or any(type(each) is not str or not each for each in self.stop):
            message = f"{self.name}: stop must be a list of texts that are not empty; got {self.stop!r}."
            raise UsageError(message)
        if self.adapter is not None and not self.merge_adapter and self.engine == "torch":
            require_extra(self.name, "peft", extra="tune")

    # -- what it makes ---------------------------------------------------------------------------------------

    @property
    def may_drop(self) -> bool:
        """Never."""
        return False

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the prompts, or else the messages; makes both answers; runs on a device."""
        self._check_files()
        makes = (
            makes_field(schema, self.generated_column, pa.string()),
            pa.field(self.tags_column, pa.list_(pa.string())),
        )
        reads = [name for name in (_BODY, "id") if name in schema.names]
        texts: tuple[str, ...] = (self.prompt_field,)
        if self.prompt_field not in schema.names:
            if _MESSAGES not in schema.names:
                raise MissingColumnError.of(self.prompt_field, self.name, schema.names)
            self._check_chat_template()
            texts, reads = (), [_MESSAGES, *reads]
        return Needs(texts=texts, reads=tuple(reads), makes=makes, device="accelerator", window=WINDOW)

    def _check_files(self) -> None:
        """Say what is wrong with the files of this machine before anything runs; fetches nothing."""
        self._vocabulary()
        if self.adapter is not None and here(self.adapter) is not None:
            _adapter_settings(find(self.adapter, who=self.name, holds=ADAPTER_CONFIG), self.name)

    def _check_chat_template(self) -> None:
        place = here(self.tokenizer or self.model)
        if place is None or not (place / TOKENIZER).is_file() or (place / "chat_template.jinja").is_file():
            return
        if not orjson.loads((place / TOKENIZER).read_bytes()).get("chat_template"):
            raise ModelError(_no_template(self.name, place))

    def _vocabulary(self) -> tuple[str, ...] | None:
        return None if self.tags is None else read_vocabulary(self.tags, who=self.name)

    # -- loading ---------------------------------------------------------------------------------------------

    def open(self) -> TableFunction:
        """Load the model onto its device and return the function that answers."""
        from tamis.models.prompts import encode_prompt
        from tamis.models.tokenizer import load_tokenizer

        base, adapter = self._places()
        where = base
        if self.tokenizer is not None:
            where = find(self.tokenizer, who=self.name, token=self.token, holds=TOKENIZER)
        tokenizer = load_tokenizer(where, who=self.name)
        if not tokenizer.is_fast:
            message = (
                f"{self.name}: the tokenizer in {where} must have a tokenizer.json (it gives no offsets into text)."
            )
            raise ModelError(message)
        window = self._window(base)
        answer = self._continuer(base, adapter, tokenizer, window)

        def encode(row: Mapping[str, Any]) -> list[int]:
            if _MESSAGES in row and not tokenizer.chat_template:
                raise ModelError(_no_template(self.name, where))
            try:
                return encode_prompt(tokenizer, row, window - self.max_new_tokens)
            except UsageError as error:  # of this row: it is set aside, and the run goes on
                raise ValueError(str(error)) from error

        def run(table: pa.Table) -> pa.Table:
            asked = self._asked(table, encode)
            answers = dict(zip(asked, answer(list(asked.values())), strict=True)) if asked else {}
            texts = [answers[row].text if row in answers else "" for row in range(table.num_rows)]
            tags = [_tags_of(answers[row]) if row in answers else [] for row in range(table.num_rows)]
            table = put(table, self.generated_column, pa.array(texts, pa.string()))
            return put(table, self.tags_column, pa.array(tags, pa.list_(pa.string())))

        return run

    def _asked(self, table: pa.Table, encode: Callable[[Mapping[str, Any]], list[int]]) -> dict[int, Request]:
        """The prompt of each row that has one."""
        column = self.prompt_field if self.prompt_field in table.column_names else _MESSAGES
        names = [name for name in (column, _BODY, "id") if name in table.column_names]
        asked = {}
        for number, row in enumerate(table.select(names).to_pylist()):
            prompt = row.pop(column)
            if column == _MESSAGES:
                said = _said(prompt)
                shown, given = {_MESSAGES: said}, "\n".join(each["content"] or "" for each in said)
            else:
                shown, given = {"prompt": prompt, **({_BODY: row[_BODY]} if row.get(_BODY) else {})}, prompt or ""
            ids = encode(shown) if given.strip() else []
            if ids:
                whose = row.get("id")
                asked[number] = Request(ids, document_id(given) if whose is None else str(whose))
        return asked

    def _continuer(self, base: Path, adapter: Path | None, tokenizer: Any, window: int) -> Continuer:
        rules = Rules(
            self.max_new_tokens, float(self.temperature), self.top_p, self.seed, tuple(self.stop), self._vocabulary()
        )
        if self.engine == "vllm":
            from tamis.models.vllm_engine import VllmContinuer

            return VllmContinuer(base, rules, who=self.name, dtype=self.dtype, window=window, adapter=adapter)
        from tamis.models.batch_decoder import BatchDecoder, budget_for
        from tamis.models.device import pick_device, pick_dtype
        from tamis.models.lora import load_causal

        device = pick_device(self.device, who=self.name)
        dtype = pick_dtype(self.dtype, device, who=self.name)
        merged = adapter if self.merge_adapter else None
        attention = "eager" if read_config(base, who=self.name).get("attn_logit_softcapping") else "sdpa"
        model: Any = load_causal(base, who=self.name, dtype=dtype, adapter=merged, attention=attention)
        if adapter is not None and not self.merge_adapter:
            model = _beside(model, adapter, self.name)
        model = model.to(device)
        return BatchDecoder(
            model, tokenizer, rules, budget_for(model, self.batch_tokens, self.batch_size), who=self.name
        )

    def _places(self) -> tuple[Path, Path | None]:
        """The directories of the language model and of the adapter on it, if there is one."""
        adapter = None
        if self.adapter is not None:
            adapter = find_adapter(self.adapter, who=self.name, token=self.token)
            _adapter_settings(adapter, self.name)
        local = here(self.model)
        if local is not None and (local / ADAPTER_CONFIG).is_file() and not (local / "config.json").is_file():
            named = _adapter_settings(local, self.name).get("base_model_name_or_path")
            if adapter is not None or not named:
                why = "names no model of its own" if not named else "is no model that another could be added to"
                message = f"{self.name}: {local} is a LoRA adapter, and {why}. Pass the model it was made for."
                raise ModelError(message)
            return find_causal(str(named), who=self.name, token=self.token), local
        return find_causal(self.model, who=self.name, token=self.token), adapter

    def _window(self, base: Path) -> int:
        """Tokens of prompt and answer together."""
        config = read_config(base, who=self.name)
        positions = int(config.get("max_position_embeddings") or config.get("n_positions") or _FEWEST_TOKENS)
        window = self.max_length or positions
        if window > positions:
            message = f"{self.name}: max_length must be from 1 to {positions}; got {window}."
            raise ModelError(message)
        if window <= self.max_new_tokens:
            message = (
                f"{self.name}: {window} tokens fit prompt and answer together, and max_new_tokens is "
                f"{self.max_new_tokens}: nothing is left for a prompt. Lower max_new_tokens."
            )
            raise ModelError(message)
        return window


def find_causal(model: ModelName, *, who: str, token: str | None = None) -> Path:
    """The local directory of a causal language model: a directory, ``TAMIS_MODELS``, a pip package, or the hub.

    Raises:
        ModelError: It is nowhere to be had.
    """
    package = PACKAGES.get(os.fspath(model)) if here(model) is None else None
    return find(model, who=who, token=token) if package is None else package.get(who=who)


def _no_template(who: str, place: Path) -> str:
    return (
        f"{who}: the rows have messages, and the tokenizer in {place} has no chat template. Use a model for chat, or "
        "rows with a prompt."
    )


def _adapter_settings(adapter: Path, who: str) -> Mapping[str, Any]:
    if not (adapter / ADAPTER_CONFIG).is_file():
        message = f"{who}: {adapter} is no LoRA adapter (no {ADAPTER_CONFIG}). A whole model is passed as model=."
        raise ModelError(message)
    try:
        found = orjson.loads((adapter / ADAPTER_CONFIG).read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        message = f"{who}: {adapter / ADAPTER_CONFIG} cannot be read: {error}"
        raise ModelError(message) from error
    return found if isinstance(found, dict) else {}


def _beside(model: Any, adapter: Path, who: str) -> Any:
    """The model with the adapter as layers of its own."""
    import peft

    try:
        with warnings.catch_warnings():
            # PEFT asks transformers for names that transformers has deprecated.
            warnings.simplefilter("ignore", FutureWarning)
            whole = peft.PeftModel.from_pretrained(model, str(adapter), is_trainable=False)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        message = f"{who}: the adapter {adapter} does not fit the model: {error}"
        raise ModelError(message) from error
    return whole.get_base_model().eval()


def _said(messages: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]]:
    """The conversation up to where the assistant is to answer."""
    said = [dict(each) for each in messages or ()]
    while said and said[-1].get("role") == "assistant":
        said.pop()
    return said


def _tags_of(answer: Continuation) -> list[str]:
    if answer.tags is not None:
        return answer.tags
    lines = (line.strip() for line in answer.text.splitlines())
    first = next((line for line in lines if line), "")
    # A blank divides no tags here: answers are what `format_tags` writes, and a tag may be of several words.
    return list(parse_tags(first) if first[:1] in {"[", "<", "|"} else completion_tags(first))
