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


def test_the_server_is_started_with_few_heaps_unless_told_otherwise(started, monkeypatch):
    assert started()[1]["MALLOC_ARENA_MAX"] == "2"
    monkeypatch.setenv("MALLOC_ARENA_MAX", "5")
    assert started()[1]["MALLOC_ARENA_MAX"] == "5"


def test_an_address_that_others_reach_needs_a_word_on_whom_it_is_for(started):
    for address in ("0.0.0.0", "::", "192.0.2.1", "a.name.example"):
        said = started("--address", address)
        assert "--public" in said
        assert "--trust-everyone" in said
    assert "give one" in started("--public", "--trust-everyone")
    for address in ("127.0.0.2", "::1", "localhost"):
        assert not Serving.from_environment(started("--address", address)[1]).reachable
    trusting = Serving.from_environment(started("--address", "0.0.0.0", "--trust-everyone")[1])
    assert (trusting.reachable, trusting.public, trusting.session_bytes, trusting.seconds) == (True, False, 0, 0)


def test_a_public_server_has_limits_and_offers_what_it_was_started_with(started, tmp_path):
    study, pictures = tmp_path / "a study", tmp_path / "pictures"
    study.mkdir()
    pictures.mkdir()
    assert "is no study" in started("--study", study)
    (study / "plan.json").write_text("{}")
    assert "is no folder" in started("--dataset", study / "plan.json")
    _, environment = started("--public", "--address", "0.0.0.0", "--study", study, "--dataset", pictures, "--metrics")
    offered = Serving.from_environment(environment)
    assert (offered.public, offered.studies, offered.datasets) == (True, (study,), (pictures,))
    assert (offered.session_bytes, offered.seconds, offered.metrics) == (512 << 20, 120, True)
    offered = Serving.from_environment(started("--public", "--session-limit", "7", "--seconds", "9")[1])
    assert (offered.session_bytes, offered.seconds, offered.metrics) == (7 << 20, 9, False)


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
