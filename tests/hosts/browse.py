"""Uses the Extras tab of a WebUI like a person, in a headless browser; run by checks.py with a Python that has playwright:

    python browse.py URL BROWSER TAB SECTION PICTURE OUT

Writes extras.png (the open accordion), done.png (after Generate), settings.png and result.png into OUT, and prints what was seen as JSON.
"""

from __future__ import annotations

import base64
import json
import re
import sys
from pathlib import Path

from playwright.sync_api import Locator, Page, sync_playwright

# Chromium must not look outside of this machine.
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
FLAGS += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
MODEL = "GPEN-BFR-256-lite"
LONG = 300_000
FETCH = """async address => {
  const bytes = new Uint8Array(await (await fetch(address)).arrayBuffer());
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}"""
# The accordion whose title is exactly this one, however deep the page nests them.
ACCORDION = """title => {
  const shown = element => element.offsetParent !== null;
  const heads = [...document.querySelectorAll('.label-wrap')].filter(
    head => shown(head) && [...head.children].some(child => child.innerText?.trim() === title));
  heads.forEach((head, index) => head.setAttribute('data-gpen', title + index));
  return heads.length;
}"""


def tab_of(page: Page, name: str) -> Locator:
    return page.locator(".tab-nav > button").filter(has_text=re.compile(rf"^\s*{name}\s*$"), visible=True).first


def open_tab(page: Page, name: str) -> None:
    tab_of(page, name).click()
    page.wait_for_timeout(700)


def accordion(page: Page, title: str) -> tuple[Locator, int]:
    """(the accordion of this title, how many visible titles say so)"""
    count = page.evaluate(ACCORDION, title)
    head = page.locator(f"[data-gpen='{title}0']")
    return head.locator("xpath=.."), count


def enable(page: Page, group: Locator) -> str:
    """Switches the accordion on and opens it. Returns the switch that was found."""
    head = group.locator(".label-wrap").first
    switch = head.locator("input[type=checkbox]")
    if switch.count():
        switch.first.check()
        how = "the switch in the title"
        page.wait_for_timeout(500)
        if "open" not in (head.get_attribute("class") or ""):
            head.locator(".icon").click()
    else:
        if "open" not in (head.get_attribute("class") or ""):
            head.click()
        page.wait_for_timeout(500)
        group.get_by_label("Enable", exact=True).check()
        how = "Enable"
    page.wait_for_timeout(700)
    return how


def choose(page: Page, group: Locator, label: str, value: str) -> None:
    title = group.locator("[data-testid=block-info]").filter(has_text=re.compile(rf"^\s*{label}\s*$"), visible=True).first
    field = title.locator("xpath=ancestor::*[contains(concat(' ', @class, ' '), ' block ')][1]").locator("input").first
    field.click()
    field.fill(value)
    page.wait_for_timeout(400)
    page.locator("ul.options li, ul[role=listbox] li").filter(has_text=value).first.click()
    page.wait_for_timeout(1000)  # until the list has faded


def main() -> None:
    url, browser, tab, section, picture, name = sys.argv[1:]
    out, seen = Path(name), {}
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=FLAGS)
        page = chromium.new_page(viewport={"width": 1500, "height": 1000})
        page.set_default_timeout(LONG)  # on a busy machine a page takes minutes
        trouble: list[str] = []
        page.on("pageerror", lambda error: trouble.append(str(error)))
        try:
            page.goto(url, timeout=LONG)
            tab_of(page, tab).wait_for(timeout=LONG)
            page.wait_for_timeout(4000)  # the host's scripts arrange the page
            open_tab(page, tab)
            page.set_input_files("#extras_image input[type=file]", picture)
            page.wait_for_timeout(1500)
            group, seen["titles"] = accordion(page, "GPEN")
            seen["switch"] = enable(page, group)
            choose(page, group, "Model", MODEL)
            seen["titles open"] = page.evaluate(ACCORDION, "GPEN")
            seen["labels"] = group.locator("label, .block-info, [data-testid=block-info]").filter(visible=True).all_inner_texts()
            group.scroll_into_view_if_needed()
            page.wait_for_timeout(500)
            page.screenshot(path=str(out / "extras.png"), full_page=True)
            page.click("#extras_generate")
            page.wait_for_function("document.body.innerText.includes('GPEN restored')", timeout=LONG)
            page.wait_for_timeout(1500)
            seen["told"] = next(line for line in page.inner_text("body").splitlines() if "GPEN restored" in line)
            image = page.locator("#extras_gallery img").first
            seen["result"] = image.get_attribute("src")
            (out / "result.png").write_bytes(base64.b64decode(page.evaluate(FETCH, seen["result"])))
            page.screenshot(path=str(out / "done.png"), full_page=True)
            open_tab(page, section)
            entry = page.get_by_text("GPEN face restoration", exact=True).filter(visible=True)
            seen["section"] = entry.count()
            if entry.count():
                entry.first.click()
                page.wait_for_timeout(1000)
            page.screenshot(path=str(out / "settings.png"), full_page=True)
        except Exception as error:
            seen["error"] = f"{type(error).__name__}: {error}"
            page.screenshot(path=str(out / "error.png"), full_page=True)
        seen["trouble"] = trouble
        chromium.close()
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    main()
