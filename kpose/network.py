"""What predicts, without what trains it: backbone, pose head and, where shapes are learned, mesh reconstructor."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_model
from torch import Tensor, nn

import kpose
from kpose._checkpoint import CONFIG_FILE, READ_ERRORS, WEIGHTS_FILE, network_of_checkpoint, read_checkpoint
from kpose._export import write_onnx
from kpose._files import read_json, write_file, write_text
from kpose._limits import MAX_SIDE
from kpose._messages import one_line
from kpose._precision import widened
from kpose.backbones import Backbone
from kpose.heads import PoseHead
from kpose.recipe import build, encode, encode_factory
from kpose.reconstruction import MeshReconstructor
from kpose.structures import Domain, Features, FeatureSpec, PosePrediction, Shape, Template
from kpose.templates import bird, check_template

__all__ = [
    "HeadFactory",
    "PoseNetwork",
    "ReconstructorFactory",
    "TensorNetwork",
    "parts_of",
]

HeadFactory = Callable[[FeatureSpec, Template], PoseHead]  #: A class, a `functools.partial`, any function.
ReconstructorFactory = Callable[[FeatureSpec, Template], MeshReconstructor]  #: The same for reconstructors.

_FORMAT = 2
_TEMPLATE = ("vertices", "faces", "uv", "uv_faces", "mirror", "part_vertices")


class PoseNetwork(nn.Module):
    """Predict the pose of the object in every image, and its shape where there is a reconstructor.

    The reconstructor comes from stage 2 and is never trained here, nor is then the backbone, whose features it
    knows: poses are learned for the shapes that it predicts. Without one the shape of every object is the template.

    Args:
        backbone: Where the features come from.
        head: Builds the head from the backbone's `FeatureSpec` and the template: a class, a `functools.partial`.
        template: The category's mean shape, which the parts are built on; the built-in bird when None.
        reconstructor: Builds the network that predicts shapes and textures; None takes the template for the shape.
        image_size: Side of the crops of training, in pixels; None where it is not known.
        domain: What it was trained on; None where that is not known.
        template_poses: Whether the head is given the template in place of the predicted shapes, so that poses do
            not follow the shapes. `kpose.tasks.ShapeAdaptation` sets it, and it is saved with the network.

    Example:
        >>> from kpose import QuaternionHead, TinyBackbone
        >>> network = PoseNetwork(TinyBackbone(width=8), QuaternionHead, reconstructor=MeshReconstructor)
        >>> features = network.backbone(torch.zeros(2, 3, 64, 64))
        >>> network.shapes(features).shape, network.pose(features).camera.rotation.shape
        (torch.Size([2, 642, 3]), torch.Size([2, 3, 3]))
    """

    vertices: Tensor
    """The template's vertices, saved with the weights like its other tensors."""
    faces: Tensor
    """The template's faces."""

    def __init__(
        self,
        backbone: Backbone,
        head: HeadFactory,
        *,
        template: Template | None = None,
        reconstructor: ReconstructorFactory | None = None,
        image_size: int | None = None,
        domain: Domain | None = None,
        template_poses: bool = False,
    ) -> None:
        super().__init__()
        template = bird() if template is None else template
        for name in _TEMPLATE:
            self.register_buffer(name, getattr(template, name).clone())
        self.part_names = template.part_names
        self.image_size = image_size
        self.domain = domain
        self.template_poses = template_poses
        self.backbone = backbone if reconstructor is None else backbone.freeze()
        self.head = head(backbone.spec, template)
        self.reconstructor: MeshReconstructor | None = None
        if reconstructor is not None:
            self.reconstructor = reconstructor(backbone.spec, template).requires_grad_(False)

    @property
    def template(self) -> Template:
        """The mean shape that everything is built on, on the network's device."""
        return Template(part_names=self.part_names, **{name: getattr(self, name) for name in _TEMPLATE})

    def train(self, mode: bool = True) -> "PoseNetwork":
        """Switch between training and evaluation; the reconstructor stays in evaluation."""
        super().train(mode)
        if self.reconstructor is not None:
            self.reconstructor.train(False)
        return self

    def forward(
        self, image: Float[Tensor, "batch 3 H W"], vertices: Float[Tensor, "batch V 3"] | None = None
    ) -> PosePrediction:
        """Predict the pose of the object in every image.

        Args:
            image: RGB crops in [0, 1].
            vertices: Shape of the object in each image; that of `shapes` when None.

        Returns:
            What the head predicts.
        """
        return self.pose(self.backbone(image), vertices)

    def pose(self, features: Features, vertices: Float[Tensor, "batch V 3"] | None = None) -> PosePrediction:
        """Predict poses from the features of a backbone.

        Args:
            features: Feature maps.
            vertices: Shape of the object in each image; that of `shapes` when None. Not read with
                ``template_poses``.

        Returns:
            What the head predicts.
        """
        if self.template_poses:
            prediction: PosePrediction = self.head(features)
        else:
            prediction = self.head(features, self.shapes(features) if vertices is None else vertices)
        return prediction

    @torch.no_grad()
    def shapes(self, features: Features) -> Float[Tensor, "batch V 3"]:
        """Return the shape of the object in every image, without gradient and without its texture.

        Args:
            features: Feature maps.

        Returns:
            Vertices in the template's order: what the reconstructor predicts, else the template.
        """
        if self.reconstructor is None:
            return widened(self.vertices).expand(features.maps[0].shape[0], -1, -1)
        return self.reconstructor.vertices(features)

    @torch.no_grad()
    def reconstruct(self, features: Features) -> Shape:
        """Predict shapes and textures.

        Args:
            features: Feature maps.

        Returns:
            Shapes and textures.

        Raises:
            ValueError: If there is no reconstructor.
        """
        if self.reconstructor is None:
            raise ValueError("PoseNetwork needs a reconstructor to predict shapes; it has none. Train stage 2.")
        shape: Shape = self.reconstructor(features)
        return shape

    def recipe(self) -> dict[str, Any]:
        """Describe what the network was built from, in plain values; its tensors are the state dict's.

        Returns:
            Recipe that JSON can hold, for `from_recipe`.

        Raises:
            TypeError: If a part was given something that only this process knows, such as a local function.
        """
        return {
            "format": _FORMAT,
            "version": kpose.__version__,
            "image_size": self.image_size,
            "domain": None if self.domain is None else self.domain._asdict(),
            "template_poses": self.template_poses,
            "part_names": list(self.part_names),
            "backbone": encode(self.backbone),
            "head": encode_factory(self.head),
            "reconstructor": None if self.reconstructor is None else encode_factory(self.reconstructor),
        }

    @classmethod
    def from_recipe(
        cls, recipe: Mapping[str, Any], weights: Mapping[str, Tensor], *, trusted_modules: Sequence[str] = ()
    ) -> "PoseNetwork":
        """Build a network again.

        Args:
            recipe: What `recipe` returned.
            weights: Its state dict.
            trusted_modules: Modules and packages beside kpose whose classes may be imported, which runs their code.

        Returns:
            Network in evaluation, on the CPU.

        Raises:
            ValueError: If the recipe is of another version, names a class that is not trusted, or does not fit.
        """
        network = cls(**parts_of(recipe, weights, trusted_modules=trusted_modules))
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"It holds weights of another network than it describes ({_line(error)}).") from error
        return network.eval()

    def save(self, path: str | PathLike[str], *, half: bool = False) -> None:
        """Write the network as a folder that `load` reads in any process: weights and a description, no code.

        Args:
            path: Folder; it is created, and files of an earlier network in it are replaced.
            half: Write weights that are trained in float16, half as large; loading gives float32 again.

        Raises:
            TypeError: See `recipe`; nothing has been written then.
        """
        description = json.dumps({"kpose": self.recipe()}, indent=2, sort_keys=True) + "\n"
        saved = copy.deepcopy(self) if half else self
        for parameter in saved.parameters() if half else ():  # template and statistics, few and exact, stay
            parameter.data = parameter.data.half()
        write_file(Path(path) / WEIGHTS_FILE, lambda fresh: save_model(saved, str(fresh)))
        write_text(Path(path) / CONFIG_FILE, description)

    @classmethod
    def load(cls, path: str | PathLike[str], *, trusted_modules: Sequence[str] = ()) -> "PoseNetwork":
        """Read a folder that `save` has written.

        Args:
            path: Folder.
            trusted_modules: See `from_recipe`.

        Returns:
            Network in evaluation, on the CPU.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If a file is damaged, or the network cannot be built; one line says why.
        """
        folder = Path(path)
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"There is no {name} in {folder}. Give a folder of PoseNetwork.save.")
        try:
            recipe, weights = read_json(folder / CONFIG_FILE)["kpose"], load_file(folder / WEIGHTS_FILE)
        except (TypeError, *READ_ERRORS) as error:
            raise ValueError(f"{folder} holds no network of kpose ({_line(error)}). Save it again.") from error
        return _located(folder, lambda: cls.from_recipe(recipe, weights, trusted_modules=trusted_modules))

    @classmethod
    def from_checkpoint(cls, path: str | PathLike[str], *, trusted_modules: Sequence[str] = ()) -> "PoseNetwork":
        """Read the network of a checkpoint of `kpose.tasks.PoseEstimator`.

        Args:
            path: Checkpoint.
            trusted_modules: See `from_recipe`.

        Returns:
            Network in evaluation, on the CPU.

        Raises:
            OSError: If there is no such file, or it may not be read.
            ValueError: If it is damaged, of another stage or version, or names classes that are not trusted.
        """
        recipe, weights = network_of_checkpoint(path, read_checkpoint(path))
        return _located(Path(path), lambda: cls.from_recipe(recipe, weights, trusted_modules=trusted_modules))

    def export(self, path: str | PathLike[str], *, image_size: int | None = None) -> None:
        """Write the network as an ONNX file, for other runtimes and languages; needs the extra ``onnx``.

        Its input is ``image``, as that of `forward`, of any batch size; its outputs are those of `TensorNetwork`.

        Args:
            path: File, replaced if there is one.
            image_size: Side of the crops that it takes; the network's own when None.

        Raises:
            ModuleNotFoundError: If the extra is not installed.
            ValueError: If no size is known.
        """
        size = self.image_size if image_size is None else image_size
        if size is None:
            raise ValueError("PoseNetwork.export needs the size of crops; it knows none. Give image_size=224.")
        write_onnx(TensorNetwork(copy.deepcopy(self).cpu()).eval(), torch.full((2, 3, size, size), 0.5), Path(path))

    def __str__(self) -> str:
        """Return a summary of five lines."""
        parts = {"backbone": self.backbone, "head": self.head, "reconstructor": self.reconstructor}
        size = "" if self.image_size is None else f", crops of {self.image_size} pixels"
        learned = "" if self.domain is None else f", trained on {self.domain}"
        lines = [f"PoseNetwork, {_count(self)} parameters{size}{learned}"]
        lines += [
            f"  {name + ':':<15}"
            + ("none" if part is None else f"{type(part).__name__}, {_count(part)} parameters")
            for name, part in parts.items()
        ]
        shape = f"{len(self.vertices)} vertices, {len(self.faces)} faces, {len(self.part_names)} parts"
        return "\n".join([*lines, f"  {'template:':<15}{shape}"])

    __repr__ = __str__


