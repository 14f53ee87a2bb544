"""Answers held to a closed set of tags: which tokens may come next so that ``a, b, c`` names known tags, each once.

The automaton reads bytes, so a token is allowed if all of its bytes go on with some list of tags, however the tokenizer
would have cut that list itself ("contract" and "con" + "tract", a token that ends one tag and begins the next): the
model's own choice of tokens is kept wherever it spells a list of tags.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tamis.errors import ModelError, UsageError

__all__ = ["Spelling", "TagTrie", "read_vocabulary", "token_bytes"]

_START, _FIRST, _COMMA = 0, 1, 2
"""Nodes: nothing yet (a blank may come first, as tokenizers like it), the beginning of a tag, a comma that was read."""
_COMMA_BYTE = ord(",")
_HERE = -1
"""In tokens nested by their bytes, what holds those that end there."""
_NEVER = np.iinfo(np.int32).max


def read_vocabulary(tags: str | os.PathLike[str] | Sequence[str], *, who: str) -> tuple[str, ...]:
    """The tags that are allowed, stripped, each once, in their order.

    Args:
        tags: The tags, or a UTF-8 file of them: one a line, or a JSON list of strings.
        who: Who asks, for the error message.

    Raises:
        UsageError: The file cannot be read, there is no tag, or a tag holds a comma or a line end.
    """
    where = f"{who}: tags"
    if isinstance(tags, str | os.PathLike):
        path = Path(tags).expanduser()
        where = f"{who}: the tags file {path}"
        try:
            content = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            message = f"{where} cannot be read: {error}. It should hold one tag a line, or a JSON list of strings."
            raise UsageError(message) from error
        tags = _listed(content, where)
    found = dict.fromkeys(tag.strip() for tag in tags)
    found.pop("", None)
    if not found:
        message = f"{where}: there is no tag. Give at least one, or leave tags out to let the model write anything."
        raise UsageError(message)
    for tag in found:
        if "," in tag or len(tag.splitlines()) > 1:
            message = f"{where}: the tag {tag!r} holds a comma or a line end, and answers are lists such as 'a, b, c'."
            raise UsageError(message)
    return tuple(found)


def _listed(content: str, where: str) -> Sequence[str]:
    if not content.lstrip().startswith("["):
        return content.splitlines()
    try:
        found = json.loads(content)
    except json.JSONDecodeError as error:
        message = f"{where} begins like a JSON list and is none: {error}"
        raise UsageError(message) from error
    if not all(isinstance(tag, str) for tag in found):
        message = f"{where}: a JSON list of tags holds strings only."
        raise UsageError(message)
    return list(found)


# -- what tokens spell ---------------------------------------------------------------------------------------


def token_bytes(tokenizer: Any, *, who: str) -> Mapping[int, bytes]:
    """The bytes that each token adds to a text, by its id; special tokens are left out.

    Two families spell exactly: byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM2), whose vocabulary writes each byte as
    one character, and SentencePiece (Llama 2, Gemma), which writes a blank as ▁ and single bytes as <0x0A>.

    Raises:
        ModelError: The tokenizer is of another family.
    """
    kinds = _decoders(tokenizer)
    if "ByteLevel" in kinds:
        letters = _byte_letters()
        added = {i: t.content for i, t in tokenizer.added_tokens_decoder.items()}
        found = {
            i: bytes(letters[c] for c in piece)
            for piece, i in tokenizer.get_vocab().items()
            if i not in added and all(c in letters for c in piece)
        }
    elif "ByteFallback" in kinds or "Metaspace" in kinds:
        found = {i: _sentence_piece(piece) for piece, i in tokenizer.get_vocab().items()}
    else:
        message = (
            f"{who}: tags= needs a model whose tokenizer is byte-level BPE or SentencePiece (Llama, Gemma, Qwen …); "
            f"this one is of another kind ({', '.join(sorted(kinds)) or 'without a decoder'}). Leave tags out."
        )
        raise ModelError(message)
    for i, token in tokenizer.added_tokens_decoder.items():
        if token.special:
            found.pop(i, None)
        else:
            found[i] = token.content.encode()
    return found


def _decoders(tokenizer: Any) -> set[str]:
    """The kinds of decoder in a fast tokenizer; of a slow one nothing is known."""
    decoder = tokenizer.backend_tokenizer.decoder if tokenizer.is_fast else None
    if decoder is None:
        return set()
    saved = json.loads(decoder.__getstate__())
    return {part["type"] for part in saved.get("decoders", [saved])}


def _byte_letters() -> dict[str, int]:
    """Which byte each character of a byte-level vocabulary stands for.

    Printable characters of Latin-1 stand for themselves; the other bytes, in order, have the characters from 256 on.
    """
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    plain = [c for c in letters if ord(c) < 256]
    others = sorted(set(range(256)) - {ord(c) for c in plain})
    return {c: ord(c) for c in plain} | dict(zip(letters[len(plain) :], others, strict=True))


def _sentence_piece(piece: str) -> bytes:
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return bytes.fromhex(piece[3:5])
    return piece.replace("▁", " ").encode()


# -- the automaton -------------------------------------------------------------------------------------------


@dataclass
class Spelling:
    """How far one answer is."""

    node: int = _START
    tags: list[int] = field(default_factory=list)
    """Tags that are finished, by number."""
    used: npt.NDArray[np.int32] | None = None
    """How many of them lie below each node; None for none."""


@dataclass(frozen=True)
class _Moves:
    """What may come at a node."""

    tokens: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    """The node after each."""
    finishing: Mapping[int, tuple[int, ...]]
    """Position of a token that goes past the end of tags, to those tags."""

    @property
    def inside(self) -> set[int]:
        """The nodes that are reached without going past the end of a tag."""
        return {end for place, end in enumerate(self.ends.tolist()) if place not in self.finishing}


class TagTrie:
    """The tokens that may come next in a list of tags, and the tags that were spelled.

    An answer names one tag at least and none twice, and is ended by an end token. Near the bound on its length no tag
    is begun that could not be finished; what is unfinished all the same is no part of :meth:`tags_of`.
    """

    def __init__(self, tags: Sequence[str], pieces: Mapping[int, bytes], ends: Iterable[int], *, who: str) -> None:
        """Build it.

        Args:
            tags: The vocabulary, as :func:`read_vocabulary` gives it.
            pieces: What each token spells (:func:`token_bytes`).
            ends: Tokens that end a text.
            who: Who asks, for the error message.

        Raises:
            ModelError: There is no end token, or a tag cannot be spelled.
        """
        self.tags = tuple(tags)
        self._ends = np.array(sorted(ends), dtype=np.int64)
        if not len(self._ends):
            message = f"{who}: the model and its tokenizer name no token that ends a text, and a list of tags must end."
            raise ModelError(message)
        blank = ord(" ")
        self._children: list[dict[int, int]] = [{blank: _FIRST}, {}, {blank: _FIRST}]
        self._tag_at: dict[int, int] = {}
        """The tag that ends at a node."""
        self._above = [self._add(number, tag.encode()) for number, tag in enumerate(self.tags)]
        """The nodes from which each tag is to be had."""
        self._children[_START] |= self._children[_FIRST]
        self._count = np.zeros(len(self._children), dtype=np.int32)
        """Tags to be had from each node."""
        for nodes in self._above:
            self._count[nodes] += 1
        self._moves = self._all_moves(pieces)
        self._distance = self._distances()
        self._costs = {node: self._tokens_of_tags(node) for node in (_START, _FIRST, _COMMA)}
        """Where all tags are to be had: the fewest tokens that each takes."""
        self._farthest = 1 + int(max(costs[costs != _NEVER].max(initial=0) for costs in self._costs.values()))
        """With more tokens left than this any tag can be finished."""
        reached = self._reached()
        lost = [self.tags[number] for node, number in self._tag_at.items() if node not in reached]
        if lost:
            message = f"{who}: the model's tokenizer has no tokens that spell the tag {lost[0]!r}."
            raise ModelError(message)

    # -- building ----------------------------------------------------------------------------------------------

    def _add(self, number: int, spelled: bytes) -> npt.NDArray[np.int64]:
        node, path = _FIRST, [_START, _FIRST, _COMMA]
        for byte in spelled:
            after = self._children[node].get(byte)
            if after is None:
                after = len(self._children)
                self._children.append({})
                self._children[node][byte] = after
            node = after
            path.append(node)
        self._tag_at[node] = number
        return np.array(path, dtype=np.int64)

    def _all_moves(self, pieces: Mapping[int, bytes]) -> list[_Moves]:
        alphabet = {byte for tag in self.tags for byte in tag.encode()} | set(b", ")
        root: dict[int, Any] = {}
        for token, spelled in pieces.items():
            if spelled and alphabet.issuperset(spelled):
                place = root
                for byte in spelled:
                    place = place.setdefault(byte, {})
                place.setdefault(_HERE, []).append(token)
        return [self._moves_of(node, root) for node in range(len(self._children))]

    def _moves_of(self, node: int, root: dict[int, Any]) -> _Moves:
        """Walk the tokens and the automaton together."""
        found: list[tuple[int, int, tuple[int, ...]]] = []
        todo: list[tuple[int, dict[int, Any], tuple[int, ...]]] = [(node, root, ())]
        while todo:
            at, place, past = todo.pop()
            found += [(token, at, past) for token in place.get(_HERE, ())]
            todo += [(after, place[byte], past) for byte, after in self._children[at].items() if byte in place]
            if _COMMA_BYTE in place and at in self._tag_at:  # no tag holds a comma
                todo.append((_COMMA, place[_COMMA_BYTE], (*past, self._tag_at[at])))
        found.sort()
        return _Moves(
            np.array([token for token, _, _ in found], dtype=np.int64),
            np.array([end for _, end, _ in found], dtype=np.int64),
            {i: past for i, (_, _, past) in enumerate(found) if past},
        )

    def _distances(self) -> npt.NDArray[np.int64]:
        """The fewest tokens from each node to the end of a tag."""
        before: dict[int, list[int]] = {}
        for node, moves in enumerate(self._moves):
            for end in set(moves.ends.tolist()):
                before.setdefault(end, []).append(node)
        distance = np.full(len(self._moves), _NEVER, dtype=np.int64)
        ring, steps = list(self._tag_at), 0
        while ring:
            distance[ring] = steps
            steps += 1
            ring = [node for node in {n for end in ring for n in before.get(end, ())} if distance[node] == _NEVER]
        return distance

    def _tokens_of_tags(self, node: int) -> npt.NDArray[np.int64]:
        tokens = np.full(len(self._moves), _NEVER, dtype=np.int64)
        ring, steps = [node], 0
        while ring:
            tokens[ring] = steps
            steps += 1
            ring = [end for end in {e for at in ring for e in self._moves[at].inside} if tokens[end] == _NEVER]
        found = np.full(len(self.tags), _NEVER, dtype=np.int64)
        for end, tag in self._tag_at.items():
            found[tag] = tokens[end]
        return found

    def _reached(self) -> set[int]:
        reached, todo = {_START}, [_START]
        while todo:
            new = set(self._moves[todo.pop()].ends.tolist()) - reached
            reached |= new
            todo += new
        return reached

    # -- spelling ----------------------------------------------------------------------------------------------

    def begin(self) -> Spelling:
        """An answer of which nothing is there."""
        return Spelling()

    def allowed(self, spelling: Spelling, left: int) -> npt.NDArray[np.int64]:
        """The tokens that may come next, int64, at least one.

        Args:
            spelling: How far the answer is.
            left: Tokens that the answer may still get, this one included.
        """
        moves = self._moves[spelling.node]
        free = self._count[moves.ends]
        if spelling.used is not None:
            free = free - spelling.used[moves.ends]
        good = free > 0
        for place, past in moves.finishing.items():
            good[place] = good[place] and self._may_finish(spelling, past, int(moves.ends[place]), int(free[place]))
        tag = self._tag_at.get(spelling.node)
        ends = self._ends if tag is not None and tag not in spelling.tags else self._ends[:0]
        for near in (self._near(spelling, moves, left), self._distance[moves.ends] != _NEVER):
            tokens = np.concatenate([moves.tokens[good & near], ends])
            if len(tokens):
                return tokens
        return self._ends

    def _near(self, spelling: Spelling, moves: _Moves, left: int) -> npt.NDArray[np.bool_]:
        """After which of the moves a tag that is not used yet can be finished with the tokens that are left then."""
        near = self._distance[moves.ends] < left
        if spelling.used is not None and left <= self._farthest:
            for place in np.flatnonzero(near & (spelling.used[moves.ends] > 0)):
                used = {*spelling.tags, *moves.finishing.get(int(place), ())}
                near[place] = self._can_end(int(moves.ends[place]), used, left - 1)
        return near

    def _can_end(self, node: int, used: set[int], steps: int) -> bool:
        if node in self._costs:
            costs = self._costs[node].copy()
            costs[list(used)] = _NEVER
            return bool(costs.min() <= steps)
        ring, seen = {node}, {node}
        for _ in range(steps + 1):
            if any(self._tag_at.get(at, -1) not in {-1, *used} for at in ring):
                return True
            ring = {end for at in ring for end in self._moves[at].inside} - seen
            seen |= ring
        return False

    def _may_finish(self, spelling: Spelling, past: tuple[int, ...], end: int, free: int) -> bool:
        """Whether these tags may be finished, and another is to be had after them."""
        if len({*past, *spelling.tags}) < len(past) + len(spelling.tags):
            return False
        return free > sum(end in self._above[tag] for tag in past)

    def advance(self, spelling: Spelling, token: int) -> None:
        """Take one of the allowed tokens that ends no text."""
        moves = self._moves[spelling.node]
        place = int(np.searchsorted(moves.tokens, token))
        for tag in moves.finishing.get(place, ()):
            spelling.tags.append(tag)
            if spelling.used is None:
                spelling.used = np.zeros(len(self._count), dtype=np.int32)
            spelling.used[self._above[tag]] += 1
        spelling.node = int(moves.ends[place])

    def tags_of(self, spelling: Spelling) -> list[str]:
        """The tags that were spelled to their end, in their order."""
        last = self._tag_at.get(spelling.node)
        numbers = spelling.tags if last is None or last in spelling.tags else [*spelling.tags, last]
        return [self.tags[number] for number in numbers]
