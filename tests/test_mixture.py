"""The mixture: scikit-learn is the oracle of its steps, and a plain formula that of its probabilities."""

from __future__ import annotations

import math
import sys
import warnings
from dataclasses import replace

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from tamis import DocumentDataset
from tamis.engine.run import QuarantineWarning
from tamis.errors import (
    BadRecordError,
    MissingColumnError,
    MissingExtraError,
    ModelError,
    OutputError,
    OutputRefusedError,
    UsageError,
)
from tamis.selection import mixture_kernel
from tamis.selection.mixture import Mixture, MixtureStep, MixtureWeights, Part
from tamis.selection.mixture_fit import MixtureSettings, fit_mixture
from tamis.selection.mixture_start import SampleVectors, _spread, start_of
from tamis.testing import check_fold, check_stage

KINDS = {"float16": np.float16, "float32": np.float32, "float64": np.float64}


def blobs(rows, width, clusters, *, seed=0, spread=1.0, offset=0.0, dtype=np.float64):
    """Points around ``clusters`` centres, with variances of their own."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((clusters, width)) + offset
    deviations = spread * random.uniform(0.2, 1.0, (clusters, width))
    which = random.integers(0, clusters, rows)
    return (centres[which] + deviations[which] * random.standard_normal((rows, width))).astype(dtype)


def table_of(points, *, fixed=True, ids=True, null=()):
    """A table of embeddings; rows in ``null`` have none."""
    width = points.shape[1]
    flat = pa.array(points.reshape(-1))
    if fixed:
        column = pa.FixedSizeListArray.from_arrays(flat, width)
    else:
        column = pa.ListArray.from_arrays(np.arange(0, points.size + 1, width, dtype=np.int32), flat)
    if null:
        column = pa.array([None if i in null else v for i, v in enumerate(column.to_pylist())], column.type)
    columns = {"id": [f"doc-{i}" for i in range(len(points))]} if ids else {}
    return pa.table({**columns, "embedding": column})


def dataset_of(points, **options):
    return DocumentDataset.from_arrow(table_of(points, **options))


def some_start(points, components, *, seed=1):
    random = np.random.default_rng(seed)
    points = points.astype(np.float64)
    means = points[random.choice(len(points), components, replace=False)]
    weights = random.uniform(0.5, 1.5, components)
    variances = 1e-6 + np.tile(points.var(axis=0), (components, 1)) * random.uniform(0.5, 1.5, means.shape)
    return Mixture(weights / weights.sum(), means, variances)


def sklearn_after(points, start, iterations, **options):
    model = GaussianMixture(
        start.components,
        covariance_type="diag",
        init_params="random",
        random_state=0,
        weights_init=start.weights,
        means_init=start.means,
        precisions_init=1 / start.variances,
        max_iter=iterations,
        **{"tol": 0.0, **options},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(points.astype(np.float64))


def ours_after(points, start, iterations, **options):
    given = MixtureSettings(**{"tol": 0.0, "held_out": 0.0, "max_iter": iterations, **options})
    return fit_mixture(dataset_of(points), given, start=start)


def plain_log_prob(mixture, points):
    """The formula, in extended precision."""
    x = points.astype(np.longdouble)[:, None]
    variances = mixture.variances.astype(np.longdouble)
    exponents = (x - mixture.means) ** 2 / variances + np.log(2 * np.pi * variances)
    each = np.log(mixture.weights.astype(np.longdouble)) - exponents.sum(axis=2) / 2
    best = each.max(axis=1)
    return best + np.log(np.exp(each - best[:, None]).sum(axis=1))


CASES = {
    "few dimensions, everything near": (blobs(400, 4, 5), 5),
    "many dimensions, little near": (blobs(600, 96, 30), 30),
    "far from zero": (blobs(400, 16, 8, offset=300.0), 8),
    "one component": (blobs(100, 3, 2), 1),
    "more components than clusters": (blobs(300, 8, 2, spread=0.1), 20),
    "float32": (blobs(400, 48, 12, dtype=np.float32), 12),
    "float16": (blobs(400, 48, 12, dtype=np.float16), 12),
    "a dimension that never changes": (np.hstack([blobs(300, 12, 6), np.full((300, 1), 0.25)]), 6),
    "copies": (np.repeat(blobs(60, 10, 6), 6, axis=0), 12),
}


class TestParity:
    @pytest.mark.parametrize("name", CASES)
    def test_every_iteration_is_scikit_learns(self, name):
        points, components = CASES[name]
        start = some_start(points, components)
        for iterations in (1, 2, 3, 5, 8):
            theirs, ours = sklearn_after(points, start, iterations), ours_after(points, start, iterations)
            scale = np.abs(points.astype(np.float64)).max()
            np.testing.assert_allclose(ours.mixture.weights, theirs.weights_, rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(ours.mixture.means, theirs.means_, rtol=1e-6, atol=1e-9 * scale)
            # What scikit-learn loses by cancellation is of the size of the squares.
            np.testing.assert_allclose(
                ours.mixture.variances, theirs.covariances_, rtol=1e-6, atol=1e-12 * max(1, scale) ** 2
            )
            assert ours.trace[-1].log_likelihood == pytest.approx(theirs.lower_bound_, abs=1e-6)

    def test_the_paths_agree(self, monkeypatch):
        """Most components near or few: the same sums."""
        points = blobs(500, 24, 10)
        step = MixtureStep(some_start(points, 10))
        found = []
        for share in (-1.0, 2.0):
            monkeypatch.setattr(mixture_kernel, "_DENSE", share)
            found.append(step.finish(step.add(step.start(), table_of(points))))
        for name in ("weights", "means", "variances"):
            np.testing.assert_allclose(*(getattr(each.mixture, name) for each in found), rtol=1e-10)
        assert found[0].log_likelihood == pytest.approx(found[1].log_likelihood, abs=1e-11)

    def test_an_empty_component_is_scikit_learns(self):
        points = blobs(200, 6, 3, offset=2.0)
        start = some_start(points, 4)
        start.means[2] = 1e4
        for iterations in (1, 2, 4):
            theirs, ours = sklearn_after(points, start, iterations), ours_after(points, start, iterations)
            np.testing.assert_allclose(ours.mixture.weights, theirs.weights_, rtol=1e-6)
            np.testing.assert_allclose(ours.mixture.means, theirs.means_, rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(ours.mixture.variances, theirs.covariances_, rtol=1e-6, atol=1e-9)
        assert "1 of 4 components are empty." in ours.notes

    @pytest.mark.parametrize("mass", [0.0, 1e-17, 1e-15, 1e-13, 1e-6, 1.0, 1e3])
    def test_the_guard_of_an_empty_component(self, mass):
        """scikit-learn's formulas, sum(x) / m and sum(x²) / m - mean², from sums that are relative to the centre."""
        step = MixtureStep(Mixture([1.0], [[3.0, -1.0]], np.ones((1, 2))))
        values = np.array([[2.0, 4.0], [5.0, -2.0], [4.0, 1.0]])
        shares = np.array([0.2, 0.5, 0.3]) * mass
        sums = step.start()
        centred = values - [3.0, -1.0]
        sums.mass[:], sums.first[:], sums.second[:] = mass, shares @ centred, shares @ centred**2
        sums.documents = 3
        found = step.finish(sums).mixture
        guarded = mass + 10 * np.finfo(float).eps
        mean = shares @ values / guarded
        np.testing.assert_allclose(found.means, [mean], rtol=1e-12)
        np.testing.assert_allclose(found.variances, [shares @ values**2 / guarded - mean**2 + 1e-6], rtol=1e-9)

    def test_it_stops_where_scikit_learn_stops(self):
        points = blobs(500, 8, 4)
        start = some_start(points, 4)
        theirs, ours = sklearn_after(points, start, 100, tol=1e-3), ours_after(points, start, 100, tol=1e-3)
        assert ours.converged
        assert theirs.converged_
        assert len(ours.trace) == theirs.n_iter_ > 3
        np.testing.assert_allclose([each.log_likelihood for each in ours.trace], theirs.lower_bounds_, atol=1e-6)
        assert not any("converged" in note for note in ours.notes)

    def test_the_likelihood_never_falls(self):
        points = blobs(800, 32, 20)
        trace = fit_mixture(dataset_of(points), MixtureSettings(20, held_out=0, tol=0, max_iter=30)).trace
        values = np.array([each.log_likelihood for each in trace])
        assert (np.diff(values) > -1e-9).all()
        assert values[-1] > values[0] + 0.1


