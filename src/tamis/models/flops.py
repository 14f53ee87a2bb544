"""How much arithmetic a model needs for some texts, so that speed can be said as a share of what the device can do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from tamis.models.network import Function, Network

__all__ = ["FlopCount"]


@dataclass(frozen=True)
class FlopCount:
    """Floating-point operations that a transformer needs for some texts, counting real tokens only."""

    per_token: float
    """2 for each weight of the linear layers."""
    per_square: float
    """4 x layers x hidden: attention, for each pair of tokens of a text."""

    def of(self, lengths: npt.NDArray[np.int64]) -> float:
        """The operations for texts of these lengths."""
        lengths = lengths.astype(np.float64)
        return float(self.per_token * lengths.sum() + self.per_square * (lengths**2).sum())

    @classmethod
    def of_model(cls, network: Network | Function) -> FlopCount | None:
        """The count for a network whose configuration tells hidden size and layers, else None."""
        body = network.body if isinstance(network, Network) else network
        config = getattr(body, "config", None)
        hidden, layers = getattr(config, "hidden_size", None), getattr(config, "num_hidden_layers", None)
        if not isinstance(body, torch.nn.Module) or hidden is None or layers is None:
            return None
        weights = sum(m.weight.numel() for m in body.modules() if isinstance(m, torch.nn.Linear))
        return cls(2.0 * weights, 4.0 * layers * hidden)
