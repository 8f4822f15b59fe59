"""Dynamics: how representations form while a network is trained, and how its states move over a sequence."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from congruence.dynamics._schedule import Schedule
from congruence.dynamics.clusters import Clusters, cluster_networks
from congruence.dynamics.convergence import BottomUp, DepthTest, bottom_up, depth_test, time_to
from congruence.dynamics.dft import DftCca, dft_cca
from congruence.dynamics.directions import (
    Canonical,
    Projection,
    Stability,
    aligned_projection,
    canonical_directions,
    class_sensitivity,
    most_active_neurons,
    neuron_projection,
    pca_projection,
    stable_directions,
    subspace_distance,
    svcca_projection,
)
from congruence.dynamics.groups import GroupComparison, group_comparison
from congruence.dynamics.paths import trajectories
from congruence.dynamics.pictures import plot_convergence, plot_panes, plot_trajectories
from congruence.dynamics.sequences import repeat_input, time_similarity
from congruence.dynamics.series import CheckpointSeries
from congruence.dynamics.subspaces import SharedDirections, shared_directions
from congruence.validate import require_extra

if TYPE_CHECKING:
    from congruence.dynamics.callbacks import lightning_callback as lightning_callback
    from congruence.dynamics.callbacks import trainer_callback as trainer_callback
    from congruence.dynamics.checkpoints import open_checkpoints as open_checkpoints
    from congruence.dynamics.freezing import ConvergedFreeze as ConvergedFreeze
    from congruence.dynamics.freezing import Freezer as Freezer
    from congruence.dynamics.freezing import LinearFreeze as LinearFreeze
    from congruence.dynamics.freezing import backward_flops as backward_flops
    from congruence.dynamics.projecting import accuracy_kept as accuracy_kept
    from congruence.dynamics.projecting import compressed as compressed
    from congruence.dynamics.projecting import projected as projected
    from congruence.dynamics.recorder import Recorder as Recorder
    from congruence.dynamics.recurrent import unroll as unroll

__all__ = [
    "BottomUp",
    "Canonical",
    "CheckpointSeries",
    "Clusters",
    "ConvergedFreeze",
    "DepthTest",
    "DftCca",
    "Freezer",
    "GroupComparison",
    "LinearFreeze",
    "Projection",
    "Recorder",
    "Schedule",
    "SharedDirections",
    "Stability",
    "accuracy_kept",
    "aligned_projection",
    "backward_flops",
    "bottom_up",
    "canonical_directions",
    "class_sensitivity",
    "cluster_networks",
    "compressed",
    "depth_test",
    "dft_cca",
    "group_comparison",
    "lightning_callback",
    "most_active_neurons",
    "neuron_projection",
    "open_checkpoints",
    "pca_projection",
    "plot_convergence",
    "plot_panes",
    "plot_trajectories",
    "projected",
    "repeat_input",
    "shared_directions",
    "stable_directions",
    "subspace_distance",
    "svcca_projection",
    "time_similarity",
    "time_to",
    "trainer_callback",
    "trajectories",
    "unroll",
]

_OF_MODELS = {
    "ConvergedFreeze": "freezing",
    "Freezer": "freezing",
    "LinearFreeze": "freezing",
    "Recorder": "recorder",
    "accuracy_kept": "projecting",
    "backward_flops": "freezing",
    "compressed": "projecting",
    "lightning_callback": "callbacks",
    "open_checkpoints": "checkpoints",
    "projected": "projecting",
    "trainer_callback": "callbacks",
    "unroll": "recurrent",
}
"""What needs PyTorch, and the module that it comes from when it is first used."""


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _OF_MODELS:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message)
        require_extra("torch", "torch", f"congruence.dynamics.{name}")
        return getattr(importlib.import_module(f"congruence.dynamics.{_OF_MODELS[name]}"), name)