class TestLogProb:
    @pytest.mark.parametrize("name", CASES)
    def test_it_is_scikit_learns(self, name):
        points, components = CASES[name]
        start = some_start(points, components)
        theirs = sklearn_after(points, start, 3)
        ours = Mixture(theirs.weights_, theirs.means_, theirs.covariances_)
        wanted = theirs.score_samples(points.astype(np.float64))
        np.testing.assert_allclose(ours.log_prob(points), wanted, rtol=1e-6, atol=1e-6)

    @settings(max_examples=60, deadline=None)
    @given(
        seed=st.integers(0, 10_000),
        rows=st.integers(1, 30),
        width=st.integers(1, 40),
        components=st.integers(1, 30),
        flat=st.floats(-14, 1),
        away=st.floats(-2, 5),
    )
    def test_the_screen_loses_nothing(self, seed, rows, width, components, flat, away):
        """Any variances, any distances, against the formula in extended precision."""
        random = np.random.default_rng(seed)
        means = random.standard_normal((components, width)) * 10 ** random.uniform(-2, away)
        variances = np.exp(random.uniform(flat, 1, (components, width)))
        weights = np.exp(random.uniform(-30, 0, components))
        mixture = Mixture(weights / weights.sum(), means, variances)
        points = means[random.integers(0, components, rows)]
        points = points + random.standard_normal((rows, width)) * 10 ** random.uniform(-3, away)
        wanted = plain_log_prob(mixture, points)
        # What rounding a difference of coordinates to float64 does to the nearest component's exponent.
        slopes = np.linalg.norm((points[:, None] - mixture.means) / mixture.variances, axis=2).min(axis=1)
        rounding = 1e-15 * np.abs(np.concatenate([points, means])).max() * width**0.5 * slopes
        assert (np.abs(mixture.log_prob(points) - wanted) <= 1e-12 * np.abs(wanted) + rounding + 1e-11).all()

    def test_where_float32_cannot_tell_components_apart(self):
        """Nearby components far from the others: their products are 1e11 times their difference."""
        random = np.random.default_rng(0)
        means = np.repeat([[-1e4], [1e4]], 20, axis=0) + random.standard_normal((40, 16))
        mixture = Mixture(np.full(40, 1 / 40), means, random.uniform(1e-4, 3e-4, (40, 16)))
        points = means + 0.01 * random.standard_normal((40, 16))
        wanted = plain_log_prob(mixture, points).astype(float)
        np.testing.assert_allclose(mixture.log_prob(points), wanted, atol=1e-5)
        assert wanted.max() < 200

    def test_a_row_is_the_same_in_any_batch(self):
        points = blobs(700, 96, 30, dtype=np.float32)
        mixture = some_start(points, 30)
        whole = mixture.log_prob(points)
        assert (whole == np.concatenate([mixture.log_prob(points[i : i + 9]) for i in range(0, 700, 9)])).all()
        assert (whole == [mixture.log_prob(points[i : i + 1])[0] for i in range(700)]).all()

    def test_what_is_too_large_for_float32_is_not_screened(self):
        mixture = Mixture([0.5, 0.5], [[0.0, 0.0], [1e25, 0.0]], np.ones((2, 2)))
        points = np.array([[1e25, 1.0], [0.0, 2.0], [-1e30, 0.0]])
        np.testing.assert_allclose(mixture.log_prob(points), plain_log_prob(mixture, points).astype(float), rtol=1e-12)

    @pytest.mark.parametrize("kind", KINDS)
    def test_kinds_of_floats(self, kind):
        points = blobs(50, 12, 3).astype(KINDS[kind])
        mixture = some_start(points, 3)
        assert (mixture.log_prob(points) == mixture.log_prob(points.astype(np.float64))).all()

    def test_none(self):
        assert len(some_start(blobs(5, 3, 1), 1).log_prob(np.empty((0, 3)))) == 0

    def test_what_it_refuses(self):
        mixture = some_start(blobs(9, 3, 1), 2)
        with pytest.raises(UsageError, match=r"takes numbers of shape \[documents, 3\]; got float64 of shape \(2, 4\)"):
            mixture.log_prob(np.zeros((2, 4)))
        with pytest.raises(UsageError, match=r"row 1 of the embeddings has a value that is no finite number"):
            mixture.log_prob([[1.0, 2, 3], [1, math.nan, 3]])


