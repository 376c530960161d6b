from dataclasses import replace

import numpy as np
from PIL import Image, ImageChops

from kpose.inference import Prediction
from kpose.video import Frame, ObjectPrediction, Track
from kpose.video._drawing import draw_objects, object_color, side_by_side

GRAY = (90, 90, 90)


def changed(picture: Image.Image) -> tuple[int, int, int, int] | None:
    """Return the box around what is not gray."""
    return ImageChops.difference(picture, Image.new("RGB", picture.size, GRAY)).getbbox()


def test_a_mesh_is_drawn_where_its_camera_puts_it(small_prediction: Prediction) -> None:
    frame = Frame(0, 0.0, Image.new("RGB", (96, 48), GRAY))
    box = changed(draw_objects(frame, [ObjectPrediction(Track(1), small_prediction)]))
    assert box is not None
    # Its camera maps x from -0.8 to 0.8 at 20 pixels a unit around pixel 24.
    assert abs(box[0] - 8) <= 1
    assert abs(box[2] - 40) <= 1
    assert changed(draw_objects(frame, [ObjectPrediction(Track(1), None, "hidden")])) is None


def test_the_score_stands_beside_the_mesh(small_prediction: Prediction) -> None:
    frame = Frame(0, 0.0, Image.new("RGB", (96, 48), GRAY))
    plain = draw_objects(frame, [ObjectPrediction(Track(1), small_prediction)])
    marks = []
    for score in (0.25, 0.87):
        drawn = draw_objects(frame, [ObjectPrediction(Track(1), replace(small_prediction, score=score))])
        marks.append(ImageChops.difference(drawn, plain))
        assert marks[-1].getbbox() is not None
    assert marks[0].tobytes() != marks[1].tobytes()


def test_a_large_frame_is_scaled_with_its_meshes(small_prediction: Prediction) -> None:
    frame = Frame(0, 0.0, Image.new("RGB", (96, 48), GRAY))
    drawn = draw_objects(frame, [ObjectPrediction(Track(1), small_prediction)], largest=48)
    assert drawn.size == (48, 24)
    box = changed(drawn)
    assert box is not None
    assert abs(box[0] - 4) <= 1
    assert abs(box[2] - 20) <= 1


def test_a_mesh_outside_of_the_frame_changes_nothing(small_prediction: Prediction) -> None:
    frame = Frame(0, 0.0, Image.new("RGB", (48, 48), GRAY))
    camera = small_prediction.camera
    away = replace(small_prediction, camera=camera._replace(translation=camera.translation + 500))
    assert changed(draw_objects(frame, [ObjectPrediction(Track(1), away)])) is None


def test_objects_have_colors_of_their_own() -> None:
    colors = np.array([object_color(identity) for identity in range(1, 7)])
    distances = np.linalg.norm(colors[:, None] - colors, axis=-1)
    assert distances[~np.eye(6, dtype=bool)].min() > 0.15


def test_frame_and_drawing_stand_side_by_side_with_even_sides() -> None:
    drawn = Image.new("RGB", (33, 21), (255, 0, 0))
    sheet = side_by_side(Frame(0, 0.0, Image.new("RGB", (66, 42), GRAY)), drawn)
    assert sheet.size == (64, 20)
    assert sheet.getpixel((0, 10)) == GRAY
    assert sheet.getpixel((32, 10)) == (255, 0, 0)
