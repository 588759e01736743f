"""Chromium without a window. `python -m tests.browser` takes the picture of TensorBoard, results/dashboard.png."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab.tensorboard import server


@contextlib.contextmanager
def opened(width: int = 1500, height: int = 1400) -> Iterator[Any]:
    """Selenium's driver of a browser with a new profile, whose window has these sides in pixels."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-background-networking", "hide-scrollbars"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as profile:
        options.add_argument(f"--user-data-dir={profile}")
        options.add_argument(f"--window-size={width},{height}")
        with webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver"))) as browser:
            yield browser


def picture(browser: Any, address: str) -> bytes:
    """A PNG of what a browser shows of an address, once it has stopped changing or a minute has passed."""
    browser.get(address)
    before = b""
    for _ in range(20):
        time.sleep(3)
        now: bytes = browser.get_screenshot_as_png()
        if now == before:
            break
        before = now
    return now


if __name__ == "__main__":
    with opened(1400, 1080) as browser:
        shown = server.serve_newest(["optimizers"], Path("logs"), print, reference=True)
        Path("results/dashboard.png").write_bytes(picture(browser, shown))