class TestMixture:
    def test_a_file_holds_it_all(self, tmp_path):
        mixture = replace(some_start(blobs(40, 5, 2), 3), embedder="a-model", facts={"documents": 7, "notes": ["é"]})
        path = tmp_path / "below" / "m.safetensors"
        mixture.save(path)
        mixture.save(path)
        back = Mixture.load(path)
        for name in ("weights", "means", "variances"):
            assert (getattr(back, name) == getattr(mixture, name)).all()
        assert (back.embedder, back.facts, back.fingerprint) == ("a-model", mixture.facts, mixture.fingerprint)
        assert [each.name for each in path.parent.iterdir()] == ["m.safetensors"]
        assert repr(back) == "<Mixture of 3 Gaussians over 5 dimensions of a-model>"

    def test_files_that_are_none(self, tmp_path):
        from safetensors.numpy import save_file

        with pytest.raises(ModelError, match=r"There is no mixture at .*nowhere"):
            Mixture.load(tmp_path / "nowhere")
        (tmp_path / "text").write_text("not a mixture, but long enough")
        save_file({"weights": np.ones(1)}, tmp_path / "other")
        about = {"tamis-mixture": orjson.dumps({"embedder": "", "facts": {}}).decode()}
        wrong = {"weights": np.array([0.5]), "means": np.ones((1, 2)), "variances": np.ones((1, 2))}
        save_file(wrong, tmp_path / "wrong", metadata=about)
        for name in ("text", "other", "wrong"):
            with pytest.raises(ModelError, match=f"{name} holds no mixture that Mixture.save wrote"):
                Mixture.load(tmp_path / name)
        with pytest.raises(OutputError, match="cannot be written to"):
            some_start(blobs(9, 3, 1), 2).save(tmp_path / "text" / "below")

    def test_without_safetensors(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
        mixture = some_start(blobs(9, 3, 1), 2)
        for call in (
            lambda: mixture.save(tmp_path / "m"),
            lambda: Mixture.load(tmp_path / "m"),
            lambda: fit_mixture(dataset_of(blobs(9, 3, 1)), checkpoint=tmp_path / "m"),
        ):
            with pytest.raises(MissingExtraError, match=r"needs the package 'safetensors'.*tamis\[models\]"):
                call()

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"weights": [1.0]}, "got the shapes"),
            ({"means": np.zeros(3)}, "got the shapes"),
            ({"weights": [0.4, 0.4]}, "add up to 0.8"),
            ({"weights": [0.0, 1.0]}, "must be above 0"),
            ({"variances": np.zeros((2, 3))}, "must be above 0"),
            ({"means": np.full((2, 3), np.nan)}, "finite"),
        ],
    )
    def test_numbers_that_make_none(self, change, said):
        with pytest.raises(UsageError, match=said):
            replace(some_start(blobs(9, 3, 1), 2), **change)


