"""SAM 2 as a tracker, through transformers; nothing is imported before it is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kpose._files import model_source
from kpose.video.frames import Frame
from kpose.video.tracker import Target, Track, Tracker, mask_of_target

__all__ = ["Sam2Tracker"]

_MEMORY = 32  # frames that are kept; the model looks back at 16 at most


@dataclass
class _Session:
    inner: Any = None
    count: int = 0
    size: tuple[int, int] | None = None


class Sam2Tracker(Tracker[_Session]):
    """Follow objects with SAM 2 from a box or mask in the first frame.

    Memory stays constant: what the model no longer looks back at is dropped.

    Args:
        model: ``Sam2VideoModel`` of transformers.
        processor: Its ``Sam2VideoProcessor``.
        targets: Box or mask of each object in the first frame, by identity.

    Raises:
        ValueError: If there are no targets.

    Source:
        Ravi et al., SAM 2: Segment Anything in Images and Videos, 2024.

    Example:
        With weights that are in the cache of the Hugging Face Hub, or from there::

            tracker = Sam2Tracker.from_pretrained("facebook/sam2.1-hiera-tiny", {1: (38, 77, 198, 193)})
            for found in VideoPredictor(kpose.load("bird"), tracker)(open_frames("bird.mp4")):
                print(found.objects)
    """

    def __init__(self, model: Any, processor: Any, targets: Mapping[int, Target]) -> None:  # noqa: ANN401
        if not targets:
            raise ValueError("Sam2Tracker needs a box or mask for each object in the first frame; got none.")
        self.model = model.eval()
        self.processor = processor
        self.targets = dict(targets)

    @classmethod
    def from_pretrained(
        cls, name: str, targets: Mapping[int, Target], *, device: str | torch.device = "cpu"
    ) -> "Sam2Tracker":
        """Load a model by its folder, or by its name on the Hugging Face Hub.

        Args:
            name: Folder, or a name such as ``facebook/sam2.1-hiera-tiny``.
            targets: Box or mask of each object in the first frame, by identity.
            device: Where the model runs.

        Returns:
            Tracker.

        Raises:
            ModuleNotFoundError: If transformers is too old for SAM 2, or torchvision, which its pictures need, is
                not installed.
            OSError: If there is no such model.
        """
        name = model_source(name)
        try:
            from transformers import Sam2VideoModel, Sam2VideoProcessor

            processor = Sam2VideoProcessor.from_pretrained(name)
        except ImportError as error:
            raise ModuleNotFoundError(
                "Sam2Tracker needs transformers 4.56 or later, and torchvision; one of them is not installed. "
                "Run `pip install -U transformers torchvision`, or take another tracker."
            ) from error
        model: Any = Sam2VideoModel.from_pretrained(name)
        return cls(model.to(device), processor, targets)

    def start(self) -> _Session:
        """Return the state before the first frame."""
        return _Session()

    @torch.no_grad()
    def step(self, state: _Session, frame: Frame) -> tuple[list[Track], _Session]:
        """Follow the objects into the next frame; see `Tracker.step`."""
        size = frame.image.height, frame.image.width
        if state.size not in (None, size):
            raise ValueError(f"Sam2Tracker needs frames of one size; got {size} after {state.size}.")
        device = self.model.device
        inputs = self.processor(images=frame.image, device=device, return_tensors="pt")
        session = state.inner
        if session is None:
            session = self.processor.init_video_session(inference_device=device, dtype=self.model.dtype)
            self._prompt(session, size)
        output = self.model(inference_session=session, frame=inputs.pixel_values[0], frame_idx=state.count)
        logits = self.processor.post_process_masks(
            [output.pred_masks], original_sizes=inputs.original_sizes, binarize=False
        )[0]
        _forget(session, state.count - _MEMORY)
        masks = {identity: mask[0].cpu() > 0 for identity, mask in zip(output.object_ids, logits, strict=True)}
        tracks = [Track.of_mask(identity, masks[identity]) for identity in sorted(masks)]
        return tracks, _Session(session, state.count + 1, size)

    def _prompt(self, session: Any, size: tuple[int, int]) -> None:  # noqa: ANN401
        """Prompt the model with boxes and masks."""
        boxes = {k: target for k, target in self.targets.items() if not isinstance(target, Tensor)}
        masks = {
            k: mask_of_target(target, size) for k, target in self.targets.items() if isinstance(target, Tensor)
        }
        add = self.processor.add_inputs_to_inference_session
        if masks:
            add(inference_session=session, frame_idx=0, obj_ids=[*masks], input_masks=[*masks.values()])
        if boxes:
            corners = [[[float(number) for number in box] for box in boxes.values()]]
            add(inference_session=session, frame_idx=0, obj_ids=[*boxes], input_boxes=corners, original_size=size)
        session.obj_with_new_inputs = [*masks, *boxes]  # each call forgets the objects of the one before


def _forget(session: Any, last: int) -> None:  # noqa: ANN401
    """Drop what belongs to a frame that the model no longer looks back at; prompts are kept."""
    if last <= 0:
        return
    session.processed_frames.pop(last, None)
    for outputs in session.output_dict_per_obj.values():
        outputs["non_cond_frame_outputs"].pop(last, None)
    for tracked in session.frames_tracked_per_obj.values():
        tracked.pop(last, None)