class TensorNetwork(nn.Module):
    """A network whose results are named tensors, as `torch.export.export` and other runtimes need them.

    They are ``scale``, ``translation`` and ``rotation`` of the camera in the crop, ``keypoints`` and ``confidence``
    where the head has keypoints, and ``vertices``.

    Args:
        network: The network.

    Example:
        >>> from kpose import QuaternionHead, TinyBackbone
        >>> network = TensorNetwork(PoseNetwork(TinyBackbone(width=8), QuaternionHead)).eval()
        >>> list(network(torch.zeros(2, 3, 64, 64)))
        ['scale', 'translation', 'rotation', 'vertices']
    """

    def __init__(self, network: PoseNetwork) -> None:
        super().__init__()
        self.network = network

    @torch.no_grad()
    def forward(self, image: Float[Tensor, "batch 3 H W"]) -> dict[str, Tensor]:
        """Predict poses and shapes; see `PoseNetwork.forward`."""
        features = self.network.backbone(image)
        vertices = self.network.shapes(features)
        found = self.network.pose(features, vertices)
        points = {name: getattr(found, name) for name in ("keypoints", "confidence") if hasattr(found, name)}
        return {**found.camera._asdict(), **points, "vertices": vertices}


def parts_of(
    recipe: Mapping[str, Any], weights: Mapping[str, Tensor], *, trusted_modules: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the arguments of `PoseNetwork` that a recipe and the tensors beside it hold; see `from_recipe`.

    Example:
        >>> from kpose import QuaternionHead, TinyBackbone
        >>> network = PoseNetwork(TinyBackbone(width=8), QuaternionHead, image_size=64)
        >>> parts_of(network.recipe(), network.state_dict())["image_size"]
        64
    """
    if not isinstance(recipe, Mapping) or recipe.get("format") != _FORMAT:
        version = recipe.get("version") if isinstance(recipe, Mapping) else None
        raise ValueError(
            f"It was written by kpose {version}; this is {kpose.__version__}. Train it again or update."
        )
    size = recipe.get("image_size")
    if size is not None and not (isinstance(size, int) and 0 < size <= MAX_SIDE):
        raise ValueError(f"A network needs an image size of at most {MAX_SIDE} pixels; it has {size!r:.40}.")
    try:
        on_template = bool(recipe["template_poses"])
        known = recipe.get("domain")
        domain = None if known is None else Domain(**{name: str(word) for name, word in known.items()})
        tensors = {name: weights[name] for name in _TEMPLATE}  # in whatever precision training had
        tensors = {name: part.float() if part.is_floating_point() else part for name, part in tensors.items()}
        template = Template(part_names=tuple(recipe["part_names"]), **tensors)
        check_template(template)
        parts = {
            name: None if recipe[name] is None else build(recipe[name], trusted_modules=trusted_modules)
            for name in ("backbone", "head", "reconstructor")
        }
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"Its description is incomplete or damaged ({_line(error)}).") from error
    own = {"template": template, "image_size": size, "domain": domain, "template_poses": on_template}
    return {**parts, **own}


def _located(path: Path, work: Callable[[], PoseNetwork]) -> PoseNetwork:
    """Name the file in errors."""
    try:
        return work()
    except (ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{path} cannot be used. {_line(error)}") from error


def _line(error: BaseException) -> str:
    return one_line(error)[:400]


def _count(part: nn.Module) -> str:
    count = sum(parameter.numel() for parameter in part.parameters())
    return f"{count / 1e6:.1f} M" if count >= 1e5 else f"{count / 1e3:.1f} k"