class TestContract:
    def test_a_step(self):
        points = blobs(90, 12, 4)
        table = table_of(points, null={3, 50})
        result = check_fold(MixtureStep(some_start(points, 4), part=Part(0.9, 0.2, 3)), table, tolerance=1e-9)
        assert result.missing == 2
        assert 0 < result.held_out_documents < result.documents < 80

    def test_the_sample(self):
        points = blobs(60, 6, 4)
        table = table_of(points, null={8})
        table = table.set_column(0, "id", pa.array([f"doc-{i // 3}" for i in range(60)]))
        for size in (7, 20, 1000):
            result = check_fold(SampleVectors(size, held_out=0.2, seed=5), table)
            assert len(result.vectors) == min(size, result.documents - result.held_out_documents)
            assert (result.documents, result.missing) == (59, 1)
            _, held = Part(held_out=0.2, seed=5).masks(table.column("id").to_pylist())
            held[8] = False
            assert result.held_out_documents == held.sum() > 0
            assert not {each.tobytes() for each in result.vectors} & {each.tobytes() for each in points[held]}

    @pytest.mark.parametrize("fixed", [True, False])
    def test_the_weights(self, fixed, tmp_path):
        points = blobs(60, 12, 4, dtype=np.float32)
        raw, target = some_start(points, 6), some_start(points[:30], 2, seed=3)
        table = table_of(points, fixed=fixed, null={2, 59})
        raw.save(tmp_path / "raw")
        for stage in (MixtureWeights(raw, target), MixtureWeights(tmp_path / "raw", target, score_field="w")):
            check_stage(stage, table, fresh_process=fixed)
            made = stage.open()(table).column(stage.score_field).to_pylist()
            assert [i for i, weight in enumerate(made) if weight is None] == [2, 59]
            there = [i for i in range(60) if i not in {2, 59}]
            wanted = target.log_prob(points[there]) - raw.log_prob(points[there])
            assert [made[i] for i in there] == wanted.tolist()
        assert MixtureWeights(raw, target).identity() == stage.identity()
        assert MixtureWeights(target, raw).identity() != stage.identity()

    def test_weights_of_no_embeddings_at_all(self):
        mixture = some_start(blobs(9, 3, 1), 2)
        table = pa.table({"id": ["a", "b"], "embedding": pa.array([None, None])})
        assert MixtureWeights(mixture, mixture).open()(table).column("log_weight_gmm").to_pylist() == [None, None]


