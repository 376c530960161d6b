import json
from pathlib import Path

import pytest

from kpose.visualization import from_pillow

from ablation_markdown import ablations_markdown
from markdown import table1_markdown
from page import refreshed_page
from plot import draw_table1

PAGES = sorted((Path(__file__).parents[3] / "docs").glob("*.md"))


def scores(angle, iou):
    return {"angle_deg": angle, "iou": iou, "step_ms": 10.4}


FIGURES = {
    "table": "table1",
    "origin": {
        "command": "python table1.py --data cub",
        "version": "0.1.0",
        "commit": "abc1234",
        "date": "2026-01-31",
        "hardware": "2 CPU cores",
        "python": "3.11.2",
        "torch": "2.13.0",
    },
    "data": {
        "module": "CUBDataModule",
        "train_images": 1211,
        "test_images": 551,
        "test_split": "val",
        "image_size": 224,
    },
    "settings": {
        "pose": {
            "epochs": 12,
            "batch_size": 32,
            "learning_rate": 2e-3,
            "weight_decay": 0.05,
            "feature_dropout": 0.3,
            "cached_views": 4,
        }
    },
    "searched_cameras": {"best_deg": 85.2, "top4_deg": 45.8, "best_of_40_deg": 18.9},
    "chosen_cameras": None,
    "cameras": {"best_deg": 49.3, "top4_deg": 34.1, "best_of_40_deg": 18.9},
    "heads": {
        "svd": {
            "class": "ProcrustesHead",
            "paper": {"iou": 0.58, "angle_deg": 50.8},
            "mean": scores(43.46, 0.608),
            "spread": scores(0.54, 0.004),
            "seeds": {"0": scores(43.0, 0.604), "1": scores(43.92, 0.612)},
        },
        "mine": {
            "class": "mine.Head",
            "paper": None,
            "mean": scores(40.0, 0.6),
            "spread": scores(0.0, 0.0),
            "seeds": {"0": scores(40.0, 0.6), "1": scores(40.0, 0.6)},
        },
    },
}


def test_the_text_has_our_figures_beside_the_papers():
    text = table1_markdown(FIGURES)
    assert "| head | mean, deg | IoU | paper: deg | paper: IoU |" in text
    assert "| SVD | 43.5 ± 0.5 | 0.608 ± 0.004 | 50.8 | 0.58 |" in text
    assert "| mine | 40.0 ± 0.0 | 0.600 ± 0.000 |  |  |" in text
    assert "| trained on | 49.3° | 34.1° | 18.9° |" in text
    assert "| SVD | 49.3 | 43.5 ± 0.5 | -5.8 |" in text
    assert "| SVD | 10 ± 10 |" in text
    for part in ("1,211 training and 551 held-out images", "12 epochs, batches of 32", "commit abc1234", "2 seeds"):
        assert part in text, part


def test_data_without_true_cameras_has_no_angles():
    heads = {
        name: {**head, "mean": {"iou": 0.6}, "spread": None, "seeds": {"0": {"iou": 0.6}}}
        for name, head in FIGURES["heads"].items()
    }
    text = table1_markdown({**FIGURES, "cameras": None, "searched_cameras": None, "heads": heads})
    assert "| SVD | 0.600 | 50.8 | 0.58 |" in text
    assert "One seed." in text
    assert "Where the error comes from" not in text


def test_a_cost_that_was_not_measured_is_told():
    mine = FIGURES["heads"]["mine"]
    without = {key: {k: v for k, v in mine[key].items() if k != "step_ms"} for key in ("mean", "spread")}
    text = table1_markdown({**FIGURES, "heads": {**FIGURES["heads"], "mine": {**mine, **without}}})
    assert "| SVD | 10 ± 10 |\n| mine | not measured |\n" in text


def test_blocks_of_a_page_are_written_anew_and_the_rest_is_left(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "a.json").write_text(json.dumps(FIGURES))
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n<!-- figures: results/a.json -->\nold\n<!-- end of figures -->\n\nText.\n")
    text = refreshed_page(page)
    assert text.startswith("# Title\n\n<!-- figures: results/a.json -->\n\n| head |")
    assert text.endswith("<!-- end of figures -->\n\nText.\n")
    assert "old" not in text
    page.write_text(text)
    assert refreshed_page(page) == text
    (tmp_path / "results" / "a.json").write_text('{"table": "table9"}')
    with pytest.raises(ValueError, match=r"needs figures of ablations or table1.*holds 'table9'"):
        refreshed_page(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_figures_of_a_page_are_up_to_date(page):
    assert refreshed_page(page) == page.read_text(encoding="utf-8")


def test_pages_have_figures():
    pages = [page.name for page in PAGES if "<!-- figures: " in page.read_text(encoding="utf-8")]
    assert pages == ["ablations.md", "results.md"]


def test_the_plot_shows_every_head(tmp_path):
    pytest.importorskip("matplotlib")
    from PIL import Image

    draw_table1(FIGURES, tmp_path / "new" / "table1.png")
    drawn = from_pillow(Image.open(tmp_path / "new" / "table1.png"))
    assert drawn.shape[-1] > 600
    orange = (drawn[0] > 0.8) & (drawn[2] < 0.1)
    assert orange[:, : drawn.shape[-1] // 2].any()
    assert orange[:, drawn.shape[-1] // 2 :].any()


def test_ablations_give_means_and_spreads_over_seeds():
    seeds = {"0": {"angle_deg": 20.0, "iou": 0.5}, "1": {"angle_deg": 24.0, "iou": 0.7}}
    groups = {"trained": {"default": seeds, "other": {"0": {"angle_deg": 30.0, "iou": 0.25}}}}
    text = ablations_markdown({"groups": groups, "origin": FIGURES["origin"], "notes": ["One note."]})
    assert "| trained | seeds | mean, deg | IoU |" in text
    assert "| default | 2 | 22.0 ± 2.8 | 0.600 ± 0.141 |" in text
    assert "| other | 1 | 30.0 | 0.250 |" in text
    assert "- One note.\n- kpose 0.1.0, commit abc1234" in text
