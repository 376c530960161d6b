import weakref

import pytest
import torch
from reconstruction.scenes import SIZE, birds
from reconstruction.training import Birds, Data
from torch import nn
from torch.nn.functional import avg_pool2d
from torch.utils.data import DataLoader

from kpose.backbones import Backbone
from kpose.data import CachedFeaturesDataModule
from kpose.data._transforms import flip_batch
from kpose.geometry import axis_angle_to_matrix, box_to_crop, geodesic_distance, rotation_grid
from kpose.reconstruction import CameraTable, ViewpointGrid, choose_cameras, training_views
from kpose.reconstruction.appearance import expected_miss
from kpose.structures import Camera, FeatureSpec

IMAGES = 24


class Colors(Backbone):
    """Features that are nothing but colors, so that those of a mirror image are mirrored."""

    def __init__(self):
        super().__init__(FeatureSpec(channels=(3,), strides=(2,)))
        self.unused = nn.Parameter(torch.zeros(1))

    def pyramid(self, image):
        return (avg_pool2d(image, 2),)


@pytest.fixture
def batch():
    return birds(IMAGES)


@pytest.fixture
def table(batch):
    """Two cameras for each image, the true one and the one from behind, which the silhouettes prefer."""
    made = CameraTable(batch["index"], grid=ViewpointGrid(2, 1))
    rows = made.rows(batch["index"])
    made.set_reference_crop(rows, batch["crop"])
    half_turn = axis_angle_to_matrix(torch.tensor([0.0, 0.0, torch.pi]))
    true = batch["camera"]
    cameras = Camera(
        true.scale[:, None].expand(-1, 2),
        true.translation[:, None].expand(-1, 2, 2),
        torch.stack((true.rotation, true.rotation @ half_turn), 1),
    )
    made.set_cameras(rows, cameras, torch.tensor([0.6, 0.4]).repeat(IMAGES, 1))
    return made


SETTINGS = {"num_vertices": 100, "num_rotations": 500, "dimensions": 3, "progress": False}


def errors(table, batch):
    """Angles between the chosen cameras and the true ones, in degrees."""
    return torch.rad2deg(geodesic_distance(table.best().rotation, batch["camera"].rotation))


def test_the_chosen_camera_is_near_the_true_one(batch, table):
    assert errors(table, batch).mean() > 150
    posterior = choose_cameras(table, [DataLoader(Birds(batch), batch_size=3)], Colors(), **SETTINGS)
    assert errors(table, batch).mean() < 30
    grid = rotation_grid(500)
    torch.testing.assert_close(table.score, expected_miss(table.rotation, grid, posterior.probability))


class Stream:
    """A view that is read a batch at a time: what was given earlier is gone."""

    read = 0

    def __init__(self, images):
        self.loader = DataLoader(images, batch_size=3)

    def __iter__(self):
        self.read += 1
        given = []
        for batch in self.loader:
            assert all(before() is None for before in given[:-1])
            given.append(weakref.ref(batch["image"]))
            yield batch


def test_views_are_streamed(batch, table):
    views = [Stream(Birds(batch)) for _ in range(3)]
    choose_cameras(table, views, Colors(), **SETTINGS)
    assert [view.read for view in views] == [2, 1, 1]


def test_the_order_of_the_images_does_not_matter(batch, table):
    other = CameraTable(batch["index"], grid=ViewpointGrid(2, 1))
    other.load_state_dict(table.state_dict())
    images = Birds(batch)
    first = choose_cameras(table, [DataLoader(images, batch_size=3)], Colors(), **SETTINGS)
    backwards = torch.utils.data.Subset(images, list(range(IMAGES))[::-1])
    second = choose_cameras(other, [DataLoader(backwards, batch_size=5)], Colors(), **SETTINGS)
    for one, two in zip(first, second, strict=True):
        torch.testing.assert_close(one, two, atol=1e-3, rtol=0)


def test_mirror_images_say_the_same(batch, table):
    other = CameraTable(batch["index"], grid=ViewpointGrid(2, 1))
    other.load_state_dict(table.state_dict())
    plain, mirrored = training_views(Data(count=IMAGES), batch_size=3)
    for photo, image in zip(plain, mirrored, strict=True):
        assert torch.equal(image["image"], photo["image"].flip(-1))
        assert torch.equal(image["mask"], photo["mask"].flip(-1))
        assert image["flipped"].all()
        assert torch.equal(image["index"], photo["index"])
        assert "camera" not in image
    first = choose_cameras(table, [plain], Colors(), **SETTINGS)
    second = choose_cameras(other, [mirrored], Colors(), **SETTINGS)
    torch.testing.assert_close(first.similarity, second.similarity, atol=1e-3, rtol=0)
    torch.testing.assert_close(table.score, other.score, atol=1e-2, rtol=0)


class Augmented(Data):
    """A data module whose features can be cached, every augmentation a shifted crop of half of the images."""

    test_split = "val"

    def dataset(self, split, *, train=False):
        return self.birds

    def augment(self, batch, *, seed):
        where = torch.arange(len(batch["index"])) % 2 == seed % 2
        shift = torch.tensor([2.0, 0.0, SIZE + 2.0, SIZE]).expand(len(where), 4)
        moved = batch.copy()
        moved["image"] = torch.cat((batch["image"][..., 2:], batch["image"][..., :2]), -1)
        moved["mask"] = torch.cat((batch["mask"][..., 2:], batch["mask"][..., :2]), -1)
        moved["crop"] = box_to_crop(shift)
        return flip_batch(moved, where)


def test_views_of_cached_features_are_mapped_from_their_crops(batch, table, tmp_path):
    backbone = Colors().freeze()
    data = CachedFeaturesDataModule(Augmented(count=IMAGES), backbone, folder=tmp_path, views=2)
    data.setup("fit")
    views = training_views(data)
    assert len(views) == 2
    for view in views:
        given = list(view)
        assert not any("image" in one for one in given)
        assert torch.cat([one["index"] for one in given]).tolist() == batch["index"].tolist()
    choose_cameras(table, views, backbone, **SETTINGS)
    assert errors(table, batch).mean() < 30


def test_cameras_have_to_be_searched(batch):
    table = CameraTable(batch["index"], grid=ViewpointGrid(2, 1))
    with pytest.raises(ValueError, match=r"searched cameras; 24 of 24 have none: 10, 11, 12 and others\. Run"):
        choose_cameras(table, training_views(Data(count=IMAGES)), Colors(), **SETTINGS)


def test_a_view_is_needed(table):
    with pytest.raises(ValueError, match="needs a view of the images"):
        choose_cameras(table, [], Colors(), **SETTINGS)
