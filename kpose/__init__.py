"""Camera pose and 3D shape of deformable objects from single photos, learned without pose labels.

Imports point down only::

    __main__
    pipeline
    cli  testing
    inference  callbacks
    tasks
    network
    heads  reconstruction
    losses  metrics
    data  backbones  visualization
    rendering  pnp  templates
    geometry
    structures  files
"""

from importlib.metadata import version

__version__ = version("kpose")

__all__ = ["__version__"]
