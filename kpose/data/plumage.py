"""Random plumage for synthetic birds: a color for every point of the template's surface, from parts and noise."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample

from kpose.data.scene import Draws
from kpose.structures import Template

__all__ = ["random_plumage"]

Points = Float[Tensor, "N 3"]
Color = Float[Tensor, "3"]
Shares = Float[Tensor, "N R"]
Anchors = dict[str, Float[Tensor, "3"]]
_DARK = ((0.10, 0.09, 0.09), (0.20, 0.15, 0.11), (0.30, 0.21, 0.14), (0.22, 0.23, 0.25), (0.12, 0.16, 0.26))
_MIDDLE = ((0.42, 0.32, 0.22), (0.52, 0.42, 0.30), (0.45, 0.46, 0.47), (0.40, 0.42, 0.26), (0.58, 0.38, 0.20))
_PALE = ((0.92, 0.91, 0.88), (0.85, 0.80, 0.68), (0.72, 0.71, 0.69), (0.90, 0.84, 0.55), (0.80, 0.66, 0.48))
_VIVID = ((0.78, 0.14, 0.10), (0.92, 0.74, 0.12), (0.14, 0.30, 0.66), (0.90, 0.46, 0.10), (0.28, 0.50, 0.20))
_HORN = ((0.08, 0.08, 0.08), (0.30, 0.28, 0.26), (0.85, 0.55, 0.12), (0.70, 0.62, 0.45), (0.80, 0.35, 0.15))
# Parts that anchor each region of plumage, and what the birds of one category have in common: pale underside, dark
# crown, wings and tail, a light beak.
_REGIONS = {
    "crown": (("crown", "forehead"), (0.16, 0.12, 0.12)),
    "cheek": (("left eye", "right eye"), (0.62, 0.34, 0.16)),
    "throat": (("throat",), (0.90, 0.86, 0.74)),
    "nape": (("nape",), (0.34, 0.28, 0.24)),
    "back": (("back",), (0.46, 0.40, 0.30)),
    "wing": (("left wing", "right wing"), (0.24, 0.22, 0.30)),
    "tail": (("tail",), (0.12, 0.16, 0.26)),
    "breast": (("breast",), (0.82, 0.60, 0.30)),
    "belly": (("belly",), (0.92, 0.91, 0.86)),
}
_SHARED_HORN = (0.88, 0.62, 0.16)
_NOISE_CELLS = 16


def random_plumage(points: Points, template: Template, draws: Draws, *, variety: float = 1.0) -> Points:
    """Paint points of the undeformed template: plumage by region, streaks, wing bars, beak and eyes.

    The draws are of one row; with a ``variety`` below 1, the colors of regions and beak are nearer to those of one
    kind of bird. The result is RGB in [0, 1], without light and shade, equal on both sides.
    """
    middle = template.vertices.mean(0)
    length = template.vertices[:, 1].max() - template.vertices[:, 1].min()
    fold = points.new_tensor([1.0, 0.0, 0.0])

    def chart(positions: Points) -> Points:
        # In body lengths from the middle, the right side folded onto the left.
        local = (positions - middle) / length
        return torch.where(fold.bool(), local.abs(), local)

    anchors = dict(zip(template.part_names, chart(template.vertices[template.part_vertices]), strict=True))
    place = chart(points)
    broad = _noise(place, (7, 7, 7), draws, 4)
    share = _region_shares(place + 0.03 * broad[:, :3], anchors, draws)
    kind = torch.tensor([color for _, color in _REGIONS.values()])
    colors = share @ torch.lerp(kind, _palette(draws), variety)
    colors = colors * (1 + 0.10 * broad[:, 3:4]) * _pattern(place, share, draws)
    colors = _wing_feathers(colors, place + 0.012 * broad[:, :3], share, anchors, draws)
    colors = _bare_parts(colors, place, anchors, draws, variety)
    return colors.clamp(0, 1)


def _region_shares(place: Points, anchors: Anchors, draws: Draws) -> Shares:
    """Compute every point's share in the regions: nearest anchor, with borders of random softness."""
    # Left and right parts coincide in the folded chart, and the forehead goes with the crown.
    centers = torch.stack(
        [torch.stack([anchors[part] for part in parts]).mean(0) for parts, _ in _REGIONS.values()]
    )
    distance = torch.cdist(place, centers)
    reach = draws.uniform(len(_REGIONS), low=0.8, high=1.25)[0]
    softness = draws.uniform(low=0.006, high=0.03)
    return torch.softmax(-distance / reach / softness, -1)