class TestFit:
    def test_clusters_are_found(self):
        random = np.random.default_rng(5)
        centres = random.standard_normal((6, 10)) * 5
        which = random.integers(0, 6, 3000)
        points = (centres[which] + 0.3 * random.standard_normal((3000, 10))).astype(np.float32)
        fit = fit_mixture(dataset_of(points), MixtureSettings(6))
        assert fit.converged
        assert not fit.notes
        order = [int(((fit.mixture.means - centre) ** 2).sum(axis=1).argmin()) for centre in centres]
        assert sorted(order) == list(range(6))
        np.testing.assert_allclose(fit.mixture.means[order], centres, atol=0.1)
        np.testing.assert_allclose(fit.mixture.variances, 0.09, rtol=0.35)
        np.testing.assert_allclose(fit.mixture.weights[order], np.bincount(which) / 3000, atol=0.02)
        assert fit.held_out == pytest.approx(fit.trace[-1].log_likelihood, abs=0.5)
        assert fit.documents + fit.held_out_documents == 3000
        assert 90 < fit.held_out_documents < 210

    def test_order_and_sharding_change_nothing(self, tmp_path):
        points = blobs(900, 12, 7, dtype=np.float32)
        table = table_of(points)
        asked = MixtureSettings(7, max_iter=5, tol=0)
        wanted = fit_mixture(DocumentDataset.from_arrow(table), asked)
        shuffled = table.take(np.random.default_rng(0).permutation(900))
        for i in range(0, 900, 300):
            DocumentDataset.from_arrow(shuffled.slice(i, 300)).to_parquet(tmp_path / f"part-{i}", progress="off")
        files = sorted(str(each) for each in tmp_path.glob("part-*/*.parquet"))
        for dataset, workers in (
            (DocumentDataset.from_arrow(shuffled), 1),
            (DocumentDataset.read_parquet(files), 2),
        ):
            found = fit_mixture(dataset, asked, workers=workers)
            for name in ("weights", "means", "variances"):
                np.testing.assert_allclose(getattr(found.mixture, name), getattr(wanted.mixture, name), rtol=1e-9)
            assert found.held_out_documents == wanted.held_out_documents
            assert found.held_out == pytest.approx(wanted.held_out, abs=1e-9)
        again = fit_mixture(DocumentDataset.from_arrow(table), asked)
        assert again.mixture.fingerprint == wanted.mixture.fingerprint
        other = fit_mixture(DocumentDataset.from_arrow(table), replace(asked, seed=1))
        assert other.mixture.fingerprint != wanted.mixture.fingerprint

    def test_all_documents_are_seen(self):
        """A chunk is not fitted over and over while the rest is forgotten."""
        points = np.concatenate([blobs(200, 4, 1, seed=1), blobs(600, 4, 1, seed=2, offset=50.0)])
        fit = fit_mixture(dataset_of(points), MixtureSettings(2, held_out=0))
        order = np.argsort(fit.mixture.means[:, 0])
        np.testing.assert_allclose(fit.mixture.weights[order], [0.25, 0.75], atol=1e-6)
        np.testing.assert_allclose(fit.mixture.means[order], [points[:200].mean(0), points[200:].mean(0)], atol=1e-6)

    def test_fewer_components_where_documents_are_few(self):
        fit = fit_mixture(dataset_of(blobs(64, 4, 2)), MixtureSettings(50, held_out=0))
        assert fit.mixture.components == 6
        assert fit.notes[0] == "6 components instead of 50: 64 documents are 10 for each of no more."

    def test_fewer_components_where_embeddings_are_the_same(self):
        points = np.repeat(blobs(3, 4, 3, spread=3.0), 40, axis=0)
        fit = fit_mixture(dataset_of(points), MixtureSettings(8, held_out=0))
        assert fit.mixture.components == 3
        assert "3 components instead of 8: the sample of 120 embeddings has no more different ones." in fit.notes
        assert "3 of 3 components hold copies of one embedding each." in fit.notes
        np.testing.assert_allclose(fit.mixture.variances, 1e-6, rtol=1e-3)

    def test_rounding_does_not_make_copies_different(self):
        points = np.random.default_rng(0).standard_normal((7, 100)).astype(np.float32)
        for copies in (1, 30):
            many = np.repeat(points, copies, axis=0)
            assert len(_spread(many, np.einsum("ij,ij->i", many, many), 20, seed=0)) == 7
            start = start_of(np.repeat(points, copies, axis=0), 20, reg_covar=1e-6, seed=0)
            np.testing.assert_allclose(start.weights, np.full(7, 1 / 7))

    def test_too_few(self):
        with pytest.raises(UsageError, match=r"there are 7 documents with an embedding .* it needs 10 .* 2 have none"):
            fit_mixture(dataset_of(blobs(9, 4, 1), null={0, 4}), MixtureSettings(held_out=0))
        with pytest.raises(UsageError, match="there are 0 documents"):
            fit_mixture(DocumentDataset.from_arrow(pa.table({"id": ["a"], "embedding": pa.array([None])})))
        with pytest.raises(UsageError, match=r"none of 3 documents has an embedding in the column 'embedding'"):
            fit_mixture(
                dataset_of(blobs(3, 4, 1), null={0, 1, 2}),
                MixtureSettings(held_out=0),
                start=some_start(blobs(3, 4, 1), 1),
            )

    def test_a_share_of_the_documents(self):
        points = blobs(2000, 4, 3)
        fit = fit_mixture(dataset_of(points), MixtureSettings(3, max_samples=500, max_iter=2))
        assert 400 < fit.documents + fit.held_out_documents < 600

    def test_what_is_said_of_a_fit_that_goes_wrong(self):
        points = blobs(300, 40, 1)
        fit = fit_mixture(dataset_of(points, null={1}), MixtureSettings(50, max_iter=4, per_component=2, held_out=0.3))
        assert not fit.converged
        assert "1 documents without an embedding were left out." in fit.notes
        assert any(note.startswith("It has not converged in 4 iterations") for note in fit.notes)
        assert any(note.startswith("Held-out documents were likelier before iteration") for note in fit.notes)

    def test_ids_are_needed_for_chance_alone(self):
        points = blobs(100, 4, 2)
        fit = fit_mixture(
            dataset_of(points, ids=False), MixtureSettings(held_out=0, max_iter=2), start=some_start(points, 2)
        )
        assert fit.documents == 100
        said = r"neither an id nor the text that one is made of \('text'\)"
        with pytest.raises(UsageError, match=said):
            fit_mixture(dataset_of(points, ids=False), MixtureSettings(held_out=0))
        with pytest.raises(UsageError, match=said):
            fit_mixture(dataset_of(points, ids=False), start=some_start(points, 2))
        texts = table_of(points, ids=False).append_column("text", pa.array([f"text {i}" for i in range(100)]))
        assert fit_mixture(DocumentDataset.from_arrow(texts), MixtureSettings(2, max_iter=2)).held_out_documents > 0

    @pytest.mark.parametrize("change", [{"components": 0}, {"reg_covar": 0}, {"held_out": 1.0}, {"max_samples": 0}])
    def test_settings_that_cannot_be(self, change):
        with pytest.raises(UsageError, match="a mixture needs"):
            MixtureSettings(**change)

    def test_the_start_has_the_spread_within_clusters(self):
        points = blobs(4000, 5, 1, spread=0.0) + np.repeat([[0.0], [100.0]], 2000, axis=0)
        points += np.random.default_rng(0).standard_normal(points.shape) * [1, 2, 3, 0.5, 1]
        start = start_of(points, 2, reg_covar=1e-6, seed=0)
        np.testing.assert_allclose(start.variances, np.tile([1, 4, 9, 0.25, 1], (2, 1)), rtol=0.1)
        np.testing.assert_allclose(np.sort(start.weights), 0.5)


