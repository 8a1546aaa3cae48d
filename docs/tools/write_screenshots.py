"""Write docs/assets/page_*.png: the dashboard's pages as they are now, for README and the documentation.

    python docs/tools/write_screenshots.py [home compare ...]

It needs playwright and a Chromium on the PATH, and takes some minutes, as its server starts with an empty cache. What
they show comes with quantviz or with installed packages: scikit-image's photographs, among them ``coffee`` (Pikolo
Espresso Bar, CC0 by Rachel Michetti), scikit-learn's, the shipped studies and diagnosis, and the default network.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from browsing import PAGES, ROOT, WAIT, chromium, complete, served
from PIL import Image
from playwright.sync_api import Page, sync_playwright

ASSETS = ROOT / "docs" / "assets"
WIDTH, HEIGHT = 1280, 800
MOST_BYTES = 160_000


def main() -> None:
    """Open each page in a browser of its own, and write what is seen."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pages", nargs="*", default=list(SHOWN), metavar="PAGE", help=f"of {', '.join(SHOWN)}; all")
    names = parser.parse_args().pages
    unknown = sorted(set(names) - set(SHOWN))
    if unknown:
        parser.error(f"{unknown[0]!r} is none of the pages; name some of {', '.join(SHOWN)}")
    with TemporaryDirectory() as folder, sync_playwright() as playwright, served(Path(folder)) as address:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        for name in names:
            context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
            page = context.new_page()
            SHOWN[name](page, address)
            page.wait_for_function("document.fonts.status === 'loaded'")
            page.wait_for_timeout(1000)  # what is new on a page fades in
            data = small(page.screenshot())
            (ASSETS / f"page_{name}.png").write_bytes(data)
            print(f"docs/assets/page_{name}.png: {len(data) / 1000:.0f} kB")
            context.close()
        browser.close()


def small(data: bytes) -> bytes:
    """Return a PNG with as many colours, 256 at most, as keep it within ``MOST_BYTES``."""
    with Image.open(io.BytesIO(data)) as opened:
        seen = opened.convert("RGB")
    for colours in (256, 192, 128, 96, 64):
        written = io.BytesIO()
        seen.quantize(colours, kmeans=2, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
        if written.tell() <= MOST_BYTES:
            return written.getvalue()
    raise SystemExit(f"A screenshot takes {written.tell()} bytes in 64 colours; show less of the page.")


def home(page: Page, address: str) -> None:
    """Show the finding."""
    page.goto(address)
    complete(page, "Home")


def compare(page: Page, address: str) -> None:
    """Show the tutorial's second step, once every bit-width of the film strip is there."""
    page.goto(f"{address}/compare?image=coffee&weight_bits=4")
    complete(page, "Compare")
    page.wait_for_selector(".strip .pending", state="detached", timeout=WAIT)


def photographs(page: Page, address: str) -> None:
    """Show which precision is safe for the bundled photographs."""
    page.goto(address + PAGES["Your photographs"][0])
    complete(page, "Your photographs")
    page.get_by_role("button", name="Try it with").click(timeout=WAIT)
    answer = page.get_by_text("within your limits on these")
    answer.wait_for(timeout=WAIT)
    complete(page, "Your photographs")
    page.wait_for_selector("[data-testid=stToast]", state="detached", timeout=WAIT)
    answer.evaluate("(one) => one.closest('[data-testid=stAlert]').scrollIntoView({ block: 'start' })")
    page.locator("[data-testid=stMain]").evaluate("(one) => one.scrollBy(0, -96)")  # with the limits above it


def study(page: Page, address: str) -> None:
    """Show drift against bits over the noise floor."""
    page.goto(address + PAGES["Study"][0])
    complete(page, "Study")


def diagnose(page: Page, address: str) -> None:
    """Show the shipped diagnosis."""
    page.goto(address + PAGES["Diagnose"][0])
    complete(page, "Diagnose")


SHOWN: dict[str, Callable[[Page, str], None]] = {
    "home": home,
    "compare": compare,
    "photographs": photographs,
    "study": study,
    "diagnose": diagnose,
}

if __name__ == "__main__":
    main()
