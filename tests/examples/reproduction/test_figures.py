import json
from pathlib import Path

import pytest

from kpose.visualization import from_pillow

from figures import markdown, origin, refreshed_page
from plots import draw_table1, draw_table2

DOCS = Path(__file__).parents[3] / "docs"
PAGES = sorted(DOCS.glob("*.md"))


def scores(angle, iou):
    return {"angle_deg": angle, "iou": iou, "step_ms": 10.4}


MADE = {
    "command": "python table1.py",
    "version": "0.2.0",
    "commit": "abc1234",
    "date": "2026-01-31",
    "hardware": "2 CPU cores",
    "python": "3.11.2",
    "torch": "2.13.0",
}
TABLE1 = {
    "table": "table1",
    "origin": MADE,
    "data": {"module": "CUBDataModule", "train_images": 1211, "test_images": 551, "test_split": "val"},
    "searched_cameras": {"best_deg": 85.2, "top4_deg": 45.8, "best_of_40_deg": 18.9},
    "chosen_cameras": None,
    "cameras": {"best_deg": 49.3, "top4_deg": 34.1, "best_of_40_deg": 18.9},
    "heads": {
        "svd": {
            "paper": {"iou": 0.58, "angle_deg": 50.8},
            "mean": scores(43.46, 0.608),
            "spread": scores(0.65, 0.006),
            "seeds": {"0": scores(43.0, 0.604), "1": scores(43.92, 0.612)},
        },
        "mine": {
            "paper": None,
            "mean": scores(40.0, 0.6),
            "spread": scores(0.0, 0.0),
            "seeds": {"0": scores(40.0, 0.6), "1": scores(40.0, 0.6)},
        },
    },
}


def jaccard(mean):
    return {"jaccard_mean": mean, "jaccard_recall": 0.5, "jaccard_decay": 0.1}


TABLE2 = {
    "table": "table2",
    "origin": MADE,
    "tracker": "overlap (kpose's own segmenter)",
    "tracked": {"mean": jaccard(0.574), "sequences": {}},
    "data": [{"sequence": f"video {k}", "frames": 9, "objects": 1} for k in range(6)],
    "heads": {
        name: {
            "paper": {"jaccard_mean": 0.4, "jaccard_recall": 0.27, "jaccard_decay": 0.007}
            if name == "svd"
            else None,
            "mean": jaccard(value),
            "frames_per_s": 2.0,
            "sequences": {f"video {k}": jaccard(value) for k in range(6)},
        }
        for name, value in (("svd", 0.25), ("mine", 0.9))
    },
}


def test_folders_of_this_machine_are_left_out_of_a_command(monkeypatch):
    monkeypatch.setenv("KPOSE_CUB_ROOT", "/path/to/birds")
    words = ["python", "table1.py", "--root=/path/to/birds", "--out", "/path/to/a b", "--heads", "mine/heads.yaml"]
    words += ["--pose.epochs=3", "--name", "a b", "svd=/path/to/svd.ckpt"]
    made = origin(words)
    assert made["command"] == (
        "python table1.py --root=$KPOSE_CUB_ROOT --out 'a b' --heads mine/heads.yaml --pose.epochs=3 --name 'a b' "
        "svd=svd.ckpt"
    )
    assert made["commit"] is None or len(made["commit"]) >= 7


def test_table1_has_our_figures_beside_the_papers():
    text = markdown(TABLE1)
    assert "| head | mean angle, ° | IoU | paper: mean angle, ° | paper: IoU |" in text
    assert "| SVD | 43.5 ± 0.7 | 0.608 ± 0.006 | 50.8 | 0.58 |" in text
    assert "| mine | 40.0 ± 0.0 | 0.600 ± 0.000 |  |  |" in text
    assert "| trained on | 49.3° | 34.1° | 18.9° |" in text
    assert "| SVD | 10 ± 0 |" in text
    assert "1,211 training and 551 held-out images" in text
    assert "commit abc1234" in text


