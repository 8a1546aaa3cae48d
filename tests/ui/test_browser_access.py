"""Every page by axe-core's rules, in both themes: nothing moderate or worse."""

import pytest
from browser_support import PAGES, faults, settled

# Pages, and parts of them, that other tests of this folder do not need anyway.
_MORE = ("study?part=Pictures", "study?part=Ranking", "paper?part=Triangle+check", "layers?part=Search")
_QUICK = ("",)


@pytest.mark.parametrize(
    "place", [pytest.param(one, marks=() if one in _QUICK else pytest.mark.slow) for one in ("", *PAGES, *_MORE)]
)
def test_a_page_can_be_read_in_both_themes(page, address, place):
    ground = "getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor"
    page.goto(f"{address}/{place}")
    settled(page)
    light = page.evaluate(ground)
    assert faults(page) == []
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"(light) => {ground} != light", arg=light)
    settled(page)
    assert faults(page) == []
