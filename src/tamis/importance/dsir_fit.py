"""The first half of :class:`tamis.importance.HashedNgramDSIR`: its constructor, and what is fitted."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from tamis.dataset import DocumentDataset
from tamis.engine.options import EngineName
from tamis.errors import UsageError
from tamis.importance.dsir_files import PARSED, Counts, Load, Mixtures, Parse, written
from tamis.importance.fit import Tokens, embed_documents, fit_embeddings, fit_fewest, fit_ngrams
from tamis.importance.given import given_embeddings
from tamis.importance.place import Place, read_documents
from tamis.selection.mixture_fit import RAW_COMPONENTS, TARGET_COMPONENTS, MixtureFit, MixtureSettings
from tamis.selection.ngrams import log_ratios
from tamis.text.hashed_ngrams import Hash, HashedNgrams, Tokenizer

if TYPE_CHECKING:
    from tamis.models.embed import Embed

__all__ = ["HELD_OUT", "RAW_FOLDER", "TARGET_FOLDER", "AnyPath", "Done", "ImportanceEstimator", "listed"]

AnyPath = str | os.PathLike[str]
Samples = int | Literal["all"]
RAW_FOLDER, TARGET_FOLDER = "raw text embeddings", "target text embeddings"
HELD_OUT = 0.2
"""Share of the documents that numbers of components are judged by: a small target has few to spare."""
_CHUNK = 10
"""The published default of ``chunk_size``."""
_log = logging.getLogger("tamis")


@dataclass
class Done:
    """What has been done; all of it can be saved."""

    counts: Counts | None = None
    mixtures: Mixtures | None = None
    embeddings: str = ""
    """Folder or file of the raw documents' embeddings."""
    shares: tuple[int, ...] = ()
    """Documents of each target that its mixture was fitted on."""
    weights: str = ""
    """Folder of the weights that were computed last."""
    notes: list[str] = field(default_factory=list)


