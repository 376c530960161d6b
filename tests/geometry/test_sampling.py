import pytest
import torch
import trimesh

from kpose.geometry import farthest_point_sampling
from kpose.geometry._mesh import mirror_pairs
from kpose.geometry._sampling import mirror_permutation


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def points():
    vertices = torch.tensor(trimesh.creation.icosphere(subdivisions=2).vertices, dtype=torch.float32)
    return vertices, mirror_pairs(vertices)


def test_same_seed_same_points_other_seed_others():
    vertices, _ = points()
    first, again, other = (farthest_point_sampling(vertices, 20, generator=seeded(s)) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_each_point_is_the_farthest_of_the_rest():
    vertices, _ = points()
    index = farthest_point_sampling(vertices, 30, generator=seeded())
    for k in range(1, 30):
        distance = torch.cdist(vertices, vertices[index[:k]]).min(-1).values
        assert distance[index[k]] == pytest.approx(float(distance.max()), abs=1e-5)


@pytest.mark.parametrize("count", [1, 2, 15, 32, 33, 64, 161, 162])
@pytest.mark.parametrize("seed", [0, 1])
def test_symmetric_set(count, seed):
    vertices, mirror = points()
    index = farthest_point_sampling(vertices, count, generator=seeded(seed), mirror=mirror)
    assert index.unique().numel() == count
    permutation = mirror_permutation(index, mirror)
    assert torch.equal(index[permutation], mirror[index])
    assert torch.equal(permutation[permutation], torch.arange(count))


def test_symmetric_set_spreads_as_well():
    vertices, mirror = points()

    def gap(index):
        return float(torch.cdist(vertices, vertices[index]).min(-1).values.max())

    free = gap(farthest_point_sampling(vertices, 32, generator=seeded()))
    assert gap(farthest_point_sampling(vertices, 32, generator=seeded(), mirror=mirror)) < 1.4 * free


def test_without_singles_an_odd_count_is_refused():
    pair = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    with pytest.raises(ValueError, match="one more or one less"):
        farthest_point_sampling(pair, 1, mirror=torch.tensor([1, 0]))
    assert farthest_point_sampling(pair, 2, mirror=torch.tensor([1, 0])).sort().values.tolist() == [0, 1]


def test_coincident_points_are_chosen_once():
    assert farthest_point_sampling(torch.zeros(5, 3), 5, generator=seeded()).unique().numel() == 5


@pytest.mark.parametrize("count", [0, 163])
def test_count_out_of_range(count):
    with pytest.raises(ValueError, match="count from 1 to 162"):
        farthest_point_sampling(points()[0], count)


def test_mirror_permutation_needs_a_closed_set():
    vertices, mirror = points()
    index = (mirror != torch.arange(len(vertices))).nonzero()[:1, 0]
    with pytest.raises(ValueError, match="closed under mirroring"):
        mirror_permutation(index, mirror)