def _palette(draws: Draws) -> Float[Tensor, "R 3"]:
    """Draw a color for each region: a main coat, a paler underside, darker wings and now and then vivid marks."""
    chance = dict(zip(_REGIONS, draws.uniform(len(_REGIONS))[0].tolist(), strict=True))
    main = _tint((_DARK, _MIDDLE, _MIDDLE, _PALE, _VIVID), draws)
    under = _tint((_PALE, _PALE, _MIDDLE, _VIVID), draws)
    head = _tint((_DARK, _MIDDLE, _PALE, _VIVID), draws)
    mark = _tint((_VIVID, _PALE, _DARK), draws)
    wing = main * draws.uniform(low=0.45, high=1.0)
    if chance["wing"] < 0.3:
        wing = _tint((_DARK, _MIDDLE), draws)
    if chance["belly"] < 0.3:
        under = 0.7 * main + 0.3 * under
    plain = chance["crown"] < 0.5
    crown = main if plain else head
    coat = {
        "crown": crown,
        "cheek": crown if chance["cheek"] < 0.7 else mark,
        "throat": crown if chance["throat"] < 0.35 else under if chance["throat"] < 0.75 else mark,
        "nape": main if chance["nape"] < 0.6 else crown,
        "back": main,
        "wing": wing,
        "tail": wing if chance["tail"] < 0.75 else main,
        "breast": under if chance["breast"] < 0.65 else mark if chance["breast"] < 0.8 else main,
        "belly": under,
    }
    return torch.stack(list(coat.values()))


def _tint(families: Sequence[Sequence[tuple[float, float, float]]], draws: Draws) -> Color:
    """Draw a color near one of a random family's."""
    family = torch.tensor(families[int(draws.integers(len(families)))])
    tint: Tensor = family[draws.integers(len(family))[0]] * draws.uniform(low=0.75, high=1.2)
    return (tint + draws.normal(3, sd=0.03)[0]).clamp(0.03, 0.97)


def _pattern(place: Points, share: Shares, draws: Draws) -> Float[Tensor, "N 1"]:
    """Compute the shades of the feathers: mottling everywhere, streaks or bars on some regions."""
    mottle = 0.10 * _noise(place, (45, 22, 45), draws)
    amount = draws.uniform(len(_REGIONS), low=-0.7, high=0.6)[0].clamp(min=0)  # about half the regions are plain
    along = float(draws.uniform()) < 0.7
    streaks = _noise(place, (36, 9, 36) if along else (9, 30, 9), draws)
    streaks = torch.sigmoid(8 * (streaks - 0.25))
    return (1 + mottle) * (1 - streaks * (share @ amount)[:, None])


def _wing_feathers(colors: Points, place: Points, share: Shares, anchors: Anchors, draws: Draws) -> Points:
    """Draw the edges of flight feathers on wings and tail, and pale wing bars on some birds."""
    names = list(_REGIONS)
    wing, tail = share[:, names.index("wing"), None], share[:, names.index("tail"), None]
    rise = place[:, 2:] + 0.3 * place[:, 1:2]
    edges = torch.sin(rise * float(draws.uniform(low=180.0, high=320.0))).relu().square()
    colors = colors * (1 - (wing + 0.6 * tail) * edges * draws.uniform(low=0.1, high=0.45))
    bars, strength = int(draws.integers(3)), draws.uniform(low=0.4, high=0.9)
    behind = place[:, 1:2] - anchors["left wing"][1] + 0.8 * (place[:, 2:] - anchors["left wing"][2])
    pale = _tint((_PALE,), draws)
    for bar in range(bars):
        band = torch.exp(-((behind + 0.06 - 0.07 * bar) / 0.011).square()) * wing * strength
        colors = torch.lerp(colors, pale.expand_as(colors), band)
    return colors


def _bare_parts(colors: Points, place: Points, anchors: Anchors, draws: Draws, variety: float) -> Points:
    """Paint beak, eyes and sometimes a ring round the eyes."""
    horn, ring = _tint((_HORN,), draws), _tint((_PALE, _VIVID), draws)
    horn = torch.lerp(torch.tensor(_SHARED_HORN), horn, variety)
    base = 0.45 * anchors["beak"] + 0.55 * anchors["forehead"]
    beak = torch.sigmoid((base[1] - place[:, 1:2]) / 0.006)
    colors = torch.lerp(colors, horn.expand_as(colors), beak)
    eye = (place - anchors["left eye"]).norm(dim=-1, keepdim=True)
    if float(draws.uniform()) < 0.35:
        colors = torch.lerp(colors, ring.expand_as(colors), torch.sigmoid((0.026 - eye) / 0.002))
    return colors * torch.sigmoid((eye - 0.017) / 0.002).clamp(min=0.06)


def _noise(
    place: Points, cells: tuple[int, int, int], draws: Draws, channels: int = 1
) -> Float[Tensor, "N channels"]:
    """Sample smooth noise with that many cells a body length along each axis (about -1 to 1)."""
    volume = draws.normal(channels, _NOISE_CELLS, _NOISE_CELLS, _NOISE_CELLS)
    grid = place * place.new_tensor(cells) * (2 / _NOISE_CELLS)
    sampled = grid_sample(volume, grid[None, None, None], padding_mode="reflection", align_corners=False)
    return sampled[0, :, 0, 0].mT * 1.3
