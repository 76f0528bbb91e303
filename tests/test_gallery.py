"""The page of `diffir evaluate --report`, looked at through a browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from diffir_cli.evaluation.html import Gallery
from tests.conftest import noise_image, run_cli, succeeded

_NAME = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    chrome, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chrome is None or driver is None:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chrome
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('browser')}")
    running = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield running
    running.quit()


def _columns(browser: webdriver.Chrome, column: int) -> list[str]:
    cells = browser.find_elements(By.CSS_SELECTOR, f"tbody td:nth-child({column})")
    return [cell.text for cell in cells]


def test_the_page_shows_each_image_behind_a_slider_and_sorts_its_table(
    browser: webdriver.Chrome, photos: Path, s2_file: Path, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    succeeded(run_cli("evaluate", "--gt", photos, "-w", s2_file, "--report", page))
    browser.get(page.as_uri())
    assert _columns(browser, 1) == ["0.png", "1.png", "2.png"]
    pictures = browser.find_elements(By.CSS_SELECTOR, "figure img")
    assert len(pictures) == 6
    for picture in pictures:
        assert browser.execute_script("return arguments[0].naturalWidth", picture) == 192
    slider = browser.find_element(By.CSS_SELECTOR, "input[type=range]")
    stage = slider.find_element(By.XPATH, "..")
    for _ in range(3):
        slider.send_keys(Keys.ARROW_RIGHT)
    cut = "return getComputedStyle(arguments[0]).getPropertyValue('--cut')"
    assert browser.execute_script(cut, stage) == "50.3%"
    shown = "return getComputedStyle(arguments[0]).clipPath"
    upper = stage.find_element(By.CSS_SELECTOR, ".over")
    # Half of it and a little more is seen: the rest is cut away on the right.
    assert browser.execute_script(shown, upper) == "inset(0px 49.7% 0px 0px)"
    button = browser.find_elements(By.CSS_SELECTOR, "figure button")[1]
    button.click()
    tags = browser.find_elements(By.CSS_SELECTOR, "figure:first-of-type .tag")
    assert [tag.text for tag in tags] == ["after", "truth"]
    scores = _columns(browser, 2)
    head = browser.find_elements(By.CSS_SELECTOR, "th button")[1]
    head.click()
    assert _columns(browser, 2) == sorted(scores, key=float)
    head.click()
    assert _columns(browser, 2) == sorted(scores, key=float, reverse=True)


def test_a_hostile_name_stays_text(browser: webdriver.Chrome, tmp_path: Path) -> None:
    gallery = Gallery("names", "a test")
    gallery.add(_NAME, {"after": noise_image(16, 16), "truth": noise_image(16, 16)}, {"psnr": 1.0})
    (tmp_path / "page.html").write_text(gallery.page(), encoding="utf-8")
    browser.get((tmp_path / "page.html").as_uri())
    assert _columns(browser, 1) == [_NAME]
    assert not browser.find_elements(By.CSS_SELECTOR, "img[onerror]")


def test_the_page_needs_nothing_beside_it(photos: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    succeeded(run_cli("evaluate", photos, photos, "--report", page))
    text = page.read_text(encoding="utf-8")
    assert "http" not in text and 'src="' not in text


def test_large_images_are_shrunk_for_the_page() -> None:
    gallery = Gallery("large", "")
    gallery.add("wide", {"after": noise_image(40, 3000)}, {"psnr": 30.0})
    small = Gallery("small", "")
    small.add("wide", {"after": noise_image(14, 1024)}, {"psnr": 30.0})
    assert abs(len(gallery.page()) - len(small.page())) < 20_000
