"""The adapter of SAM 2 on transformers' own model, tiny and untrained; what needs torchvision is replaced."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate
from video.conftest import bird_box

from kpose.video import Frame, Sam2Tracker, sam2
from kpose.visualization import from_pillow

transformers = pytest.importorskip("transformers", minversion="4.56", reason="this transformers has no SAM 2")
SIDE, WIDTH = 128, 128
TARGETS = {1: (5.0, 5.0, 20.0, 20.0), 4: torch.zeros(48, 64).index_fill(0, torch.arange(10, 30), 1.0)}


def tiny_model() -> Any:
    backbone = {
        "model_type": "sam2_hiera_det_model", "image_size": [SIDE, SIDE], "hidden_size": 8,
        "embed_dim_per_stage": [8, 16, 32, 64], "num_attention_heads_per_stage": [1, 1, 2, 2],
        "blocks_per_stage": [1, 1, 2, 1], "global_attention_blocks": [3], "window_size_per_stage": [8, 4, 4, 4],
    }  # fmt: skip
    vision = {
        "backbone_config": backbone, "backbone_channel_list": [64, 32, 16, 8], "fpn_hidden_size": WIDTH,
        "backbone_feature_sizes": [[SIDE // k, SIDE // k] for k in (4, 8, 16)],
    }  # fmt: skip
    decoder = {"hidden_size": WIDTH, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 32}
    config = transformers.Sam2VideoConfig(
        vision_config=vision, prompt_encoder_config={"hidden_size": WIDTH, "image_size": SIDE},
        mask_decoder_config=decoder, image_size=SIDE, memory_attention_hidden_size=WIDTH,
        memory_attention_num_layers=1, memory_attention_feed_forward_hidden_size=32,
        memory_attention_rope_feat_sizes=[SIDE // 16, SIDE // 16], memory_encoder_hidden_size=WIDTH,
        memory_encoder_output_channels=64, mask_downsampler_embed_dim=WIDTH, memory_fuser_embed_dim=WIDTH,
        memory_fuser_intermediate_dim=32, memory_fuser_num_layers=1,
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.Sam2VideoModel(config)


class Processor(transformers.Sam2VideoProcessor):  # type: ignore[misc, name-defined]
    """Transformers' processor without its picture part, which needs torchvision."""

    def __init__(self) -> None:
        self.target_size, self.point_pad_value, self.image_processor = SIDE, -10, self

    def __call__(self, images=None, device=None, return_tensors=None, **prompts):
        if images is None:
            return super().__call__(return_tensors=return_tensors, **prompts)
        pixels = from_pillow(images.resize((SIDE, SIDE)))[None]
        return SimpleNamespace(pixel_values=pixels, original_sizes=torch.tensor([[images.height, images.width]]))

    def post_process_masks(self, masks, original_sizes, binarize):
        assert not binarize
        size = tuple(original_sizes[0].tolist())
        return [interpolate(mask, size, mode="bilinear", align_corners=False) for mask in masks]


def follow(count: int) -> tuple[list[list[torch.Tensor]], Any]:
    tracker = Sam2Tracker(tiny_model(), Processor(), TARGETS)
    state, masks = tracker.start(), []
    for number in range(count):
        picture = Image.new("RGB", (64, 48), (9 * number, 20, 30))
        tracks, state = tracker.step(state, Frame(number, 0.0, picture))
        assert [track.identity for track in tracks] == [1, 4]
        masks.append([track.mask for track in tracks if track.mask is not None])
    return masks, state


def test_a_mask_is_kept_and_memory_stays_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    forgetful = "_MEMORY"
    monkeypatch.setattr(sam2, forgetful, 18)
    masks, state = follow(24)
    assert torch.equal(masks[0][1], TARGETS[4] > 0)  # type: ignore[operator]
    assert len(state.inner.processed_frames) <= 19
    assert all(len(kept["non_cond_frame_outputs"]) <= 19 for kept in state.inner.output_dict_per_obj.values())
    monkeypatch.setattr(sam2, forgetful, 1000)
    everything, _ = follow(24)
    for some, others in zip(masks, everything, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


def test_frames_of_another_size_are_refused() -> None:
    tracker = Sam2Tracker(tiny_model(), Processor(), {1: (5.0, 5.0, 20.0, 20.0)})
    _, state = tracker.step(tracker.start(), Frame(0, 0.0, Image.new("RGB", (64, 48))))
    with pytest.raises(ValueError, match="one size"):
        tracker.step(state, Frame(1, 0.0, Image.new("RGB", (48, 64))))


def test_a_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"^There is no folder /nowhere\."):
        Sam2Tracker.from_pretrained("/nowhere", TARGETS)


def test_sam2_is_asked_for_by_name_only(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got none"):
        Sam2Tracker(torch.nn.Linear(1, 1), None, {})
    with pytest.raises((OSError, ModuleNotFoundError)):
        Sam2Tracker.from_pretrained(str(tmp_path), {1: bird_box(0)})
