"""Train the segmentation network that ships with kpose: whole photographs and masks of birds in, masks out.

    python examples/train_bird/train_masks.py --root $KPOSE_CUB_ROOT \
        --weights efficientnet-lite0.safetensors --out masks

Run the same command again to go on after a kill. The folder has the network, ``masks.safetensors``, its checkpoint
and ``scores.json``: the mean IoU on windows of the split `val`.
"""

import json
import random
from pathlib import Path

import pytorch_lightning as pl
import torch
from jsonargparse import auto_cli
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader
from windows import WindowDataset

from kpose._files import write_text
from kpose.backbones import EfficientNetLite
from kpose.geometry import mask_iou
from kpose.inference.segmentation import MaskNetwork
from kpose.pipeline import fast_precision


class MaskTask(pl.LightningModule):
    """Learn masks by cross entropy and soft overlap.

    Args:
        network: What is trained.
        learning_rate: Peak of one cycle for the decoder.
        backbone_lr: Peak for the backbone.
    """

    def __init__(self, network: MaskNetwork, learning_rate: float, backbone_lr: float) -> None:
        super().__init__()
        self.network = network
        self.rates = learning_rate, backbone_lr

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Score a batch."""
        image, mask = batch
        logits = self.network(image).float()
        overlap = mask_iou(logits.sigmoid(), mask).mean()
        loss: Tensor = binary_cross_entropy_with_logits(logits, mask) + (1 - overlap)
        self.log_dict({"loss": loss, "iou": overlap}, prog_bar=True)
        return loss

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Measure the overlap of masks cut at one half."""
        image, mask = batch
        self.log("iou", mask_iou(self.network(image).sigmoid(), mask, soft=False).mean(), batch_size=len(image))

    def configure_optimizers(self) -> dict[str, object]:
        """Build AdamW with one cycle, slower for the backbone."""
        backbone = {id(p) for p in self.network.backbone.parameters()}
        trained = [p for p in self.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if id(p) not in backbone]},
            {"params": [p for p in trained if id(p) in backbone]},
        ]
        optimizer = AdamW(groups, weight_decay=0.02)
        schedule = OneCycleLR(optimizer, list(self.rates), int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def main(
    root: Path,
    weights: Path,
    out: Path,
    size: int = 256,
    epochs: int = 5,
    batch_size: int = 32,
    learning_rate: float = 2e-3,
    backbone_lr: float = 5e-4,
    seed: int = 0,
) -> None:
    """Train, score and write the network.

    Args:
        root: Folder in CUB's layout.
        weights: Weights of the backbone (see ``convert_weights.py``).
        out: Folder of the results.
        size: Side of the windows in pixels.
        epochs: Passes over the photographs.
        batch_size: Windows of a batch.
        learning_rate: Peak for the decoder.
        backbone_lr: Peak for the backbone.
        seed: Of everything.
    """
    pl.seed_everything(seed)
    network = MaskNetwork(EfficientNetLite((4, 8, 16, 32), weights=weights, frozen="early"))
    task = MaskTask(network.to(memory_format=torch.channels_last), learning_rate, backbone_lr)
    keep = ModelCheckpoint(out, "masks", every_n_train_steps=50, save_top_k=1, enable_version_counter=False)
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu" if not torch.cuda.is_available() else "auto",
        devices=1,
        precision=fast_precision(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
        logger=False,
        callbacks=[keep],
        enable_model_summary=False,
    )
    loader = DataLoader(WindowDataset(root, "train", size), batch_size, shuffle=True, drop_last=True)
    last = out / "masks.ckpt"
    trainer.fit(task, loader, ckpt_path=last if last.exists() else None, weights_only=True)
    random.seed(0)
    (scores,) = trainer.test(task, DataLoader(WindowDataset(root, "val", size), batch_size), verbose=False)
    write_text(out / "scores.json", json.dumps({"iou_of_windows": scores["iou"]}))


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
