"""Camera pose and 3D shape of deformable objects from single photos, learned without pose labels.

Imports point down only::

    __main__
    cli
    pipeline
    testing
    video
    inference  callbacks
    tasks
    network
    heads  reconstruction
    losses  metrics
    backbones  data  visualization
    _cropping  rendering  pnp  templates
    geometry  recipe
    structures  _checkpoint  _distributed  _limits  _messages  _files  _export  _pictures  _precision
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kpose.backbones import TinyBackbone, TransformersBackbone
    from kpose.heads import (
        GramSchmidtHead,
        KeypointHead,
        PoseHead,
        ProcrustesHead,
        QuaternionHead,
        RotationHead,
    )
    from kpose.inference import Predictor, load
    from kpose.network import PoseNetwork
    from kpose.pipeline import Pipeline
    from kpose.pnp import solve_pnp
    from kpose.structures import Batch, Camera, Mesh, Template
    from kpose.tasks import PoseEstimator
    from kpose.templates import bird, load_template
    from kpose.video import VideoPredictor

__version__ = "0.2.0"

# What is imported when it is asked for, so that `import kpose` alone costs nothing.
_PACKAGES = (
    "backbones", "callbacks", "cli", "data", "geometry", "heads", "inference", "losses", "metrics", "network",
    "pipeline", "pnp", "recipe", "reconstruction", "rendering", "structures", "tasks", "templates", "testing",
    "video", "visualization",
)  # fmt: skip
_NAMES = {
    "Batch": "structures",
    "Camera": "structures",
    "GramSchmidtHead": "heads",
    "KeypointHead": "heads",
    "Mesh": "structures",
    "Pipeline": "pipeline",
    "PoseEstimator": "tasks",
    "PoseHead": "heads",
    "PoseNetwork": "network",
    "Predictor": "inference",
    "ProcrustesHead": "heads",
    "QuaternionHead": "heads",
    "RotationHead": "heads",
    "Template": "structures",
    "TinyBackbone": "backbones",
    "TransformersBackbone": "backbones",
    "VideoPredictor": "video",
    "bird": "templates",
    "load": "inference",
    "load_template": "templates",
    "solve_pnp": "pnp",
}

__all__ = [
    "Batch",
    "Camera",
    "GramSchmidtHead",
    "KeypointHead",
    "Mesh",
    "Pipeline",
    "PoseEstimator",
    "PoseHead",
    "PoseNetwork",
    "Predictor",
    "ProcrustesHead",
    "QuaternionHead",
    "RotationHead",
    "Template",
    "TinyBackbone",
    "TransformersBackbone",
    "VideoPredictor",
    "__version__",
    "bird",
    "load",
    "load_template",
    "solve_pnp",
]


def __dir__() -> list[str]:
    return sorted({*__all__, *_PACKAGES})


if not TYPE_CHECKING:  # a type checker would believe in any name

    def __getattr__(name: str) -> Any:  # noqa: ANN401
        if name in _NAMES:
            return getattr(import_module(f"kpose.{_NAMES[name]}"), name)
        if name in _PACKAGES:
            return import_module(f"kpose.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
