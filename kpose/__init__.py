"""Camera pose and 3D shape of deformable objects from single photos, learned without pose labels.

Imports point down only::

    __main__
    cli
    pipeline
    training  testing
    video
    inference  callbacks
    tasks
    blueprint
    network
    heads  reconstruction
    losses  metrics
    data  backbones  visualization
    cropping  rendering  pnp  templates
    geometry
    structures  files  configuration_files  messages
"""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kpose.inference import Predictor as Predictor

__version__ = version("kpose")

__all__ = ["Predictor", "__version__"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import the predictor when it is asked for: `import kpose` alone costs nothing."""
    if name == "Predictor":
        from kpose.inference import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