def test_data_without_true_cameras_has_no_angles():
    heads = {name: {**head, "seeds": {"0": {"iou": 0.6}}} for name, head in TABLE1["heads"].items()}
    text = markdown({**TABLE1, "cameras": None, "searched_cameras": None, "heads": heads})
    assert "| SVD | 0.600 | 50.8 | 0.58 |" in text
    assert "true rotation" not in text


def test_table2_has_the_tracker_and_every_sequence():
    text = markdown(TABLE2)
    assert "| SVD | 0.250 | 0.500 | 0.100 | 0.40 | 0.27 | 0.007 | 2.0 |" in text
    assert "| the tracker's masks | 0.574 | 0.500 | 0.100 |" in text
    assert "| mine |" + " 0.900 |" * 6 in text
    assert "6 sequences, 54 frames" in text
    assert "Boxes from: overlap (kpose's own segmenter)" in text


def test_ablations_of_two_data_sets_are_joined_by_row():
    def ablations(module, **rows):
        return {"table": "ablations", "groups": {"trained": rows}, "notes": [f"{module}, Net."], "origin": MADE}

    two = {"0": {"angle_deg": 20.0, "iou": 0.5}, "1": {"angle_deg": 24.0, "iou": 0.7}}
    one = {"0": {"angle_deg": 30.0, "iou": 0.25}}
    alone = ablations("CUBDataModule", default=two, other=one)
    text = markdown(alone)
    assert "| varied | mean angle, ° | IoU | seeds |" in text
    assert "| default | 22.0 ± 2.8 | 0.600 ± 0.141 | 2 |" in text
    text = markdown(ablations("SyntheticBirdsDataModule", default=one), alone)
    assert "| varied | rendered birds: mean angle, ° | rendered birds: IoU | photographs: mean angle, °" in text
    assert "| default | 30.0 | 0.250 | 22.0 ± 2.8 | 0.600 ± 0.141 | 1 and 2 |" in text
    assert "| other |  |  | 30.0 | 0.250 | 1 |" in text


def test_tables_of_a_page_are_rewritten_and_the_rest_is_left(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(TABLE1))
    page = tmp_path / "page.md"
    page.write_text(
        "Marks: `<!-- figures: F -->`.\n\n<!-- figures: a.json -->\nold\n<!-- end of figures -->\n\nText.\n"
    )
    text = refreshed_page(page)
    assert text.startswith("Marks: `<!-- figures: F -->`.\n\n<!-- figures: a.json -->\n\n| head |")
    assert text.endswith("<!-- end of figures -->\n\nText.\n")
    assert "old" not in text
    page.write_text(text)
    assert refreshed_page(page) == text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tables_of_a_page_are_up_to_date(page):
    assert refreshed_page(page) == page.read_text(encoding="utf-8")


def test_all_figures_are_on_a_page():
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    files = [f"results/{path.name}" for path in DOCS.glob("results/*.json")]
    assert files
    assert all(file in text for file in files)


def color_share(path, color):
    drawn = from_pillow(_open(path))
    wanted = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    near = sum((drawn[k] - value).abs() for k, value in enumerate(wanted)) < 0.06
    return float(near.float().sum()), drawn, near


def _open(path):
    from PIL import Image

    return Image.open(path)


def test_the_plot_of_table1_has_both_scores(tmp_path):
    pytest.importorskip("matplotlib")
    draw_table1(TABLE1, tmp_path / "new" / "table1.png")
    _, drawn, orange = color_share(tmp_path / "new" / "table1.png", "#d95f02")
    assert drawn.shape[-1] > 600
    assert orange[:, : drawn.shape[-1] // 2].any()
    assert orange[:, drawn.shape[-1] // 2 :].any()


def test_the_plot_of_table2_has_a_bar_for_each_head_and_sequence(tmp_path):
    pytest.importorskip("matplotlib")
    draw_table2(TABLE2, tmp_path / "table2.png")
    orange, green = (color_share(tmp_path / "table2.png", color)[0] for color in ("#d95f02", "#1b9e77"))
    assert 2.5 < green / orange < 4.5  # 0.9 is 3.6 times as high as 0.25, and the legend has both
