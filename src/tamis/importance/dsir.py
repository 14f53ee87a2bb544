"""``HashedNgramDSIR``: importance resampling with the constructor and the methods that DSIR and its hybrid published.

What it does is in :mod:`tamis.importance`; here is who calls what, and what is kept between the calls.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from tamis.dataset import DocumentDataset
from tamis.errors import UsageError
from tamis.hashing import fingerprint
from tamis.importance.choose import Chosen, asked_of, choose, write_chosen
from tamis.importance.dsir_files import load_state, save_state, siblings, write_json
from tamis.importance.dsir_fit import RAW_FOLDER, AnyPath, Done, ImportanceEstimator
from tamis.importance.given import given_embeddings, given_weights, load_numbers
from tamis.importance.judge import Quality, judge
from tamis.importance.weigh import Weighing, weigh, weigh_embeddings, weights_in_order
from tamis.text.hashed_ngrams import HashedNgrams

__all__ = ["HashedNgramDSIR"]

_SETTINGS = (
    "min_example_length",
    "target_laplace_smoothing",
    "separate_targets",
    "target_proportions",
    "text_field",
    "per_token",
    "seed",
    "components",
)
_DONE = ("embeddings", "shares", "weights", "notes")
_log = logging.getLogger("tamis")


class HashedNgramDSIR(ImportanceEstimator):
    """Chooses the raw documents that are distributed like a target, by importance resampling.

    The weight of a document is how much likelier it is under the target than under the raw data: by hashed n-grams
    (DSIR: Xie et al. 2023, arXiv:2302.03169), by Gaussian mixtures over sentence embeddings, or by both. Chosen are
    documents without replacement in proportion to their weights, the same in any sharding and on any engine.

    The arguments are those of :class:`tamis.importance.dsir_fit.ImportanceEstimator`. After
    :meth:`fit_ng_importance_estimator`, :meth:`fit_gmm_importance_estimator` or both, compute weights, then
    :meth:`resample`.
    """

    chosen: Chosen | None = None
    """What was chosen last."""

    # -- weigh -----------------------------------------------------------------------------------------------

    def compute_ng_importance_weights(
        self, log_diff_path: AnyPath | None = None, save_path: AnyPath | None = None
    ) -> Path:
        """Weigh every raw document by its n-grams.

        Args:
            log_diff_path: A .npy file of log ratios of the buckets to use instead of those fitted.
            save_path: A .npy file for the weights, in the order of the documents.

        Returns:
            The folder of the weights, Parquet with ids.
        """
        return self._keep(self._weighing(1.0, log_diff_path), [], save_path)

    def compute_hybrid_importance_weight(
        self,
        log_diff_path: AnyPath | None = None,
        ng_log_importance_weights_path: AnyPath | None = None,
        gmm_log_importance_weights_path: AnyPath | None = None,
        alpha: float = 0.5,
        save_path: AnyPath | None = None,
    ) -> Path:
        """Weigh every raw document: ``alpha`` x its n-gram log weight + (1 - ``alpha``) x its mixture log weight.

        Args:
            log_diff_path: A .npy file of log ratios of the buckets to use instead of those fitted.
            ng_log_importance_weights_path: N-gram weights that exist: a .npy file in the order of the documents, or
                what :meth:`compute_ng_importance_weights` made.
            gmm_log_importance_weights_path: The same of mixture weights.
            alpha: From 0 (the mixture alone, n-grams need no fit) to 1 (n-grams alone).
            save_path: A .npy file for the weights, in the order of the documents. :meth:`resample` takes that path
                and pairs by the ids that are kept beside it.

        Returns:
            The folder of the weights, Parquet with ids and the columns log_weight_ngram, log_weight_gmm, log_weight.
        """
        weighing = self._weighing(alpha, log_diff_path, given=ng_log_importance_weights_path is not None)
        others = []
        for path, name in (
            (ng_log_importance_weights_path, "log_weight_ngram"),
            (gmm_log_importance_weights_path, "log_weight_gmm"),
        ):
            if path is not None:
                own = self._record(Path(path))
                found = own if own is not None else given_weights(Path(path), self.raw, name, self._place)
                others.append((found, self._columns(name)))
        if alpha < 1 and gmm_log_importance_weights_path is None:
            if self._done.mixtures is None:
                message = "there are no mixtures yet: call fit_gmm_importance_estimator() first, or give alpha=1."
                raise UsageError(message)
            embeddings = given_embeddings(Path(self._done.embeddings), self.raw, f"given {RAW_FOLDER}", self._place)
            weighed = weigh_embeddings(embeddings, *self._done.mixtures, self._names, self._place)
            others.append((weighed, self._columns("log_weight_gmm")))
        return self._keep(weighing, others, save_path)

    def _weighing(self, alpha: float, log_diff_path: AnyPath | None, *, given: bool = False) -> Weighing:
        ratios = None
        if log_diff_path is not None:
            ratios = np.atleast_2d(load_numbers(Path(log_diff_path))).astype(np.float64)
        elif alpha > 0 and not given:
            ratios = self.log_diff
        return Weighing(self.features, alpha, ratios, self._names, self.per_token)

    def _keep(
        self, weighing: Weighing, others: Sequence[tuple[DocumentDataset, tuple[str, ...]]], save_path: AnyPath | None
    ) -> Path:
        weights, folder = weigh(self.raw, weighing, self._place, others)
        self._done.weights = str(folder)
        if save_path is not None:
            path = Path(save_path)
            weights_in_order(weights, self._columns("log_weight"), path)
            records = self._records()
            records[str(path.resolve())] = {"folder": str(folder), "file": fingerprint(path.read_bytes())}
            write_json(self._records_path, records)
        return folder

    @property
    def _records_path(self) -> Path:
        return self.cache_dir / "weights.json"

    def _records(self) -> dict[str, Any]:
        found = self._records_path
        return dict(orjson.loads(found.read_bytes())) if found.exists() else {}

    def _record(self, path: Path) -> DocumentDataset | None:
        """The weights of a folder, or those that a .npy file was made of and still is equal to."""
        if path.is_dir():
            return DocumentDataset.read_parquet(path)
        records = self._records()
        for each in (path, *siblings(path)):
            record = records.get(str(each.resolve()))
            if record and each.exists() and fingerprint(each.read_bytes()) == record["file"]:
                return DocumentDataset.read_parquet(record["folder"])
            if each.exists():
                return None
        return None

    # -- choose ----------------------------------------------------------------------------------------------

    def resample(
        self,
        log_importance_weights_path: AnyPath | None = None,
        out_dir: AnyPath | None = None,
        num_to_sample: int | None = None,
        cache_dir: AnyPath | None = None,
        top_k: bool = False,  # noqa: FBT001, FBT002  published
    ) -> Chosen:
        """Choose documents and copy them into a directory.

        Args:
            log_importance_weights_path: What ``save_path`` said, a folder of weights, or a .npy file of the user's in
                the order of the documents; by default the weights that were computed last.
            out_dir: A directory, new or that of the same run.
            num_to_sample: Documents to choose.
            cache_dir: A folder where the documents are written first; they are moved when all are there.
            top_k: Take the highest weights, without noise.

        Returns:
            What was chosen; printed, it says how many, and why fewer than asked for.

        Raises:
            UsageError: No document can be chosen, or the weights are of other documents.
        """
        if out_dir is None or num_to_sample is None:
            message = "resample needs out_dir and num_to_sample."
            raise UsageError(message)
        chosen = choose(
            self._weights(log_importance_weights_path),
            asked_of(
                num_to_sample,
                names=self._names,
                proportions=self._proportions(),
                min_example_length=self.min_example_length,
                features=self.features,
                top_k=top_k,
                seed=self.seed,
            ),
            self._place,
        )
        out = Path(out_dir) if cache_dir is not None else out_dir
        if cache_dir is None or (isinstance(out, Path) and out.exists() and any(out.iterdir())):
            self.chosen = write_chosen(self.raw, chosen, out, self._place)
        else:
            aside = Path(cache_dir) / f"{Path(out).name}.part"
            self.chosen = write_chosen(self.raw, chosen, aside, self._place)
            Path(out).parent.mkdir(parents=True, exist_ok=True)
            if Path(out).exists():
                Path(out).rmdir()
            shutil.move(aside, out)
        _log.info("%s", self.chosen)
        return self.chosen

    def _weights(self, path: AnyPath | None) -> DocumentDataset:
        if path is None:
            if not self._done.weights:
                message = "there are no weights yet: call compute_ng_importance_weights() or the hybrid's first."
                raise UsageError(message)
            return DocumentDataset.read_parquet(self._done.weights)
        own = self._record(Path(path))
        if own is not None:
            return own
        given = given_weights(Path(path), self.raw, "log_weight_ngram", self._place)
        weighing = Weighing(self.features, 1.0, None, self._names)
        return weigh(self.raw, weighing, self._place, [(given, ("log_weight_ngram",))])[0]

    def _proportions(self) -> tuple[float, ...]:
        if not self._names:
            return ()
        if self.target_proportions is not None:
            return self.target_proportions
        if self._done.counts is not None:
            return tuple(float(table.total) for table in self._done.counts[1])
        if self._done.shares:
            return tuple(float(n) for n in self._done.shares)
        message = "the shares of the targets are not known: give target_proportions, or fit first."
        raise UsageError(message)

    def judge(self, out_dir: AnyPath, source_field: str | None = None) -> Quality:
        """How well what was chosen last fits the target; three passes over the raw documents.

        Args:
            out_dir: Where it was written; the answer is written beside it, as OUT.selection.json.
            source_field: The field that says where a document comes from; by default "source" where there is one.
        """
        if self.chosen is None:
            message = "nothing has been chosen yet: call resample() first."
            raise UsageError(message)
        found = judge(
            self.raw,
            self.targets,
            self.chosen,
            place=self._place,
            features=self.features,
            source_field=source_field,
        )
        self._done.notes = list(dict.fromkeys([*self._done.notes, *found.notes]))
        found = replace(found, notes=self.notes)
        write_json(Path(f"{os.fspath(out_dir).rstrip('/')}.selection.json"), found.as_json())
        return found

    # -- save and load ---------------------------------------------------------------------------------------

    def save(self, path: AnyPath) -> None:
        """Write what has been done so far into a directory: JSON and safetensors, never a pickle.

        Functions of one's own are not saved, nor an ``Embed``, nor what lies in ``cache_dir``.

        Raises:
            MissingExtraError: safetensors is not installed (``tamis[models]``).
            OutputRefusedError: There is something else.
        """
        done, features, place = self._done, self.features, self._place
        about = {
            "raw_datasets": self.raw_datasets,
            "target_datasets": self.target_datasets,
            "functions": any((*self._raw_functions, *self._target_functions)),
            "cache_dir": str(self.cache_dir),
            "num_proc": place.workers,
            "features": asdict(features),
            "settings": {name: getattr(self, name) for name in _SETTINGS},
            "model": os.fspath(self.model) if isinstance(self.model, str | os.PathLike) else None,
            "done": {name: getattr(done, name) for name in _DONE},
        }
        save_state(Path(path), about, done.counts, done.mixtures)

    def load(self, path: AnyPath) -> HashedNgramDSIR:
        """Take over what :meth:`save` wrote, its datasets, settings and ``cache_dir`` included; returns itself.

        A fit that had been interrupted goes on when it is called again: embeddings and mixtures are in ``cache_dir``.

        Raises:
            MissingExtraError: safetensors is not installed (``tamis[models]``).
            ModelError: There is no such state.
            UsageError: It was made with functions for reading, and this object has none.
        """
        about, counts, mixtures = load_state(Path(path), _features_of)
        if about["functions"] and not any((*self._raw_functions, *self._target_functions)):
            message = f"{path} was saved with functions that load or parse documents; give the constructor the same."
            raise UsageError(message)
        self.raw_datasets, self.target_datasets = about["raw_datasets"], about["target_datasets"]
        self.features = _features_of(about)
        self._place = replace(self._place, cache=Path(about["cache_dir"]), workers=about["num_proc"])
        for name in _SETTINGS:
            value = about["settings"][name]
            setattr(self, name, tuple(value) if isinstance(value, list) else value)
        if about["model"] is not None:
            self.model = about["model"]
        done = about["done"]
        self._done = Done(
            counts, mixtures, done["embeddings"], tuple(done["shares"]), done["weights"], list(done["notes"])
        )
        self._raw = self._targets = self.chosen = None
        return self


def _features_of(about: Mapping[str, Any]) -> HashedNgrams:
    return HashedNgrams(**about["features"])
