"""Train shape and texture for the cameras that a trained pose network predicts, and write the folder that ships.

    python examples/train_bird/train_shapes.py --root $KPOSE_CUB_ROOT --pose pose/checkpoints/last.ckpt \
        --masks masks/masks.ckpt --out bird

Run the same command again to go on after a kill. The folder has what `kpose.load` reads, in float16, and in
``training`` the features of the frozen backbone and the checkpoint.
"""

from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
from jsonargparse import auto_cli
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.optim import Adam

from kpose.backbones import EfficientNetLite
from kpose.data import CachedFeaturesDataModule, CUBDataModule
from kpose.inference.segmentation import MaskNetwork, MaskSegmenter
from kpose.network import PoseNetwork
from kpose.reconstruction import MeshReconstructor, MultiplexObjective, TextureHead
from kpose.tasks import ShapeAdaptation, one_cycle


def main(
    root: Path,
    pose: Path,
    out: Path,
    masks: Path | None = None,
    epochs: int = 3,
    batch_size: int = 32,
    learning_rate: float = 5e-4,
    views: int = 2,
    render_size: int = 64,
    mask_size: int = 256,
    seed: int = 0,
) -> None:
    """Train and write the network.

    Args:
        root: Folder in CUB's layout.
        pose: Checkpoint of ``pose.yaml``.
        out: Folder of the result.
        masks: Checkpoint of ``train_masks.py``; without it the folder holds no segmenter, and the one of ``bird``
            finds birds for it.
        epochs: Passes over the photographs.
        batch_size: Images of a batch.
        learning_rate: Peak of one cycle.
        views: Augmented views of each photograph whose features are kept.
        render_size: Side of renderings and of the pictures that they are compared with.
        mask_size: Side of the windows that the segmentation network was trained on.
        seed: Of everything.
    """
    pl.seed_everything(seed)
    trained = PoseNetwork.from_checkpoint(pose)
    assert trained.image_size is not None
    data = CUBDataModule(root, image_size=trained.image_size, batch_size=batch_size, test_split="val")
    domain, work = trained.domain or data.domain, out / "training"
    task = ShapeAdaptation(
        trained.backbone,
        lambda spec, template: trained.head,
        partial(MeshReconstructor, texture=partial(TextureHead, height=64, width=8)),
        trained.template,
        objective=partial(MultiplexObjective, mask_weight=0.0, overlap_weight=2.0),
        optimizer=partial(Adam, lr=learning_rate),
        lr_scheduler=one_cycle,
        feature_dropout=0.3,
        render_size=render_size,
    )
    features = CachedFeaturesDataModule(
        data, task.network.backbone, folder=work, views=views, picture_size=render_size
    )
    keep = ModelCheckpoint(work, "shapes", every_n_train_steps=50, save_top_k=1, enable_version_counter=False)
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu" if not torch.cuda.is_available() else "auto",
        devices=1,
        logger=False,
        callbacks=[keep],
        limit_val_batches=0,
        enable_model_summary=False,
    )
    last = work / "shapes.ckpt"
    trainer.fit(task, features, ckpt_path=last if last.exists() else None, weights_only=True)
    task.network.domain, task.network.image_size = domain, trained.image_size
    task.network.save(out, half=True)
    if masks is not None:
        _save_segmenter(masks, mask_size, out)


def _save_segmenter(checkpoint: Path, size: int, out: Path) -> None:
    segmenter = MaskSegmenter(MaskNetwork(EfficientNetLite((4, 8, 16, 32))), size=size)
    weights = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    segmenter.network.load_state_dict({name.removeprefix("network."): value for name, value in weights.items()})
    segmenter.save(out, half=True)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
