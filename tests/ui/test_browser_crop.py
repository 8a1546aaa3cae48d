"""What the networks see of a photograph, chosen on the photograph itself: fitted, dragged, moved, undone."""

import re

import pytest
from browser_support import WAIT, addressed, finished
from playwright.sync_api import expect

LINK = "model=squeezenet1_1&weights=untrained&saliency=none&image=rocket"


@pytest.mark.slow
def test_a_photograph_is_fitted_dragged_and_put_back(page, address):
    page.goto(f"{address}/compare?{LINK}")
    finished(page)
    words, frame = page.locator(".whole figcaption"), page.locator(".whole .seen")
    expect(words).to_have_text("The networks see 51% of the photograph.")
    page.get_by_role("button", name="Fit", exact=True).click()
    expect(words).to_contain_text("The networks see the whole photograph", timeout=WAIT)
    addressed(page, "crop=fit")
    page.get_by_role("button", name="Centre", exact=True).click()
    expect(words).to_have_text("The networks see 51% of the photograph.", timeout=WAIT)
    expect(page).not_to_have_url(re.compile("crop="))
    # By the mouse, to the left edge.
    finished(page)
    box = frame.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] - 200, box["y"] + box["height"] / 2, steps=8)
    page.mouse.up()
    addressed(page, "crop=place")
    addressed(page, "crop_x=0")
    finished(page)
    expect(words).to_have_text("The networks see 51% of the photograph.", timeout=WAIT)
    assert frame.evaluate("(frame) => parseFloat(frame.style.left)") == 0
    # By the keys, on to the right, and Back undoes one step.
    frame.focus()
    for _ in range(4):
        frame.press("ArrowRight")
    addressed(page, "crop_x=20")
    finished(page)
    page.go_back()
    addressed(page, "crop_x=0")
    expect(words).to_have_text("The networks see 51% of the photograph.", timeout=WAIT)
    page.wait_for_function(
        """() => {
            const hosts = [...document.querySelectorAll("*")].filter((one) => one.shadowRoot?.querySelector(".viewer"));
            return parseFloat(hosts[0].shadowRoot.querySelector(".seen").style.left) === 0;
        }"""
    )
