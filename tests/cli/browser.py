"""The system's Chromium, headless, for the pages that commands write and serve."""

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Locator, Page, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium on the path to open the page with"
)


@contextmanager
def open_browser() -> Iterator[tuple[Page, list[str], list[str]]]:
    """Open a page; list what it reports as errors, and what it asks for."""
    errors: list[str] = []
    asked_for: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1000, "height": 700})
        page.set_default_timeout(120_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked_for.append(request.url))
        yield page, errors, asked_for
        browser.close()


def pixels(place: Locator) -> NDArray[np.int64]:
    """Return what an element shows, RGB in [0, 255]."""
    return np.asarray(Image.open(io.BytesIO(place.screenshot())).convert("RGB")).astype(int)