class _StoppedError(Exception):
    pass


class TestCheckpoint:
    points = blobs(400, 6, 4)
    asked = MixtureSettings(4, tol=0, max_iter=6)

    def interrupted(self, path, after=3):
        def stop(iteration):
            if iteration.number == after:
                raise _StoppedError

        with pytest.raises(_StoppedError):
            fit_mixture(dataset_of(self.points), self.asked, checkpoint=path, observer=stop, embedder="m")

    def test_a_fit_goes_on(self, tmp_path):
        self.interrupted(tmp_path / "c")
        assert len(Mixture.load(tmp_path / "c").facts["trace"]) == 3
        seen = []
        data = dataset_of(self.points)
        fit = fit_mixture(data, self.asked, checkpoint=tmp_path / "c", observer=seen.append, embedder="m")
        assert [each.number for each in seen] == [4, 5, 6]
        whole = fit_mixture(data, self.asked, embedder="m")
        assert fit.mixture.fingerprint == whole.mixture.fingerprint
        assert (fit.trace, fit.held_out, fit.notes) == (whole.trace, whole.held_out, whole.notes)
        assert Mixture.load(tmp_path / "c").fingerprint == fit.mixture.fingerprint
        assert fit.mixture.embedder == "m"
        longer = fit_mixture(data, replace(self.asked, max_iter=7), checkpoint=tmp_path / "c", embedder="m")
        assert len(longer.trace) == 7

    def test_of_another_fit(self, tmp_path):
        self.interrupted(tmp_path / "c")
        with pytest.raises(OutputRefusedError, match="its seed is 42, and 3 is asked for"):
            fit_mixture(dataset_of(self.points), replace(self.asked, seed=3), checkpoint=tmp_path / "c", embedder="m")
        with pytest.raises(OutputRefusedError, match="its embedder is 'm', and 'n' is asked for"):
            fit_mixture(dataset_of(self.points), self.asked, checkpoint=tmp_path / "c", embedder="n")
        with pytest.raises(OutputRefusedError, match=r"documents .* in the iteration before, and now there are"):
            fit_mixture(dataset_of(self.points[:-50]), self.asked, checkpoint=tmp_path / "c", embedder="m")
        some_start(self.points, 2).save(tmp_path / "d")
        with pytest.raises(OutputRefusedError, match="no checkpoint of a fit"):
            fit_mixture(dataset_of(self.points), self.asked, checkpoint=tmp_path / "d")


