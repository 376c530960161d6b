"""No damaged file does more than give a result or one of the errors that its reader says it raises.

A few inputs for each reader at every run of the tests; ``KPOSE_FUZZ=10000`` for that many (CONTRIBUTING.md).
"""

import os
import random
import time
from pathlib import Path

import pytest
from fuzz.readers import Reader, readers

COUNT = int(os.environ.get("KPOSE_FUZZ", "40"))
LONGEST_S = 20.0  # of a shared machine; without damage, a few milliseconds
NAMES = (
    "photo", "mask", "identities", "folder", "coco", "cameras", "template", "cub", "checkpoint", "network",
    "configuration", "youtube_vos", "video", "h264",
)  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    """Return the readers, with good files of each."""
    return readers(tmp_path_factory.mktemp("good"))


@pytest.mark.filterwarnings("ignore")  # of the libraries that look into damaged files
@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_give_a_result_or_a_documented_error(
    name: str, found: dict[str, Reader], tmp_path: Path
) -> None:
    reader = found[name]
    if not reader.make:
        pytest.skip("PyAV, or the encoder that would write good files, is not installed")
    results = 0
    for number in range(COUNT):
        draw = random.Random(f"{name} {number}")
        ending = draw.choice(sorted(reader.make))
        path = tmp_path / f"file{ending}"
        path.write_bytes(reader.make[ending](draw))
        start = time.perf_counter()
        try:
            reader.read(path)
            results += 1
        except reader.errors as error:
            if not str(error).strip():
                pytest.fail(f"input {number} ({ending}) of {name} is refused without a word")
        except Exception as error:
            pytest.fail(f"input {number} ({ending}) of {name} ends in {type(error).__name__}: {error}")
        assert time.perf_counter() - start < LONGEST_S, number
        path.unlink()
        left = {entry.name for entry in tmp_path.iterdir()} - {"photo.png", "cub", "vos"}
        assert not left, f"input {number} of {name} leaves {left}"
    assert results > 0
    assert results < COUNT or not reader.errors  # else the damage is too great or too little to tell anything
