"""TensorBoard, served, in a real browser: each page shows the variants by name, and none is in error."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from selenium import webdriver

from recipes import sequential

# All text of a page, also in shadow roots and frames, where TensorBoard keeps most of it.
TEXT = """
function text(node) {
  if (node.nodeType === Node.TEXT_NODE) return node.textContent;
  if (['SCRIPT', 'STYLE'].includes(node.tagName)) return '';
  const inner = node.tagName === 'IFRAME' ? [node.contentDocument.body] : [];
  return [node.shadowRoot, ...inner, ...node.childNodes].filter(Boolean).map(text).join(' ');
}
return text(document.body);
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module", autouse=True)
def a_browser_is_installed():
    """A newcomer's tests pass without a browser; where everything must be tested, its absence is a failure."""
    if shutil.which("chromedriver"):
        return
    sentence = "This test needs a browser: install Debian's packages chromium and chromium-driver."
    if os.environ.get("CI") == "true":
        pytest.fail(sentence)
    pytest.skip(sentence)


@pytest.fixture(scope="module")
def address(smoke):
    done, logs = smoke("sequential")
    assert done.returncode == 0, done.stdout
    port = free_port()
    (folder,) = logs.iterdir()
    start = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host", "127.0.0.1"]
    server = subprocess.Popen([*start, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            break
        except OSError:
            time.sleep(0.3)
    yield url
    server.terminate()
    server.wait()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = shutil.which("chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    profile = tmp_path_factory.mktemp("browser")
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-background-networking", "window-size=1500,1400"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield browser
    browser.quit()


@pytest.mark.parametrize(
    ("page", "shown"),
    [
        ("timeseries", ["epoch_accuracy", "learning_rate"]),
        ("custom_scalars", ["Variants over one another"]),
        ("hparams", ["variant", "test_accuracy"]),
    ],
)
def test_a_page_shows_the_variants_by_name(address, browser, page, shown):
    browser.get("about:blank")  # A new address after the # alone would not load the page anew.
    browser.get(f"{address}#{page}")
    wanted = [*shown, *sequential.VARIANTS]
    deadline = time.monotonic() + 90
    text = ""
    while time.monotonic() < deadline and not all(word in text for word in wanted):
        time.sleep(0.5)
        text = browser.execute_script(TEXT)
    assert [word for word in wanted if word not in text] == []
    for complaint in ("No dashboards are active", "No scalar data was found", "Failed to fetch", "Error:"):
        assert complaint not in text
    severe = [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert [line for line in severe if "font" not in line.lower() and "favicon" not in line] == []
