"""The contract of renderers, for all of ours."""

import importlib.util

import pytest
import torch

from kpose.rendering import CompositeRenderer, HardRenderer, SoftRenderer, fast_renderer
from kpose.rendering.pytorch3d import PyTorch3DRenderer
from kpose.testing import check_renderer


@pytest.mark.parametrize(
    "maker", [HardRenderer, CompositeRenderer, SoftRenderer, fast_renderer], ids=lambda maker: maker.__name__
)
def test_renderers_keep_the_contract(maker):
    check_renderer(maker())


@pytest.mark.skipif(importlib.util.find_spec("pytorch3d") is None, reason="PyTorch3D is not installed")
@pytest.mark.filterwarnings("ignore")
def test_pytorch3d():
    check_renderer(PyTorch3DRenderer())


class Flipped(HardRenderer):
    """Has the image's y axis up."""

    def render(self, mesh, camera, size):
        found = super().render(mesh, camera, size)
        return found._replace(mask=found.mask.flip(-2))

    def silhouette(self, mesh, camera, size):
        return self.render(mesh, camera, size).mask


class Bright(HardRenderer):
    def render(self, mesh, camera, size):
        found = super().render(mesh, camera, size)
        return found if found.rgb is None else found._replace(rgb=found.rgb + 0.1)


class Shallow(HardRenderer):
    """Gives no depth to the background."""

    def render(self, mesh, camera, size):
        found = super().render(mesh, camera, size)
        return found._replace(depth=torch.where(found.depth.isfinite(), found.depth, 0.0))


class Careless(HardRenderer):
    def render(self, mesh, camera, size):
        return super().render(mesh._replace(vertices=mesh.vertices.nan_to_num()), camera, size)


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (Flipped, "the silhouettes of the z-buffer"),
        (Bright, "the colors of the mesh"),
        (Shallow, "a finite depth where there is a face and nowhere else"),
        (Careless, "a ValueError for vertices that are not finite"),
    ],
)
def test_broken_renderers_are_found_out(kind, rule):
    with pytest.raises(AssertionError, match=rule):
        check_renderer(kind())
