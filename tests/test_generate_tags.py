"""Answers held to a closed set of tags: what may come next, for any way that a tokenizer spells it."""

import json
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tamis.errors import ModelError, UsageError
from tamis.models.tag_trie import TagTrie, read_vocabulary, token_bytes
from tiny_generators import TAGS, byte_tokenizer
from tiny_llama import llama_tokenizer

KINDS = {"bytes": (byte_tokenizer, "<|end|>"), "pieces": (llama_tokenizer, "</s>")}
LONG = 10_000


@cache
def spelled(kind):
    made, end = KINDS[kind]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made(), eos_token=end)
    return token_bytes(tokenizer, who="test"), tokenizer.eos_token_id


@cache
def trie(kind, tags=tuple(TAGS)):
    pieces, end = spelled(kind)
    return TagTrie(tags, pieces, [end], who="test")


def walk(automaton, kind, choose, bound):
    """(the bytes written, the tags) of an answer that takes what ``choose`` takes of the allowed tokens."""
    pieces, end = spelled(kind)
    spelling, written = automaton.begin(), b""
    for used in range(bound):
        allowed = automaton.allowed(spelling, bound - used)
        assert len(set(allowed.tolist())) == len(allowed) > 0
        token = int(choose(allowed))
        if token == end:
            return written, automaton.tags_of(spelling), True
        automaton.advance(spelling, token)
        written += pieces[token]
    return written, automaton.tags_of(spelling), False


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150)
@given(seed=st.integers(0, 2**32), bound=st.integers(1, 40))
def test_whatever_is_taken_of_the_allowed_tokens_is_a_list_of_tags(kind, seed, bound):
    state = np.random.default_rng(seed)
    written, tags, ended = walk(trie(kind), kind, state.choice, bound)
    assert len(set(tags)) == len(tags)
    assert set(tags) <= set(TAGS)
    whole = written.decode("utf-8", "ignore").removeprefix(" ").split(", ")
    if ended:
        assert whole == tags != []
    else:
        assert whole[: len(tags)] == tags
        assert len(whole) - len(tags) <= 1


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150)
@given(data=st.data())
def test_every_way_to_cut_a_list_of_tags_into_tokens_is_allowed(kind, data):
    pieces, end = spelled(kind)
    wanted = data.draw(st.lists(st.sampled_from(TAGS), min_size=1, unique=True))
    rest = data.draw(st.sampled_from([b"", b" "])) + ", ".join(wanted).encode()
    automaton, spelling = trie(kind), trie(kind).begin()
    while rest:
        allowed = automaton.allowed(spelling, LONG)
        fitting = [token for token, piece in pieces.items() if piece and rest.startswith(piece)]
        assert fitting
        assert set(fitting) <= set(allowed.tolist()), (rest, spelling)
        token = data.draw(st.sampled_from(sorted(fitting)))
        automaton.advance(spelling, token)
        rest = rest[len(pieces[token]) :]
    assert end in automaton.allowed(spelling, LONG)
    assert automaton.tags_of(spelling) == wanted


def test_a_token_that_ends_one_tag_and_begins_the_next_is_allowed():
    pieces = {0: b"contrac", 1: b"t, c", 2: b"riminal", 3: b"t", 4: b"ontract", 5: b", ", 9: b""}
    automaton = TagTrie(["contract", "criminal"], pieces, [9], who="test")
    spelling = automaton.begin()
    automaton.advance(spelling, 0)
    assert automaton.allowed(spelling, LONG).tolist() == [1, 3]
    automaton.advance(spelling, 1)
    # "contract" is used, so that of "c" only "criminal" is left.
    assert automaton.allowed(spelling, LONG).tolist() == [2]
    automaton.advance(spelling, 2)
    assert automaton.allowed(spelling, LONG).tolist() == [9]
    assert automaton.tags_of(spelling) == ["contract", "criminal"]


