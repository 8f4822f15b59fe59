"""Record what the layers of a PyTorch model put out: named after the module that fired, and equal to what it computed."""

from congruence.validate import require_extra

require_extra("torch", "torch", "Recording a model")  # before the imports below, which need it

from congruence.extraction.data import Data as Data  # noqa: E402
from congruence.extraction.data import load_data as load_data  # noqa: E402
from congruence.extraction.fingerprint import model_fingerprint as model_fingerprint  # noqa: E402
from congruence.extraction.run import extract as extract  # noqa: E402
from congruence.extraction.specs import LoadedModel as LoadedModel  # noqa: E402
from congruence.extraction.specs import load_model as load_model  # noqa: E402
from congruence.extraction.table import LayerRow as LayerRow  # noqa: E402
from congruence.extraction.table import layer_table as layer_table  # noqa: E402