class TestBadEmbeddings:
    def broken(self, value, *, fixed=True, dtype=np.float32):
        points = blobs(40, 4, 2).astype(dtype)
        points[17, 2] = value
        return points, table_of(points, fixed=fixed, null={3})

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("kind", KINDS)
    def test_no_finite_number(self, value, kind):
        points, table = self.broken(value, dtype=KINDS[kind])
        for run in (
            lambda: fit_mixture(DocumentDataset.from_arrow(table)),
            lambda: fit_mixture(DocumentDataset.from_arrow(table), start=some_start(points[:9], 2)),
        ):
            said = "embedding in the column 'embedding' of the document with id 'doc-17' has a value that is no finite"
            with pytest.raises(BadRecordError, match=said):
                run()

    def test_too_large_to_be_squared(self):
        _, table = self.broken(1e120, dtype=np.float64)
        with pytest.raises(BadRecordError, match="'doc-17'"):
            fit_mixture(DocumentDataset.from_arrow(table))

    def test_large_values_are_fine(self):
        """Their squares are no float32."""
        points = blobs(50, 4, 2, dtype=np.float32) * np.float32(1e25)
        assert fit_mixture(dataset_of(points), MixtureSettings(2, held_out=0, max_iter=3)).documents == 50

    def test_a_null_inside(self):
        rows = blobs(12, 3, 1).tolist()
        rows[5][1] = None
        rows[2] = None
        table = pa.table({"id": [f"doc-{i}" for i in range(12)], "embedding": pa.array(rows)})
        with pytest.raises(BadRecordError, match="'doc-5' has a value that is no finite number"):
            fit_mixture(DocumentDataset.from_arrow(table))

    def test_another_length(self):
        rows = blobs(12, 3, 1).tolist()
        rows[2], rows[7] = None, [1.0, 2.0]
        table = pa.table({"id": [f"doc-{i}" for i in range(12)], "embedding": pa.array(rows)})
        with pytest.raises(BadRecordError, match="'doc-7' has 2 dimensions instead of 3"):
            fit_mixture(DocumentDataset.from_arrow(table))
        fold = SampleVectors(5)
        parts = [fold.add(fold.start(), table.slice(i, 3)) for i in (0, 8)]
        parts[1].vectors = np.zeros((3, 9))
        with pytest.raises(BadRecordError, match="embeddings of 3 and of 9 dimensions"):
            fold.merge(*parts)

    def test_a_row_without_an_id_has_a_number(self):
        points, table = self.broken(np.nan)
        with pytest.raises(BadRecordError, match="the document with row 17 of its table"):
            fit_mixture(
                DocumentDataset.from_arrow(table.drop_columns("id")),
                MixtureSettings(held_out=0),
                start=some_start(points[:9], 2),
            )

    def test_the_weights_set_it_aside(self):
        points, table = self.broken(np.nan)
        mixture = some_start(points[:9], 2)
        dataset = MixtureWeights(mixture, mixture)(DocumentDataset.from_arrow(table))
        with pytest.warns(QuarantineWarning, match="id 'doc-17' has a value that is no finite number"):
            found = dataset.to_arrow()
        assert "doc-17" not in found.column("id").to_pylist()
        assert found.num_rows == 39

    def test_embeddings_of_another_model(self):
        points = blobs(30, 4, 2)
        one = replace(some_start(points, 2), embedder="one")
        two = replace(one, embedder="two")
        schema = table_of(points).schema
        marked = pa.schema([schema.field(0), schema.field(1).with_metadata({"embedder": "two"})])
        with pytest.raises(UsageError, match="must come from the same model; here are 'one' and 'two'"):
            MixtureWeights(one, two).needs(schema)
        with pytest.raises(UsageError, match="must come from the same model; here are 'one' and 'three'"):
            MixtureWeights(one, one, embedder="three").needs(schema)
        with pytest.raises(UsageError, match="come from 'two', and the mixture was fitted on those of 'one'"):
            MixtureWeights(one, one).needs(marked)
        with pytest.raises(UsageError, match="come from 'two'"):
            fit_mixture(DocumentDataset.from_arrow(table_of(points).cast(marked)), embedder="one")
        with pytest.raises(UsageError, match="start from was fitted on embeddings of 'one', and these are of 'two'"):
            fit_mixture(dataset_of(points), embedder="two", start=one)
        MixtureWeights(two, two).needs(marked)

    def test_columns_of_another_width_or_kind(self):
        points = blobs(30, 4, 2)
        four, three = some_start(points, 2), some_start(points[:, :3], 2)
        with pytest.raises(UsageError, match="the raw mixture has 4 dimensions and the target's has 3"):
            MixtureWeights(four, three).needs(table_of(points).schema)
        with pytest.raises(UsageError, match="have 4 dimensions, and the mixture was fitted on 3"):
            MixtureWeights(three, three).needs(table_of(points).schema)
        with pytest.raises(UsageError, match="have 4 dimensions, and the mixture was fitted on 3"):
            fit_mixture(dataset_of(points), start=three)
        with pytest.raises(UsageError, match="lists of numbers, but it is string"):
            fit_mixture(dataset_of(points), column="id")
        with pytest.raises(MissingColumnError, match="Did you mean 'embedding'"):
            fit_mixture(dataset_of(points), column="embeding")