def test_no_tag_is_begun_that_could_not_be_finished():
    pieces = {i: bytes([c]) for i, c in enumerate(b"abclong, ")}
    automaton = TagTrie(["a", "b", "cccc"], pieces, [99], who="test")
    spelled_by = dict(enumerate("abclong, "))
    first = [spelled_by[t] for t in automaton.allowed(automaton.begin(), 3).tolist()]
    assert first == ["a", "b", " "]
    assert "c" in [spelled_by[t] for t in automaton.allowed(automaton.begin(), 4).tolist()]
    spelling = automaton.begin()
    automaton.advance(spelling, 0)
    assert automaton.allowed(spelling, 2).tolist() == [99]  # ", b" takes three
    assert automaton.allowed(spelling, 3).tolist() == [7, 99]


def test_a_tag_that_was_used_is_no_way_to_finish():
    pieces = {i: bytes([c]) for i, c in enumerate(b"cb, ")}
    automaton = TagTrie(["cc", "cccc", "b"], pieces, [99], who="test")
    spelling = automaton.begin()
    for token in (0, 0, 2, 3):
        automaton.advance(spelling, token)
    assert automaton.allowed(spelling, 4).tolist() == [0, 1]
    assert automaton.allowed(spelling, 2).tolist() == [1]  # "cc" is used, and "cccc" takes four


@pytest.mark.parametrize("bound", range(1, 9))
def test_the_last_token_ends_a_tag_wherever_one_fits(bound):
    state = np.random.default_rng(bound)
    for _ in range(20):
        _, tags, _ = walk(trie("bytes"), "bytes", state.choice, bound)
        assert tags  # "a" is a single token


def test_an_unfinished_tag_is_no_tag():
    automaton = trie("bytes", ("contract-law",))
    pieces, _ = spelled("bytes")
    spelling = automaton.begin()
    for byte in b"contract":
        automaton.advance(spelling, next(token for token, piece in pieces.items() if piece == bytes([byte])))
    assert automaton.tags_of(spelling) == []


def test_special_tokens_spell_nothing_and_added_ones_what_they_say():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer(), eos_token="<|end|>")
    tokenizer.add_tokens(["soup-law"])
    pieces = token_bytes(tokenizer, who="test")
    assert pieces[tokenizer.convert_tokens_to_ids("soup-law")] == b"soup-law"
    assert tokenizer.eos_token_id not in pieces
    for kind in KINDS:
        assert {bytes([b]) for b in range(256)} <= set(spelled(kind)[0].values())


def test_tokens_spell_what_the_tokenizer_decodes():
    for kind, (made, _) in KINDS.items():
        tokenizer = made()
        for text in ("the law, straße", "日本 c++ 👍"):
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            assert b"".join(spelled(kind)[0][i] for i in ids).decode().removeprefix(" ") == text


def test_tokenizers_that_do_not_spell_exactly_are_refused():
    words = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(
        ModelError, match=r"who: tags= needs a model whose tokenizer is byte-level BPE.*without a decoder"
    ):
        token_bytes(PreTrainedTokenizerFast(tokenizer_object=words), who="who")


def test_what_cannot_be_spelled_or_ended_is_a_sentence():
    with pytest.raises(ModelError, match="who: the model's tokenizer has no tokens that spell the tag 'b'"):
        TagTrie(["a", "b"], {0: b"a"}, [9], who="who")
    with pytest.raises(ModelError, match="who: the model and its tokenizer name no token that ends a text"):
        TagTrie(["a"], {0: b"a"}, [], who="who")


def test_the_vocabulary_is_a_list_or_a_file(tmp_path):
    assert read_vocabulary([" b ", "a", "b", ""], who="x") == ("b", "a")
    file = tmp_path / "tags.txt"
    file.write_text("b\r\n\na \nb\nunited states\n")
    assert read_vocabulary(file, who="x") == ("b", "a", "united states")
    file.write_text(json.dumps(["b", "straße"]))
    assert read_vocabulary(str(file), who="x") == ("b", "straße")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "there is no tag. Give at least one"),
        ("a\nb, c\n", "the tag 'b, c' holds a comma"),
        ('["a", 1]', "a JSON list of tags holds strings only"),
        ('["a"', "begins like a JSON list and is none"),
        (b"\xff\xfe", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_a_bad_tags_file_is_a_sentence(tmp_path, content, message):
    file = tmp_path / "tags.txt"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=f"who: the tags file .*tags.txt.*{message}"):
        read_vocabulary(file, who="who")
