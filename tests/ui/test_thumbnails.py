"""Which picture Compare shows: the visitor's last choice, whatever an old address or old buttons say."""

import pytest
from streamlit.testing.v1 import AppTest


def _page():
    import streamlit as st

    from quantviz.ui import begin_page
    from quantviz.ui.links import Linked
    from quantviz.ui.thumbnails import choose_thumbnail, keep_upload

    st.session_state["navigated"] = True
    begin_page()
    if st.session_state.pop("uploads", False):
        keep_upload(b"of the visitor's", "own.jpg")
    linked = Linked()
    read, uploaded = choose_thumbnail(linked, None)
    st.text(uploaded[0] if uploaded else read().name)
    for sentence in linked.ignored:
        st.warning(sentence)


@pytest.fixture
def app():
    return AppTest.from_function(_page, default_timeout=120)


def shown(app):
    assert not app.exception
    return app.text[0].value


def addressed(app):
    return {key: app.query_params[key] for key in app.query_params}


def uploaded(app):
    app.session_state["uploads"] = True
    return app.run()


def pressed(app, label):
    next(button for button in app.button if label in button.label).click().run()
    return app


def test_a_link_names_a_photograph(app):
    app.query_params["image"] = "coffee"
    assert shown(app.run()) == "coffee"
    assert not app.warning


def test_a_link_to_what_is_not_there_says_so(app):
    app.query_params["image"] = "nowhere"
    assert shown(app.run()) == "chelsea"
    assert "'nowhere'" in app.warning[0].value
    assert not addressed(app)


def test_a_link_to_an_upload_of_another_session_says_so(app):
    app.query_params["own_picture"] = "true"
    assert shown(app.run()) == "chelsea"
    assert "uploaded elsewhere" in app.warning[0].value
    assert not addressed(app)


def test_an_upload_is_shown_under_no_other_pictures_address(app):
    app.query_params["image"] = "coffee"
    assert shown(uploaded(app.run())) == "own.jpg"
    assert addressed(app) == {"own_picture": "true"}
    # What runs the page by itself comes with the address of before, which the browser has not changed yet.
    app.query_params.clear()
    app.query_params["image"] = "coffee"
    assert shown(app.run()) == "own.jpg"
    assert addressed(app) == {"own_picture": "true"}


def test_a_photograph_takes_its_place_and_it_can_be_had_again(app):
    uploaded(app.run())
    app.button_group[0].select("rocket").run()
    assert shown(app) == "rocket"
    assert addressed(app) == {"image": "rocket"}
    assert shown(pressed(app, "Back to `own.jpg`")) == "own.jpg"
    assert addressed(app) == {"own_picture": "true"}
    assert shown(pressed(app, "Back to the bundled photographs")) == "chelsea"
    assert not addressed(app)
    assert shown(pressed(app, "Back to `own.jpg`")) == "own.jpg"


def test_a_second_click_on_a_photograph_leaves_one_shown(app):
    app.run().button_group[0].unselect("chelsea").run()
    assert shown(app) == "chelsea"
    app.button_group[0].select("coffee").run()
    assert shown(app) == "coffee"
