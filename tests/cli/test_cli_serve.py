"""The command serve: what it hands to the server that takes its place."""

import os

import pytest

from quantviz.comparison.serving import Serving


@pytest.fixture
def started(run, monkeypatch):
    """Return a function from options to the server's command line and environment, or to what standard error says."""

    def call(*options):
        taken = []

        def take(_path, command, environment):
            taken.append((command, environment))
            raise SystemExit(0)

        monkeypatch.setattr(os, "execve", take)
        status, _, said = run("serve", *options)
        return taken[0] if status == 0 else said

    return call


def test_usual_settings(started):
    command, environment = started()
    assert "--server.address=127.0.0.1" in command
    assert "--server.maxUploadSize=200" in command
    assert Serving.from_environment(environment) == Serving()
    assert Serving.from_environment({}) == Serving()


def test_a_lower_limit_of_uploads_is_for_networks_and_leaves_pictures_alone(started):
    command, environment = started("--upload-limit", "5")
    assert "--server.maxUploadSize=64" in command
    assert Serving.from_environment(environment).upload_bytes == 5 << 20


def test_a_limit_above_what_is_ever_opened_is_refused(started):
    assert "--upload-limit" in started("--upload-limit", "513")


@pytest.fixture
def card(tmp_path):
    path = tmp_path / "net.toml"
    path.write_text('model = "efficientnet_lite0"\n[[variants]]\nbits = "W4A8"\n')
    return path


def test_cards_are_handed_over_by_their_absolute_paths(started, card, monkeypatch):
    monkeypatch.chdir(card.parent)
    _, environment = started("--card", "net.toml")
    assert Serving.from_environment(environment).cards == (card,)


def test_a_wrong_card_is_told_before_the_server_starts(started, card):
    card.write_text('model = "efficientnet_lite0"\nlayers = "bn2"\n')
    assert "'layers'" in started("--card", card)


def test_cards_of_one_name_are_refused(started, card, tmp_path):
    other = tmp_path / "other" / card.name
    other.parent.mkdir()
    other.write_text(card.read_text())
    assert "Two cards are called 'net.toml'" in started("--card", card, "--card", other)
