import math

import pytest
import torch

from kpose.geometry import viewpoint_to_matrix
from kpose.rendering import HardRenderer
from kpose.structures import Camera
from kpose.templates import bird, template_mesh
from kpose.visualization import paint_by_photo


def test_the_texture_of_a_photo_is_what_it_shows() -> None:
    shape = bird()
    mesh = template_mesh(shape)
    rotation = viewpoint_to_matrix(torch.tensor(math.pi / 2), torch.tensor(0.0), torch.tensor(0.0))
    camera = Camera(torch.tensor(0.8), torch.zeros(2), rotation)
    photo = torch.zeros(3, 64, 64)
    photo[0, :32], photo[2, 32:] = 1.0, 1.0  # red above, blue below
    painted = paint_by_photo(mesh, photo, camera)
    assert painted.texture is not None
    # From the same side the picture is the photo; from the other one it is as the mirror image.
    turned = torch.tensor([[1.0], [1.0], [-1.0]]) * rotation * torch.tensor([-1.0, 1.0, 1.0])
    for view in (camera, camera._replace(rotation=turned)):
        drawn = HardRenderer().render(painted, view, 64)
        assert drawn.rgb is not None
        inner = -torch.nn.functional.max_pool2d(-drawn.mask[None], 5, 1, 2)[0] > 0
        inner[30:34] = False
        assert inner.sum() > 200
        difference = (drawn.rgb - photo).abs().amax(0)[inner]
        assert (difference < 0.05).float().mean() > 0.95
    away = paint_by_photo(mesh, photo, camera._replace(translation=torch.tensor([9.0, 9.0])))
    assert away.texture is not None
    assert away.texture.unique().tolist() == [0.5]
    with pytest.raises(ValueError, match="needs a mesh with uv"):
        paint_by_photo(mesh._replace(uv=None, uv_faces=None), photo, camera)


def test_nothing_beside_the_mask_is_painted() -> None:
    camera = Camera(torch.tensor(0.8), torch.zeros(2), viewpoint_to_matrix(*torch.tensor([math.pi / 2, 0.0, 0.0])))
    mask = torch.zeros(64, 64)
    mask[16:40, 20:44] = 1.0
    photo = torch.stack((1 - mask, mask, 0 * mask))  # red around a green object
    whole, cut = (paint_by_photo(template_mesh(bird()), photo, camera, mask=m).texture for m in (None, mask))
    assert whole is not None
    assert cut is not None
    assert whole[0].max() > 0.99
    assert cut[0].max() < 0.01
    assert cut[1].min() > 0.99
