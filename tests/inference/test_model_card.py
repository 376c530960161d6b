from pathlib import Path

from kpose.backbones import TinyBackbone
from kpose.heads import QuaternionHead
from kpose.inference import Predictor
from kpose.network import PoseNetwork
from kpose.structures import Domain


def test_the_model_card_says_what_is_known_and_what_is_not(tmp_path: Path) -> None:
    predictor = Predictor(PoseNetwork(TinyBackbone(width=8), QuaternionHead), image_size=64, segmenter=None)
    predictor.save_pretrained(tmp_path, model_card_kwargs={"license": "apache-2.0"})
    card = (tmp_path / "README.md").read_text()
    assert "license: apache-2.0" in card.split("---")[1]
    assert "| crops | 64 × 64 pixels |" in card
    assert "| pose head | QuaternionHead |" in card
    assert "| training data | not stated |" in card
    assert "http" not in card
    domain = Domain("photographs of wrens", "bird", "a folder")
    known = Predictor(
        PoseNetwork(TinyBackbone(width=8), QuaternionHead, domain=domain, image_size=32), segmenter=None
    )
    known.save_pretrained(tmp_path / "wrens")
    card = (tmp_path / "wrens" / "README.md").read_text()
    assert "| training data | photographs of wrens (a folder, no labels) |" in card
    assert "| license of the weights | not stated |" in card


class OwnHead(QuaternionHead):
    pass


def test_the_model_card_names_the_modules_to_trust(tmp_path: Path) -> None:
    predictor = Predictor(PoseNetwork(TinyBackbone(width=8), OwnHead), image_size=64, segmenter=None)
    predictor.save_pretrained(tmp_path)
    assert (
        f'from_pretrained("this repository", trusted_modules=["{__name__}"])'
        in (tmp_path / "README.md").read_text()
    )
    Predictor.from_pretrained(tmp_path, trusted_modules=[__name__])
