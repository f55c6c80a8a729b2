"""Drives the page in a headless browser, run by test_page_browser.py with .venv-page's Python:

    python browse_page.py URL BROWSER PASSWORD FOLDER

FOLDER has the inputs; screenshots and downloads go there. Prints what was seen as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from playwright.sync_api import Page, TimeoutError, sync_playwright

# Chromium must not look outside of this machine.
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
FLAGS += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
WIDE, PHONE = {"width": 1400, "height": 900}, {"width": 390, "height": 844}
LONG = 60_000
CLIPPED = """() => [...document.querySelectorAll('label, span, button, p')].filter(
  e => e.offsetParent && e.innerText && (e.getBoundingClientRect().right > innerWidth + 1)).map(e => e.innerText.slice(0, 80))"""


def said(page: Page, where: str, text: str) -> str:
    """Waits until the element says it. Returns all that it says."""
    try:
        page.wait_for_function(
            "([id, text]) => document.querySelector(id)?.innerText.includes(text)", arg=[where, text], timeout=LONG, polling=100
        )
    except TimeoutError as error:
        raise AssertionError(f"{where} does not say {text!r}, but {page.locator(where).text_content()!r}") from error
    return page.inner_text(where)


def put(page: Page, *files: Path) -> None:
    """Uploads files in place of those that are there."""
    clear = page.locator("#gpen-files button[aria-label='Clear']")
    if clear.count():
        clear.click()
    page.set_input_files("#gpen-files input[type=file]", [str(path) for path in files])


def restored(page: Page, text: str) -> str:
    page.click("#gpen-restore")
    return said(page, "#gpen-report", text)


def main() -> None:
    url, browser, password, name = sys.argv[1:]
    folder, seen = Path(name), {}
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=FLAGS)
        context = chromium.new_context(viewport=WIDE, http_credentials={"username": "anyone", "password": password})
        page = context.new_page()
        trouble: list[str] = []
        asked: list[str] = []
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        page.wait_for_selector("#gpen-restore", timeout=LONG)
        seen["nothing"] = restored(page, "hoose")

        page.click("text=A small, damaged portrait")
        seen["example"] = said(page, "#gpen-note", "found")
        page.click("#gpen-model input")
        seen["models"] = page.locator("ul[role=listbox] li").all_inner_texts()
        page.locator("ul[role=listbox] li", has_text="GPEN-BFR-256-lite").click()
        seen["place"] = said(page, "#gpen-place", "included").strip()
        seen["portrait"] = restored(page, "restored with")
        page.wait_for_selector("#gpen-slider img", timeout=LONG)
        page.wait_for_timeout(1500)
        page.screenshot(path=str(folder / "wide.png"))
        with page.expect_download() as download:
            page.click("#gpen-results a[download]")
        download.value.save_as(folder / "portrait-restored.png")

        put(page, folder / "two ü हिन्दी.png", folder / "broken.png")
        page.click("text=Faces")
        seen["two"] = said(page, "#gpen-note", "2 faces")
        page.click("#gpen-switches label:has-text('Face 0')")
        seen["report of two"] = restored(page, "broken.png")
        with page.expect_download() as download:
            page.click("#gpen-results a[download]")
        seen["downloaded"] = download.value.suggested_filename
        download.value.save_as(folder / "two-restored.png")

        put(page, folder / "crowd.png")
        said(page, "#gpen-note", "87 faces")
        page.click("#gpen-restore")
        page.wait_for_function("() => /Face [0-9]+.87/.test(document.body.innerText)", timeout=LONG, polling=100)
        page.click("#gpen-cancel")
        seen["cancelled"] = said(page, "#gpen-report", "Cancelled before the end.")

        if (folder / "clip.mp4").exists():
            put(page, folder / "clip.mp4")
            said(page, "#gpen-note", "is a video")
            seen["clip"] = restored(page, "frames, ")

        for label in page.locator(".label-wrap").all():
            if "open" not in (label.get_attribute("class") or ""):
                label.click()
        put(page, folder / "two ü हिन्दी.png")
        page.fill("#gpen-faces textarea, #gpen-faces input", "the first one")
        page.keyboard.press("Tab")
        seen["wrong"] = said(page, "#gpen-note", "not a list of face numbers")
        seen["wrong report"] = restored(page, "not a list of face numbers")

        page.set_viewport_size(PHONE)
        page.wait_for_timeout(700)
        seen["clipped"] = page.evaluate(CLIPPED)
        seen["wider than the phone"] = page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
        page.screenshot(path=str(folder / "phone.png"), full_page=True)
        page.goto(url)
        page.wait_for_selector("#gpen-restore", timeout=LONG)
        put(page, folder / "crowd.png")
        said(page, "#gpen-note", "87 faces")
        page.click("#gpen-restore")
        page.wait_for_timeout(700)
        seen["trouble"] = trouble
        seen["elsewhere"] = [address for address in asked if not address.startswith((url, "data:", "blob:"))]
        seen["asked"] = len(asked)
        chromium.close()
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    main()
