"""What commands share: the predictor, what finds the object in a photo, and what follows it in a video.

Options are checked when they are read; torch and the models are imported when something is loaded.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kpose._files import SHIPPED_WEIGHTS
from kpose._limits import MAX_SIDE
from kpose.cli.parser import ArgumentError

if TYPE_CHECKING:
    from kpose.inference import Predictor
    from kpose.inference.segmentation import Segmenter
    from kpose.video import Tracker

__all__ = ["Box", "Finder", "Networks", "Targets", "learned_from"]

Box = tuple[float, float, float, float]


@dataclass(kw_only=True)
class Finder:
    """Options of what finds the object in a photo.

    Args:
        device: where the networks run, such as cuda (default: cpu)
        segmenter: find the object by a segmentation model of transformers, a folder or a name on the Hugging Face
            Hub, instead of the one that comes with kpose or the checkpoint, or is found on this machine
        label: what the model of --segmenter calls the object (default: bird)

    Raises:
        ValueError: If there is a label without a segmenter.
    """

    device: str = "cpu"
    segmenter: str | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        if self.label is not None and self.segmenter is None:
            raise ValueError("--label is what the model of --segmenter calls the object; give both")

    def load_segmenter(self) -> "Segmenter | None":
        """Load the model that is named; None if none is."""
        import torch

        from kpose.inference.segmentation import TransformersSegmenter

        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:  # the latter where torch is built without CUDA
            line = f"--device needs a device of this machine, such as cpu or cuda:0; got {self.device}"
            raise ArgumentError(None, line) from error
        if self.segmenter is None:
            return None
        return TransformersSegmenter(self.segmenter, label=self.label or "bird", device=self.device)


@dataclass
class Networks(Finder):
    """Options of what predicts, and of what finds the object.

    Args:
        checkpoint: what `kpose fit` or `kpose pipeline` has written, the folder of Predictor.save_pretrained, or
            the name of a network that comes with kpose (default: bird)
        image_size: side of the crops, if the checkpoint does not know it
        trust: module of your own that the checkpoint takes classes from; importing it runs its code

    Raises:
        ValueError: If there is a label without a segmenter, or a size that is not positive.
    """

    checkpoint: Path | None = None
    image_size: int | None = None
    trust: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        if self.checkpoint is not None and not self.checkpoint.exists():
            shipped = SHIPPED_WEIGHTS / self.checkpoint.name
            if self.checkpoint.name == str(self.checkpoint) and shipped.is_dir():
                self.checkpoint = shipped
        if self.image_size is not None and not 1 <= self.image_size <= MAX_SIDE:
            raise ValueError(f"--image-size must be from 1 to {MAX_SIDE}; got {self.image_size}")

    @property
    def source(self) -> Path:
        """The checkpoint, or what comes with kpose."""
        return SHIPPED_WEIGHTS / "bird" if self.checkpoint is None else self.checkpoint

    @property
    def checkpoint_files(self) -> list[Path]:
        """Files that the checkpoint consists of; none if there is none."""
        path = self.source
        return sorted(entry for entry in (path.iterdir() if path.is_dir() else [path]) if entry.is_file())

    def load_predictor(self, *, find: bool, texture_size: int | None = None) -> "Predictor":
        """Load the checkpoint."""
        from kpose.inference import Predictor

        named = self.load_segmenter()
        segmenter: Segmenter | Literal["automatic"] | None = (named or "automatic") if find else None
        load = Predictor.from_pretrained if self.source.is_dir() else Predictor.from_checkpoint
        return load(
            self.source,
            device=self.device,
            image_size=self.image_size,
            segmenter=segmenter,
            texture_size=texture_size,
            trusted_modules=self.trust,
        )


def learned_from(predictor: "Predictor") -> str:
    """Return what the network has learned from, to end a line with; empty if it does not know."""
    domain = predictor.network.domain
    return "" if domain is None else f" The network has learned from {domain}."


@dataclass
class Targets:
    """Options of what is followed in a video, and how.

    Args:
        box: box around an object in the first frame, in pixels; may be given several times, and numbers the objects
            from 1
        mask: mask of the first frame, with identities
        masks: folder with masks of every frame, in the order of the numbers in their names
        sam2: follow by SAM 2, and not by what is found in each frame: a folder, or a name on the Hugging Face Hub
        lwl: follow by LWL of an installed pytracking, with these parameters

    Raises:
        ValueError: If options exclude each other.
    """

    box: list[Box] = field(default_factory=list)
    mask: Path | None = None
    masks: Path | None = None
    sam2: str | None = None
    lwl: str | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        if sum((bool(self.box), self.mask is not None, self.masks is not None)) > 1:
            raise ValueError("--box, --mask and --masks exclude each other; give one of them")
        if self.sam2 is not None and self.lwl is not None:
            raise ValueError("--sam2 and --lwl exclude each other; give one of them")
        if (self.sam2 is not None or self.lwl is not None) and not (self.box or self.mask):
            raise ValueError("--sam2 and --lwl need a --box or --mask in the first frame")

    @property
    def looks(self) -> bool:
        """Whether objects are looked for in every frame."""
        return self.masks is None and self.sam2 is None and self.lwl is None

    def load_tracker(self, networks: Networks, segmenter: "Segmenter | None") -> "Tracker[Any]":
        """Load what follows the objects that a segmenter finds."""
        from kpose.video import DiskTracker, LWLTracker, OverlapTracker, Sam2Tracker, read_mask_folder

        if self.masks is not None:
            return DiskTracker(read_mask_folder(self.masks))
        targets: dict[int, Any] = {number + 1: tuple(box) for number, box in enumerate(self.box)}
        if self.mask is not None:
            targets = _objects(self.mask)
        if self.sam2 is not None:
            return Sam2Tracker.from_pretrained(self.sam2, targets, device=networks.device)
        if self.lwl is not None:
            return LWLTracker(targets, parameters=self.lwl or None, device=networks.device)
        if segmenter is None:
            raise ValueError(
                "kpose video needs something that finds the objects in every frame; nothing here knows their "
                "category. Name a model by --segmenter and --label, or give --masks."
            )
        return OverlapTracker(targets, segmenter=segmenter)


def _objects(mask: Path) -> dict[int, Any]:
    """Return the pixels of each object, by its identity."""
    import torch

    from kpose.data import read_identities

    identities = torch.from_numpy(read_identities(mask))
    found = {int(number): identities == number for number in identities.unique() if number}  # type: ignore[no-untyped-call]
    if not found:
        raise ValueError(f"A mask needs at least one pixel of an object; {mask} has none. Leave it out.")
    return found
