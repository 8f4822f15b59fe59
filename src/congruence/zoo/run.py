"""Train a population, or take it from the cache."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from pathlib import Path

from congruence.errors import ParameterError
from congruence.store import exclusive_lock
from congruence.validate import require_extra
from congruence.zoo.config import Config
from congruence.zoo.layout import Home, home_of
from congruence.zoo.population import Population
from congruence.zoo.progress import Progress


def train(
    config: Config,
    seeds: int | Iterable[int] = 10,
    *,
    folder: str | Path | None = None,
    progress: Progress | None = None,
) -> Population:
    """Return networks of a configuration, trained where they are not there yet.

    Parameters
    ----------
    config : Config
        Architecture, data and training.
    seeds : int or iterable of int
        How many networks (seeds from 0), or their seeds.
    folder : path, optional
        Where to keep them; by default under ``zoo`` and the hash of the configuration in the cache (`cache_folder`).
    progress : callable, optional
        Called with a `Report` after every step, such as a `ProgressLine`.

    Returns
    -------
    Population
        The networks of these seeds. Those whose loss became infinite or NaN are in `Population.diverged`.

    Raises
    ------
    MissingExtraError
        If PyTorch or the data are not installed; the message says how to install them.
    ParameterError
        If the folder holds another population, or there are no seeds.
    LockedStoreError
        If another process is training in the folder.

    Notes
    -----
    An interrupted training goes on from its last state, at most 20 seconds back. With the same versions, processor and
    number of threads the weights of a seed are the same bits, whether the training was interrupted or not; networks that
    are trained as a stack (`Architecture.stack`) agree up to rounding with those of a stack of another size.
    """
    require_extra("torch", "bench", "Training networks")
    wanted = _seeds(seeds)
    home = home_of(config) if folder is None else Home(Path(folder))
    home.claim(config)
    if not set(wanted) <= set(home.finished()):
        from congruence.zoo.training import train_networks

        if config.start is not None:
            _require_start(*config.start, progress)
        with exclusive_lock(home.folder):
            done = set(home.finished())  # another process may have finished some while this one looked
            train_networks(config, [seed for seed in wanted if seed not in done], home, progress)
    return Population(home.folder, wanted)


def _require_start(config: Config, seed: int, progress: Progress | None) -> None:
    """Train the network that others start from, in the cache."""
    if seed in train(config, [seed], progress=progress).diverged:
        message = f"The network to start from, {config.label} seed {seed}, diverged. Start from another seed."
        raise ParameterError(message)


def _seeds(seeds: int | Iterable[int]) -> tuple[int, ...]:
    """Return the seeds as a tuple of different numbers from 0."""
    found = tuple(range(seeds) if isinstance(seeds, int) else map(operator.index, seeds))
    if not found or min(found) < 0 or len(set(found)) < len(found):
        message = f"seeds must be a number of networks from 1, or different seeds from 0; got {seeds!r}."
        raise ParameterError(message)
    return found
