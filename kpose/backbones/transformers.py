"""Pretrained backbones from the transformers library."""

import json
from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kpose._files import model_source
from kpose._messages import one_line
from kpose.backbones.base import Backbone
from kpose.structures import FeatureSpec

__all__ = ["TransformersBackbone"]

PROBE_SIZE = 224  # a multiple of every stride and patch size in use (14, 16, 32)


class TransformersBackbone(Backbone):
    """Wrap any backbone that transformers knows (ResNet, ConvNeXt, Swin, DINOv2, ...).

    Args:
        name: Name of a model on the Hugging Face hub, or a local folder with its ``config.json`` and weights. A
            folder is never looked up on the hub.
        out_stages: Stages whose maps are given, fine to coarse, counted from 1 (0 is the stem).
        frozen: Whether the pretrained weights stay as they are: no gradients, and batch normalization in
            evaluation mode.
        pretrained: Whether the weights are loaded; otherwise only the architecture is, with random weights.
        config: Configuration of the model as transformers writes it, in place of looking ``name`` up; only without
            pretrained weights. A checkpoint keeps it, and so needs neither folder nor hub.

    Raises:
        ValueError: If transformers has no backbone class for the model, it lacks a stage or takes no square
            images, or a configuration is given together with pretrained weights.
        OSError: If the model is neither a folder nor known to the hub (or there is no network).

    Example:
        >>> import torch
        >>> from transformers import ResNetConfig
        >>> small = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]).to_dict()
        >>> backbone = TransformersBackbone("small", (1, 2), pretrained=False, config=small)
        >>> [tuple(maps.shape) for maps in backbone(torch.zeros(1, 3, 64, 64)).maps]
        [(1, 8, 16, 16), (1, 16, 8, 8)]
    """

    def __init__(
        self,
        name: str | PathLike[str],
        out_stages: Sequence[int] = (1, 2, 3, 4),
        *,
        frozen: bool = True,
        pretrained: bool = True,
        config: dict[str, Any] | None = None,
    ) -> None:
        if pretrained and config is not None:
            raise ValueError("TransformersBackbone needs pretrained weights or a config; got both. Leave one out.")
        model = _load(fspath(name), tuple(out_stages), pretrained=pretrained, given=config)
        super().__init__(_probe(model))
        self.model = model
        if frozen:
            self.freeze()

    def pyramid(self, image: Float[Tensor, "batch 3 H W"]) -> tuple[Float[Tensor, "batch _ _ _"], ...]:
        """Run the wrapped model.

        Raises:
            ValueError: If its architecture takes images of another size only.
        """
        return _run(self.model, image)

    def recorded_arguments(self) -> dict[str, Any]:
        """Replace the folder or the model's name by its configuration: the weights are saved with the network."""
        model: Any = self.model
        config = json.loads(model.config.to_json_string(use_diff=False))
        config.pop("_name_or_path", None)
        offline = {"name": model.config.model_type, "pretrained": False, "frozen": self.frozen, "config": config}
        return {**super().recorded_arguments(), **offline}


def _load(name: str, out_stages: tuple[int, ...], *, pretrained: bool, given: dict[str, Any] | None) -> nn.Module:
    # AutoBackbone.from_pretrained asks the hub about local folders; config and class by hand do not.
    from transformers import CONFIG_MAPPING, AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_BACKBONE_MAPPING

    def read(**changes: object) -> Any:  # noqa: ANN401
        if given is None:
            return AutoConfig.from_pretrained(model_source(name), **changes)
        known = {key: value for key, value in given.items() if key not in ("out_features", "out_indices")}
        return CONFIG_MAPPING[given.get("model_type", name)].from_dict(known, **changes)

    config = read()
    stages = getattr(config, "stage_names", None)
    if type(config) not in MODEL_FOR_BACKBONE_MAPPING or stages is None:
        raise ValueError(
            f"TransformersBackbone needs a model with a backbone class in transformers; {name!r} is a "
            f"{config.model_type!r}. Take a ResNet, ConvNeXt, Swin or DINOv2, for example."
        )
    if not out_stages or not all(0 <= stage < len(stages) for stage in out_stages):
        raise ValueError(
            f"TransformersBackbone needs out_stages within 0 and {len(stages) - 1}; got {out_stages}. "
            f"The stages of {name!r} are {list(stages)}."
        )
    config = read(out_indices=list(out_stages))
    backbone_class: Any = MODEL_FOR_BACKBONE_MAPPING[type(config)]
    model: nn.Module = backbone_class.from_pretrained(name, config=config) if pretrained else backbone_class(config)
    return model


def _probe(model: Any) -> FeatureSpec:  # noqa: ANN401
    """Read channels and strides off one image, since configurations do not name strides."""
    own = getattr(model.config, "image_size", PROBE_SIZE)
    height, width = (own, own) if isinstance(own, int) else own
    if height != width:
        raise ValueError(
            f"TransformersBackbone needs a model that takes square images; {model.config.model_type!r} takes "
            f"{width} x {height}. Take a ResNet, ConvNeXt, Swin or DINOv2, for example."
        )
    model.eval()
    side = PROBE_SIZE
    with torch.no_grad():
        try:
            maps = _run(model, torch.zeros(1, 3, side, side))
        except ValueError:  # some architectures can do their own size only
            side = width
            maps = _run(model, torch.zeros(1, 3, side, side))
    model.train()
    return FeatureSpec(tuple(m.shape[1] for m in maps), tuple(side // m.shape[-1] for m in maps))


def _run(model: Any, image: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401
    try:
        return tuple(model(image).feature_maps)
    except torch.OutOfMemoryError:
        raise
    except (ValueError, RuntimeError) as error:
        height, width = image.shape[-2:]
        raise ValueError(
            f"The architecture {model.config.model_type!r} of transformers cannot do images of {width} x {height} "
            f"pixels ({one_line(error)[:200]}). Take its own size, "
            f"{getattr(model.config, 'image_size', 'which its configuration does not name')}, or another backbone."
        ) from error
