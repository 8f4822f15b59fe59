"""Stores of activations on disk (zarr v3 groups), and every other file that representations are read from."""

from congruence.store.arrays import ArrayFiles as ArrayFiles
from congruence.store.arrays import open_source as open_source
from congruence.store.atomic import write_bytes as write_bytes
from congruence.store.inspection import LayerReport as LayerReport
from congruence.store.inspection import StoreReport as StoreReport
from congruence.store.inspection import inspect as inspect
from congruence.store.layers import Recorded as Recorded
from congruence.store.lock import exclusive_lock as exclusive_lock
from congruence.store.reader import Activations as Activations
from congruence.store.rows import defer_layer as defer_layer
from congruence.store.rows import defer_npy as defer_npy
from congruence.store.writer import StoreWriter as StoreWriter
