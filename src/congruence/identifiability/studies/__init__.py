"""The studies of identifiability; importing this registers them."""

from __future__ import annotations

from congruence.identifiability.studies import (
    bound_constructed,
    bound_trained,
    closeness_in_what,
    distillation,
    image_classifiers,
    kl_to_zero,
    width_closeness,
)

__all__ = [
    "bound_constructed",
    "bound_trained",
    "closeness_in_what",
    "distillation",
    "image_classifiers",
    "kl_to_zero",
    "width_closeness",
]
