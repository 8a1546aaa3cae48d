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
