"""What a run should be warned of while it can still be stopped: said in words, each once."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt
from statistics import fmean, variance

from tamis.tuning.settings import TuneSettings

__all__ = ["Watch", "rate_warnings"]

_LOW_FOR_LORA = 2e-5
"""Rates below it leave an adapter where it began; 1e-4 to 3e-4 is what is used."""
_USUAL_FOR_LORA = 2e-4
_HIGH_FOR_FULL = 2e-4
_FLAT = 0.02
"""A loss that fell by less than this share has not moved."""
_LEARNT = 0.3
"""Nats per token below which a loss may be flat because there is nothing left to learn."""
_FEWEST = 5
"""Logged losses before anything is said of them."""
_APART = 0.05
"""A validation loss this share above its best is rising, and no noise."""
_RISING = 1.5


def rate_warnings(settings: TuneSettings) -> list[str]:
    """What can be said of the learning rate before anything has run."""
    rate = settings.learning_rate
    if settings.lora is not None and rate < _LOW_FOR_LORA:
        sentence = (
            f"the learning rate {rate:g} is about {_round(_USUAL_FOR_LORA / rate)} times too low for LoRA: adapters "
            f"start at zero and want around {_USUAL_FOR_LORA:g}. Set train.learning_rate, or leave it out."
        )
        return [sentence]
    if settings.lora is None and rate > _HIGH_FOR_FULL:
        sentence = (
            f"the learning rate {rate:g} is high for all weights of a model, which soon forgets what it knew; 1e-5 to "
            "5e-5 is usual."
        )
        return [sentence]
    return []


def _round(factor: float) -> int:
    """With one digit that matters."""
    digits = len(str(int(factor))) - 1
    return int(round(factor, -digits))


@dataclass
class Watch:
    """Hears the losses of a run and says what is wrong with them."""

    warmup: int = 0
    """Updates of the warm-up, of which nothing is expected."""
    train: list[tuple[int, float]] = field(default_factory=list)
    """(update, loss), nats per token of the completions."""
    validation: list[tuple[int, float]] = field(default_factory=list)
    said: set[str] = field(default_factory=set)

    def heard(
        self, step: int, *, loss: float | None = None, validation: float | None = None, moved: bool = True
    ) -> list[str]:
        """Take in what was logged at an update; returns the warnings that are new.

        Args:
            step: The update.
            loss: Of training, the mean since the last one.
            validation: Of validation.
            moved: Whether any weight has changed since the beginning.
        """
        found = {}
        if loss is not None:
            self.train.append((step, loss))
            found = {"still": self._still(moved), "flat": self._flat(), "rising": self._diverges()}
        if validation is not None:
            self.validation.append((step, validation))
            found["apart"] = self._apart()
        new = [(name, sentence) for name, sentence in found.items() if sentence and name not in self.said]
        self.said.update(name for name, _ in new)
        return [sentence for _, sentence in new]

    def _past_warmup(self) -> list[float]:
        return [loss for step, loss in self.train if step > self.warmup]

    def _still(self, moved: bool) -> str | None:  # noqa: FBT001  named at the one call
        if moved or not self._past_warmup():
            return None
        return (
            f"after {self.train[-1][0]:,} updates no weight has changed: the learning rate does nothing. Raise it, or "
            "train in float32."
        )

    def _flat(self) -> str | None:
        losses = self._past_warmup()
        if len(losses) < 2 * _FEWEST:
            return None
        few = max(_FEWEST, len(losses) // 4)
        first, last = losses[:few], losses[-few:]
        before, now = fmean(first), fmean(last)
        # Two standard errors of the difference of two means: what happens without anything having happened.
        noise = 2 * sqrt((variance(first) + variance(last)) / few)
        if now < _LEARNT or before - now > max(_FLAT * before, noise) or now > before * _RISING:
            return None
        return (
            f"the training loss has not moved in {len(losses):,} logged losses ({before:.3f}, now {now:.3f}): the "
            "learning rate does nothing. A rate that is 10 or 100 times higher is the first thing to try."
        )

    def _diverges(self) -> str | None:
        losses = [loss for _, loss in self.train]
        if len(losses) < 2 * _FEWEST:
            return None
        best, now = min(losses), fmean(losses[-_FEWEST:])
        if now < _RISING * fmean(losses[:_FEWEST]) or now < best + _LEARNT:
            return None
        return f"the training loss is rising ({losses[0]:.3f} at first, now {now:.3f}): the learning rate is too high."

    def _apart(self) -> str | None:
        if len(self.validation) < 3:
            return None
        (best_at, best), (at, now) = min(self.validation, key=lambda each: each[1]), self.validation[-1]
        before = self.validation[-2][1]
        if not (now > best * (1 + _APART) and now > before):
            return None
        trained = [loss for step, loss in self.train if step > best_at]
        if trained and trained[-1] > now:
            return None
        return (
            f"validation leaves training behind: its loss was {best:.3f} at update {best_at:,} and is {now:.3f} at "
            f"{at:,}, while training goes on falling. This is overfitting: the weights of update {best_at:,} are kept "
            "as the best; more rows, fewer updates or more weight decay would help."
        )
