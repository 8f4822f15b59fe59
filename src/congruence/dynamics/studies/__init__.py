"""The studies of dynamics; importing this registers them."""

from __future__ import annotations

from congruence.dynamics.studies import (
    bottom_up_cnn,
    bottom_up_rnn,
    class_sensitivity,
    compression,
    cross_model,
    depth_blocks,
    freeze_training,
    learning_rate_clusters,
    memorise_generalise,
    rotation_toy,
    sequence_time,
    sequence_time_packages,
    shared_subspace,
    signal_noise_rnn,
    signal_noise_toy,
    signal_noise_training,
    svcca_directions,
    trained_untrained_datasets,
    width_convergence,
)

__all__ = [
    "bottom_up_cnn",
    "bottom_up_rnn",
    "class_sensitivity",
    "compression",
    "cross_model",
    "depth_blocks",
    "freeze_training",
    "learning_rate_clusters",
    "memorise_generalise",
    "rotation_toy",
    "sequence_time",
    "sequence_time_packages",
    "shared_subspace",
    "signal_noise_rnn",
    "signal_noise_toy",
    "signal_noise_training",
    "svcca_directions",
    "trained_untrained_datasets",
    "width_convergence",
]
