"""A prompt's token ids, the same in training and in generation, shortened where they are too many.

Tokens merge across the border of two texts, so a prompt and its completion are always encoded apart: the model is
trained on the very ids that it will be asked with. What is cut of a prompt is the end of its body (the document in it),
so that the instructions around it stay whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tamis.errors import ModelError, UsageError

__all__ = ["Example", "Prompt", "chat_texts", "encode_completion", "encode_example", "encode_prompt", "fit_prompt"]

_CHARACTERS_PER_TOKEN = 32
"""A body is first cut to this many characters per token of the room: no usual token of a text is longer."""
_PROBE = "\x02tamis\x03"
"""Stands for a completion where a chat template is asked what it writes around one."""


@dataclass(frozen=True)
class Prompt:
    """What fits of a prompt."""

    ids: list[int]
    """Token ids, the beginning-of-text token included where the tokenizer has one."""
    body_cut: bool = False
    """Whether the end of the body was left out."""
    middle_cut: bool = False
    """Whether the middle was left out, as there was no body to shorten or it was not enough."""


@dataclass(frozen=True)
class Example:
    """What a model is trained on: the prompt that it is shown, and the completion that it is to write."""

    prompt: Prompt
    completion: list[int]
    """Token ids, the last the end of text; none where the completion is blank."""


def encode_prompt(tokenizer: Any, row: Mapping[str, Any], room: int) -> list[int]:
    """The ids of :func:`fit_prompt`, at most ``room``."""
    return fit_prompt(tokenizer, row, room).ids


def fit_prompt(tokenizer: Any, row: Mapping[str, Any], room: int) -> Prompt:
    """The token ids of a row's prompt, at most ``room`` of them.

    Args:
        tokenizer: Of ``transformers``, with a ``tokenizer.json``.
        row: ``prompt`` (text), and perhaps ``prompt_body``: [start, end], the characters of it that may be cut, from
            their end. Or ``messages``: a list of {"role", "content"}, written with the tokenizer's chat template up to
            where the assistant is to answer; a last message that is the assistant's is left out.
        room: Tokens that fit, at least 1.

    An empty prompt gives the beginning-of-text token alone, or no token.

    Raises:
        UsageError: The row has neither, the room is no room, or the body lies outside of the prompt.
        ModelError: The tokenizer has no chat template, or gives no offsets into the text.
    """
    if room < 1:
        message = f"there is room for {room} tokens of a prompt: the window holds the answer alone."
        raise UsageError(message)
    if row.get("messages") is not None:
        text, _ = chat_texts(tokenizer, row["messages"])
        return _fit(tokenizer, text, None, room)
    if not isinstance(row.get("prompt"), str):
        message = f"a row needs a prompt (text) or messages (a list); this one has {', '.join(row) or 'nothing'}."
        raise UsageError(message)
    return _fit(tokenizer, row["prompt"], _body(row), room)


def encode_completion(tokenizer: Any, completion: str) -> list[int]:
    """The ids of a completion and the end-of-text token; none where it is blank.

    Raises:
        ModelError: The tokenizer has no end-of-text token.
    """
    if tokenizer.eos_token_id is None:
        message = (
            f"the tokenizer {tokenizer.name_or_path} has no end-of-text token (eos_token): the model could not learn "
            "where an answer ends. Name it in tokenizer_config.json."
        )
        raise ModelError(message)
    if not completion.strip():
        return []
    ids: list[int] = list(tokenizer(completion, add_special_tokens=False)["input_ids"])
    return ids if ids and ids[-1] == tokenizer.eos_token_id else [*ids, int(tokenizer.eos_token_id)]


def encode_example(tokenizer: Any, row: Mapping[str, Any], window: int) -> Example | None:
    """A row's prompt and completion, together at most ``window`` tokens: the prompt is what gives way.

    Args:
        tokenizer: Of ``transformers``.
        row: As of :func:`fit_prompt`, with ``completion`` (text) beside ``prompt``; of ``messages`` the last one, the
            assistant's, is the completion.
        window: Tokens that the model sees.

    Returns:
        The example; None where the completion leaves no room for a token of the prompt.

    Raises:
        UsageError, ModelError: As :func:`fit_prompt`.
    """
    if row.get("messages") is not None:
        prompt, answer = chat_texts(tokenizer, row["messages"])
        body = None
    else:
        prompt, answer, body = row.get("prompt") or "", row.get("completion") or "", _body(row)
    completion = encode_completion(tokenizer, answer)
    if len(completion) >= window:
        return None
    return Example(_fit(tokenizer, prompt, body, window - len(completion)), completion)


def chat_texts(tokenizer: Any, messages: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """The text that a model is shown of a conversation, and the text that the assistant writes last; "" for none.

    The completion ends before what the template writes after the end of the assistant's turn.

    Raises:
        ModelError: The tokenizer has no chat template, or the template refuses the messages.
        UsageError: There is no message before the answer.
    """
    if not getattr(tokenizer, "chat_template", None):
        message = (
            f"the rows have messages, and the tokenizer {tokenizer.name_or_path} has no chat template. Use a model for "
            "chat, or rows with prompt and completion."
        )
        raise ModelError(message)
    said = [dict(each) for each in messages]
    answer = said.pop()["content"] or "" if said and said[-1].get("role") == "assistant" else ""
    if not said:
        message = "a row's messages must hold one before the assistant's answer."
        raise UsageError(message)
    try:
        shown = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
        if not answer.strip():
            return shown, ""
        whole = tokenizer.apply_chat_template(
            [*said, {"role": "assistant", "content": _PROBE}], tokenize=False, add_generation_prompt=False
        )
    except Exception as error:  # a template raises whatever its author chose
        message = f"the chat template of {tokenizer.name_or_path} cannot write these messages: {error}"
        raise ModelError(message) from error
    before, found, after = whole.rpartition(_PROBE)
    if not found or not before.startswith(shown.rstrip()):
        message = (
            f"the chat template of {tokenizer.name_or_path} writes a conversation otherwise once it is answered, so "
            "its prompt cannot be told from its answer. Use rows with prompt and completion."
        )
        raise ModelError(message)
    eos = tokenizer.eos_token or ""
    end = after.find(eos) if eos else -1
    return shown, answer + (after[: end + len(eos)] if end >= 0 else after.rstrip())


def _body(row: Mapping[str, Any]) -> tuple[int, int] | None:
    body = row.get("prompt_body")
    if body is None:
        return None
    length = len(row.get("prompt") or "")
    if len(body) != 2 or not 0 <= body[0] <= body[1] <= length:
        message = f"prompt_body must be [start, end] in the prompt's {length} characters; got {list(body)}."
        raise UsageError(message)
    return int(body[0]), int(body[1])


def _fit(tokenizer: Any, text: str, body: tuple[int, int] | None, room: int) -> Prompt:
    if not tokenizer.is_fast:
        message = (
            f"the tokenizer {tokenizer.name_or_path} must have a tokenizer.json (it gives no offsets into the text)."
        )
        raise ModelError(message)
    ids, ends = _encode(tokenizer, text)
    if len(ids) <= room:
        return Prompt(ids)
    if body is None or body[0] == body[1]:
        return _without_middle(ids, room)
    start, end = body
    tail = text[end:]
    most = min(end, start + room * _CHARACTERS_PER_TOKEN)
    if most < end:
        end = most
        ids, ends = _encode(tokenizer, text[:end] + tail)
    while len(ids) > room and end > start:
        inside = [at for at in ends if start < at <= end]
        over = len(ids) - room
        # Characters of several tokens (bytes) end together: at least one character always goes.
        end = min(inside[-1 - over] if over < len(inside) else start, end - 1)
        ids, ends = _encode(tokenizer, text[:end] + tail)
    if len(ids) > room:
        return Prompt(_without_middle(ids, room).ids, body_cut=True, middle_cut=True)
    return Prompt(ids, body_cut=True)


def _without_middle(ids: list[int], room: int) -> Prompt:
    """The beginning and the end: what is asked stands in one of them."""
    head = room // 2
    return Prompt(ids[:head] + ids[len(ids) - (room - head) :], middle_cut=True)


def _encode(tokenizer: Any, text: str) -> tuple[list[int], list[int]]:
    """Ids, and the character after each; a prompt begins like a text and does not end like one."""
    bos, eos = tokenizer.bos_token, tokenizer.eos_token_id
    # A chat template writes the beginning-of-text token out: there must be one.
    special = not (bos and text.startswith(bos))
    encoded = tokenizer(text, add_special_tokens=special, return_offsets_mapping=True, truncation=False, verbose=False)
    ids, ends = list(encoded["input_ids"]), [end for _, end in encoded["offset_mapping"]]
    if special and eos is not None and ids and ids[-1] == eos and ends[-1] == 0:
        ids.pop()  # added by the tokenizer, not written in the text
        ends.pop()
    return ids, ends
