"""OHIF in a browser, as a reader of images uses it: open a series, step through it, read what is written.

Positions come back in the study's own terms: the pixel of the CT, and the number of the slice.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Locator, Page
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

from tests.conftest import wait_for

SCREEN: tuple[int, int] = (1920, 1080)
"""The smallest screen a reading room has; on a narrower one labels run out of the picture."""
SMALL_SCREEN: tuple[int, int] = (1360, 840)
"""Draws twice as fast, for what is not read as text."""
LOAD_LIMIT_S = 90
"""A browser without a graphics card on two busy cores needs up to 20 s for the first image."""
CLICK_LIMIT_S = 10
SKIP_TOUR = "try { localStorage.setItem('shownTours', '[\"basicViewerTour\"]') } catch {}"
READ_LABELS = "texts => texts.map(text => [...text.querySelectorAll('tspan')].map(line => line.textContent))"
COLOUR_TOLERANCE = 12
"""Outlines are blended with the image at their edges only."""


@dataclass(frozen=True, slots=True)
class Box:
    """Smallest and largest (column, row) of something drawn, in pixels of the CT; the first pixel's centre is 0."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @property
    def centre(self) -> NDArray[np.float64]:
        """Middle of the box."""
        return (self.low + self.high) / 2


class Viewer:
    """One page of the browser with one study."""

    def __init__(
        self, browser: Browser, url: str, study_instance_uid: str, artefacts: Path, screen: tuple[int, int] = SCREEN
    ) -> None:
        width, height = screen
        self.page: Page = browser.new_page(viewport={"width": width, "height": height})
        self.page.set_default_timeout(LOAD_LIMIT_S * 1000)
        self.problems: list[str] = []
        self._artefacts = artefacts
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.add_init_script(SKIP_TOUR)
        self.page.goto(f"{url}/viewer?StudyInstanceUIDs={study_instance_uid}")
        self.wait_for_slice()

    def open(self, series_description: str) -> None:
        """Put a series into the viewport; the list moves while it fills, and a double click may miss."""
        listed = self.page.locator("[data-cy^=study-browser-thumbnail]", has_text=series_description)
        is_shown = listed.locator(".bg-highlight")

        def try_once() -> bool:
            listed.dblclick()
            with suppress(PlaywrightTimeoutError):
                is_shown.first.wait_for(timeout=CLICK_LIMIT_S * 1000)
            return is_shown.count() > 0

        wait_for(try_once, LOAD_LIMIT_S, f"{series_description} to open")

    def series(self) -> list[str]:
        """Return the descriptions of the listed series."""
        return self.page.locator("[data-cy=series-description-label]").all_inner_texts()

    def wait_for_slice(self, number: int | None = None) -> None:
        """Wait until a slice, or the one with an Instance Number, is shown."""
        text = "I:" if number is None else f"I:{number} ("
        self.page.locator("[data-cy=viewport-overlay-bottom-right]", has_text=text).wait_for()

    def labels(self) -> list[list[str]]:
        """Return the lines of every text on the image."""
        lines: list[list[str]] = self.page.locator("svg.svg-layer text").evaluate_all(READ_LABELS)
        return lines

    def wait_for_label(self, line: str) -> list[str]:
        """Wait until a text with this line is on the image; return all its lines."""
        found = wait_for(lambda: [one for one in self.labels() if line in one], LOAD_LIMIT_S, f"the label {line!r}")
        return list(found[0])

    def are_labels_inside(self) -> bool:
        """Whether every text on the image lies inside the viewport."""
        frame = self._canvas.bounding_box()
        boxes = [text.bounding_box() for text in self.page.locator("svg.svg-layer text").all()]
        return all(
            box and frame and frame["x"] <= box["x"] and box["x"] + box["width"] <= frame["x"] + frame["width"]
            for box in boxes
        )

    def next_measurement(self) -> None:
        """Press the arrow that leads to the next one."""
        self.page.locator("[data-cy=viewport-action-arrows-right]").click()

    def outline_boxes(self, shape: tuple[int, int]) -> list[Box]:
        """Return the boxes of the contours on the image. ``shape`` is the CT's (rows, columns)."""
        boxes = []
        for line in self.page.locator("svg.svg-layer polyline").all():
            numbers = (line.get_attribute("points") or "").replace(",", " ").split()
            points = np.array(numbers, float).reshape(-1, 2)
            boxes.append(self._box(points, shape))
        return boxes

    def coloured_box(self, rgb: Sequence[int], shape: tuple[int, int]) -> Box | None:
        """Return the box of everything in one colour, or None where nothing has it."""
        difference = np.abs(self.picture().astype(int) - np.array(rgb)).max(axis=2)
        rows, columns = np.nonzero(difference <= COLOUR_TOLERANCE)
        if len(rows) == 0:
            return None
        return self._box(np.stack([columns, rows], axis=1).astype(float) + 0.5, shape)

    def slice_number(self) -> int:
        """Return the Instance Number of the shown slice."""
        words = self.page.locator("[data-cy=viewport-overlay-bottom-right]").inner_text()
        return int(words.split("I:")[1].split("(")[0])

    def open_segmentation(self, series_description: str) -> None:
        """Put a segmentation over its CT and open the list of its segments."""
        self.open(series_description)
        self.page.get_by_role("button", name="Yes", exact=True).click()
        self.page.locator("[data-cy=panelSegmentation-btn]").click()
        self.page.locator("[data-cy=data-row-title]").first.wait_for()

    def segment_names(self) -> list[str]:
        """Return the listed segments."""
        return self.page.locator("[data-cy=data-row-title]").all_inner_texts()

    def go_to_segment(self, name: str) -> None:
        """Jump to the centre of a segment, and take the pointer away from it."""
        self.page.locator("[data-cy=data-row]", has_text=name).click()
        self.page.mouse.move(0, 0)

    def voxel_count(self, name: str) -> int:
        """Return how many voxels the viewer counts in a segment; it says so under the pointer, once it has counted."""
        card = self.page.locator("[data-radix-popper-content-wrapper]", has_text="Voxel Count")

        def is_told() -> bool:
            self.page.mouse.move(0, 0)
            self.page.locator("[data-cy=data-row]", has_text=name).hover()
            with suppress(PlaywrightTimeoutError):
                card.wait_for(timeout=CLICK_LIMIT_S * 1000)
            return card.count() > 0

        wait_for(is_told, LOAD_LIMIT_S, f"the voxels of {name} to be counted")
        lines = card.inner_text().split("\n")
        assert lines[0] == name
        return int(lines[lines.index("Voxel Count") + 1])

    def left_marker(self) -> str:
        """Return the letter of the patient's side at the left edge of the image."""
        return self.page.locator(".left-mid").inner_text().strip()

    def picture(self) -> NDArray[np.uint8]:
        """Return the image as drawn: (row, column, 3) uint8, without what is written over it."""
        bare = ".svg-layer, [data-radix-popper-content-wrapper] { visibility: hidden }"
        return _array(self._canvas.screenshot(style=bare))

    def screen(self) -> NDArray[np.uint8]:
        """Return the whole screen as (row, column, 3) uint8."""
        return _array(self.page.screenshot())

    def fetch(self, url: str) -> bytes:
        """Return what the page got from an address."""
        return self.page.request.get(url).body()

    def keep(self, name: str) -> None:
        """Keep a picture of the screen once it has come to rest."""
        before = np.zeros(0, np.uint8)

        def is_at_rest() -> bool:
            nonlocal before
            now = self.screen()
            is_same, before = np.array_equal(now, before), now
            return is_same

        wait_for(is_at_rest, LOAD_LIMIT_S, "the screen to come to rest")
        Image.fromarray(before).save(self._artefacts / f"{name}.png", optimize=True)

    @property
    def _canvas(self) -> Locator:
        return self.page.locator("[data-cy=viewport-pane] canvas.cornerstone-canvas")

    def _box(self, points: NDArray[np.float64], shape: tuple[int, int]) -> Box:
        """Turn (x, y) on the canvas into pixels of an image that fills the canvas from top to bottom."""
        frame = self._canvas.bounding_box()
        assert frame is not None
        size = np.array([frame["width"], frame["height"]])
        per_pixel = min(size / np.array(shape[::-1]))
        pixels = (points - size / 2) / per_pixel + (np.array(shape[::-1]) - 1) / 2
        return Box(pixels.min(axis=0), pixels.max(axis=0))


def _array(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(BytesIO(png)).convert("RGB"))