class ImportanceEstimator:
    """What the raw documents and the targets are like: the fitted half of :class:`tamis.importance.HashedNgramDSIR`.

    The weight of a document is how much likelier it is under the target than under the raw data: by hashed n-grams
    (DSIR: Xie et al. 2023, arXiv:2302.03169), by Gaussian mixtures over sentence embeddings, or by both. Chosen are
    documents without replacement in proportion to their weights, the same in any sharding and on any engine.

    Args:
        raw_datasets: Files, folders, globs or URLs of the documents to choose from; JSON Lines or Parquet.
        target_datasets: The same of the target.
        cache_dir: A local folder (a shared one for a cluster) for what is made between the steps.
        raw_load_dataset_fn: From a path to an iterable of examples (dicts), for other formats. Its examples are
            copied into the cache as JSON Lines, one process reading.
        raw_parse_example_fn: From an example to its text; by default the field ``text_field``. Where the text is no
            field of the example it is kept as ``parsed_text``, in what is chosen, too.
        target_load_dataset_fn: The same for the target.
        target_parse_example_fn: The same for the target.
        num_proc: Worker processes; one per core by default.
        ngrams: The longest n-grams.
        num_buckets: Numbers that an n-gram may hash to.
        tokenizer: "wordpunct" or "word_tokenize".
        min_example_length: Tokens below which a document is never chosen.
        target_laplace_smoothing: Added to every count of a target.
        separate_targets: Whether each of ``target_datasets`` is a target with weights and a quota of its own.
        target_proportions: Each one's share of what is chosen; by default of the n-grams.
        text_field: The field that holds the text.
        hash: "fast", or "sha256", whose buckets are the published ones.
        per_token: Divide n-gram weights by the tokens of a document, so that long ones do not come first.
        seed: Of the choice.
        model: The embedder: a short name, a directory or a hub id; or an ``Embed``.
        components: Gaussians for the raw data and for the target; None for as many, up to the published numbers, as
            make held-out documents likeliest.
        engine: "embedded", or "ray" for a cluster.
        address: The cluster.
        progress: "auto" or "off".
    """

    def __init__(  # noqa: PLR0913, PLR0917  the published constructor, and what it lacks by keyword
        self,
        raw_datasets: AnyPath | Sequence[AnyPath],
        target_datasets: AnyPath | Sequence[AnyPath],
        cache_dir: AnyPath,
        raw_load_dataset_fn: Load | None = None,
        raw_parse_example_fn: Parse | None = None,
        target_load_dataset_fn: Load | None = None,
        target_parse_example_fn: Parse | None = None,
        num_proc: int | None = None,
        ngrams: int = 2,
        num_buckets: int = 10_000,
        tokenizer: Tokenizer = "wordpunct",
        min_example_length: int = 100,
        target_laplace_smoothing: float = 0.0,
        separate_targets: bool = False,  # noqa: FBT001, FBT002  published
        target_proportions: Sequence[float] | None = None,
        *,
        text_field: str = "text",
        hash: Hash = "fast",
        per_token: bool = False,
        seed: int = 0,
        model: AnyPath | Embed = "all-MiniLM-L6-v2",
        components: tuple[int, int] | None = (RAW_COMPONENTS, TARGET_COMPONENTS),
        engine: EngineName = "embedded",
        address: str | None = None,
        progress: Literal["auto", "off"] = "auto",
    ) -> None:
        self.raw_datasets, self.target_datasets = listed(raw_datasets), listed(target_datasets)
        self.features = HashedNgrams(num_buckets, ngrams, hash, tokenizer)
        self.min_example_length = min_example_length
        self.target_laplace_smoothing = target_laplace_smoothing
        self.separate_targets = separate_targets
        self.target_proportions = None if target_proportions is None else tuple(target_proportions)
        self.text_field, self.per_token, self.seed = text_field, per_token, seed
        self.model, self.components = model, components
        self._raw_functions = (raw_load_dataset_fn, raw_parse_example_fn)
        self._target_functions = (target_load_dataset_fn, target_parse_example_fn)
        self._place = Place(Path(cache_dir).expanduser(), num_proc, engine, address, progress)
        self._done = Done()
        self._raw: DocumentDataset | None = None
        self._targets: tuple[DocumentDataset, ...] | None = None
        self._check()

    def _check(self) -> None:
        given = self.target_proportions
        if given is not None and (not self.separate_targets or len(given) != len(self.target_datasets)):
            message = (
                "target_proportions are the shares of separate targets: give separate_targets=True and one number for "
                f"each of the {len(self.target_datasets)} target_datasets; got {list(given)}."
            )
            raise UsageError(message)

    @property
    def cache_dir(self) -> Path:
        """Where what is made between the steps lies."""
        return self._place.cache

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what was done otherwise than asked, and on what looks wrong."""
        return tuple(self._done.notes)

    @property
    def log_diff(self) -> npt.NDArray[np.float64]:
        """``log p_target - log p_raw`` of every bucket, [targets, num_buckets]."""
        raw, targets = self._counted
        return log_ratios(raw, *targets, smoothing=self.target_laplace_smoothing)

    @property
    def _counted(self) -> Counts:
        if self._done.counts is None:
            message = "there are no n-gram counts yet: call fit_ng_importance_estimator() first."
            raise UsageError(message)
        return self._done.counts

    @property
    def raw(self) -> DocumentDataset:
        """The raw documents."""
        if self._raw is None:
            self._raw = self._read(self.raw_datasets, *self._raw_functions, "raw")
        return self._raw

    @property
    def targets(self) -> tuple[DocumentDataset, ...]:
        """The targets: one of all target documents, or each by itself."""
        if self._targets is None:
            self._targets = self._read_targets()
        return self._targets

    def _read_targets(self) -> tuple[DocumentDataset, ...]:
        groups = [[each] for each in self.target_datasets] if self.separate_targets else [self.target_datasets]
        return tuple(
            self._read(group, *self._target_functions, f"target{number or ''}") for number, group in enumerate(groups)
        )

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(str(i + 1) for i in range(len(self.targets))) if len(self.targets) > 1 else ()

    def _columns(self, name: str) -> tuple[str, ...]:
        return tuple(f"{name}_{each}" for each in self._names) or (name,)

    def _read(self, paths: Sequence[str], load: Load | None, parse: Parse | None, name: str) -> DocumentDataset:
        if not paths:
            message = f"there are no {name} datasets; name their files."
            raise UsageError(message)
        if load is None and parse is None:
            return read_documents(paths, self.text_field)
        folder = self.cache_dir / f"{name} documents"
        files = [written(path, load, parse, folder / f"{i:06d}.jsonl", self.text_field) for i, path in enumerate(paths)]
        return read_documents(files, PARSED)

    # -- fit -------------------------------------------------------------------------------------------------

    def fit_ng_importance_estimator(self, num_tokens_to_fit: Tokens = "auto") -> None:
        """Count the n-grams of the targets, and of about so many n-grams' worth of raw documents.

        Args:
            num_tokens_to_fit: "auto" for 100,000 for each bucket, "all", or a number; documents are drawn by id.

        Raises:
            UsageError: A dataset holds not one n-gram.
        """
        self._done.counts = fit_ngrams(self.raw, self.targets, self.features, num_tokens_to_fit, self._place)
        for number, table in enumerate(self._done.counts[1], 1):
            if table.total < self.features.num_buckets:
                which = f"target {number}" if self._names else "the target"
                self._note(
                    f"{which} is small: {table.total:,} n-grams in {table.documents:,} documents, for "
                    f"{self.features.num_buckets:,} buckets. Many buckets are empty by chance; more documents, fewer "
                    "buckets or target_laplace_smoothing help."
                )

    def smooth(self) -> float:
        """Choose ``target_laplace_smoothing`` by the counts: 1 where a bucket of a target is empty, else 0.

        Without, an empty bucket weighs down to -18 nats against a document. Of four targets of 110 to 2,334 documents,
        1 found 70 to 90 % of what was to be found where none found 19 to 90 %, and the largest lost nothing.

        Raises:
            UsageError: The n-grams have not been counted.
        """
        empty = max(int((table.counts == 0).sum()) for table in self._counted[1])
        self.target_laplace_smoothing = 1.0 if empty else 0.0
        if empty:
            self._note(
                f"{empty:,} of {self.features.num_buckets:,} buckets of the target are empty, so 1 was added to each "
                "of its counts (target_laplace_smoothing, --smoothing)."
            )
        return self.target_laplace_smoothing

    def fit_gmm_importance_estimator(  # noqa: PLR0917  published
        self,
        chunk_size: int = 10,
        raw_max_samples: Samples = "all",
        target_max_samples: Samples = "all",
        raw_text_emb_path: AnyPath | None = None,
        target_text_emb_path: AnyPath | None = None,
        checkpoint_dir: AnyPath | None = None,
        gmm_raw_checkpoint_path: AnyPath | None = None,
        gmm_target_checkpoint_path: AnyPath | None = None,
    ) -> tuple[MixtureFit, ...]:
        """Embed the texts, unless that is done, and fit a mixture on the raw documents and on each target.

        Args:
            chunk_size: Most texts in a batch of the model, where it is not the default; results do not depend on it.
            raw_max_samples: About so many raw documents are fitted on, drawn by id.
            target_max_samples: The same for a target.
            raw_text_emb_path: Embeddings of the raw documents that exist: Parquet with id and embedding, or .npy
                files in the order of the documents.
            target_text_emb_path: The same of the target; with separate targets, folders in it named 1, 2, ...
            checkpoint_dir: For the mixtures after each iteration, from which an interrupted fit goes on; the cache by
                default.
            gmm_raw_checkpoint_path: The file of the raw mixture.
            gmm_target_checkpoint_path: The file of the target's; with separate targets its name gets the number.

        Returns:
            How the fits went: of the raw documents, and of each target.

        Raises:
            MissingExtraError: torch is not installed (``tamis[models]``).
            UsageError: Too few documents, or embeddings of others.
        """
        folder = Path(checkpoint_dir) if checkpoint_dir is not None else self.cache_dir
        given = None if raw_text_emb_path is None else Path(raw_text_emb_path)
        raw = self._embeddings(self.raw, given, RAW_FOLDER, chunk_size)
        fits = [self._mixture(raw, 0, raw_max_samples, folder, gmm_raw_checkpoint_path, "gmm_raw")]
        for number, target in enumerate(self.targets):
            name = self._names[number] if self._names else ""
            path = None if target_text_emb_path is None else Path(target_text_emb_path) / name
            own = f"{TARGET_FOLDER} {name}".strip()
            found = self._embeddings(target, path, own, chunk_size)
            file = None if gmm_target_checkpoint_path is None else Path(gmm_target_checkpoint_path)
            file = file.with_stem(f"{file.stem}_{name}") if file is not None and name else file
            label = f"gmm_target{name and '_'}{name}"
            fits.append(self._mixture(found, 1, target_max_samples, folder, file, label))
        self._done.embeddings = str(given if given is not None else self.cache_dir / RAW_FOLDER)
        self._done.mixtures = fits[0].mixture, tuple(each.mixture for each in fits[1:])
        self._done.shares = tuple(each.documents for each in fits[1:])
        return tuple(fits)

    def _embeddings(self, documents: DocumentDataset, path: Path | None, name: str, chunk: int) -> DocumentDataset:
        if path is not None:
            return given_embeddings(path, documents, f"given {name}", self._place)
        from tamis.models.embed import Embed  # noqa: PLC0415  an extra

        embed = self.model if isinstance(self.model, Embed) else Embed(model=self.model)
        if chunk != _CHUNK:
            embed = replace(embed, batch_size=chunk)
        return embed_documents(documents, replace(embed, column="embedding"), name, self._place)

    def _mixture(
        self,
        embeddings: DocumentDataset,
        side: int,
        most: Samples,
        folder: Path,
        file: AnyPath | None,
        name: str,
    ) -> MixtureFit:
        components = (self.components or (RAW_COMPONENTS, TARGET_COMPONENTS))[side]
        settings = MixtureSettings(components, max_samples=None if most == "all" else most)
        checkpoint = Path(file) if file is not None else folder / f"{name}.safetensors"
        named = file is not None
        if self.components is None:
            settings = replace(settings, held_out=HELD_OUT)
            fit = fit_fewest(embeddings, components, settings, checkpoint, self._place, named=named)
        else:
            fit = fit_embeddings(embeddings, settings, checkpoint, self._place, named=named)
        for note in fit.notes:
            self._note(f"{name}: {note}")
        return fit

    def _note(self, note: str) -> None:
        if note not in self._done.notes:
            self._done.notes.append(note)
            _log.info("%s", note)


def listed(paths: AnyPath | Sequence[AnyPath]) -> list[str]:
    """One path or several, as a list of text."""
    return [os.fspath(paths)] if isinstance(paths, str | os.PathLike) else [os.fspath(each) for each in paths]
