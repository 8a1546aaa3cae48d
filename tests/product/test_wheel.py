"""The wheel, built from an sdist and installed where no checkout is: it serves the dashboard and runs every command."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
import venv
from pathlib import Path

import pytest

from quantviz import __version__
from quantviz.cli import cli

ROOT = Path(__file__).parents[2]
NO_SOURCES = shutil.ignore_patterns(".*", "tests", "docs", "cache", "build", "dist", "*.egg-info", "__pycache__")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build an sdist and of it the wheel, as ``python -m build`` does; nothing is fetched."""
    sources, out = tmp_path_factory.mktemp("sources") / "quantviz", tmp_path_factory.mktemp("dist")
    shutil.copytree(ROOT, sources, ignore=NO_SOURCES)
    shutil.copytree(ROOT / ".streamlit", sources / ".streamlit")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(sources)]
    done = subprocess.run(command, capture_output=True, text=True, env=clean(), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Return the bin folder of an environment with the wheel, and with this one's libraries behind it."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    libraries = Path(subprocess.check_output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                                             text=True).strip())  # fmt: skip
    # A plain path: what stands in the .pth files there, such as an editable quantviz, is not read.
    (libraries / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, str(wheel)], check=True, env=clean())
    return home / "bin"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def empty(tmp_path):
    """Return a working folder that must stay empty."""
    folder = tmp_path / "work"
    folder.mkdir()
    yield folder
    assert list(folder.iterdir()) == []


def clean(home=None):
    """Return an environment in which nothing points to the checkout or to a cache of quantviz's."""
    kept = {
        name: value for name, value in os.environ.items() if name != "PYTHONPATH" and not name.startswith("QUANTVIZ")
    }
    return kept | ({"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")} if home else {})


def run(installed, home, folder, *arguments):
    command = [installed / "quantviz", *arguments]
    done = subprocess.run(command, cwd=folder, env=clean(home), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def ask(installed, home, folder, code):
    command = [installed / "python", "-c", code]
    done = subprocess.run(command, cwd=folder, env=clean(home), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_the_installed_package_that_runs(installed, home, empty):
    code = "import quantviz, quantviz.cli.serve as serve; print(quantviz.__file__, serve.dashboard())"
    package, dashboard = map(Path, ask(installed, home, empty, code).split())
    assert package.is_relative_to(installed.parent)
    assert dashboard == package.parent / "_dashboard"
    assert (package.parent / "py.typed").is_file()
    assert run(installed, home, empty, "--version").split()[-1] == __version__


def test_the_wheel_holds_every_page_and_data_file(installed):
    (package,) = installed.parent.glob("lib/python*/site-packages/quantviz")
    files = [path.relative_to(ROOT) for path in (ROOT / "quantviz").rglob("*") if path.is_file()]
    data = [path for path in files if "__pycache__" not in path.parts]
    assert [path for path in data if not (package.parent / path).is_file()] == []
    pages = [path.relative_to(ROOT) for path in (ROOT / "pages").glob("*.py")]
    for place in (Path("app.py"), Path(".streamlit/config.toml"), *pages):
        assert (package / "_dashboard" / place).read_bytes() == (ROOT / place).read_bytes()


def test_commands_run_from_an_empty_folder(installed, home, empty):
    listed = json.loads(run(installed, home, empty, "models", "--json"))
    assert "efficientnet_lite0" in [row["name"] for row in listed]
    result = json.loads(run(installed, home, empty, "compare", "coffee", "--json", "-"))
    assert result["predictions"]["float"][0]["label"] == "espresso"
    assert result["versions"]["quantviz"] == __version__
    assert (home / "cache" / "quantviz" / "tensors").is_dir()
    assert "Table 1" in run(installed, home, empty, "published")


def test_every_command_can_be_asked_for_help(installed, home, empty):
    code = f"""\
from click.testing import CliRunner
from quantviz.cli import cli
for name in {list(cli.commands)}:
    done = CliRunner().invoke(cli, [name, "--help"])
    assert done.exit_code == 0 and done.output.startswith("Usage: "), (name, done.output)
    print(name)
"""
    assert ask(installed, home, empty, code).split() == list(cli.commands)


@contextlib.contextmanager
def serving(installed, home, folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [installed / "quantviz", "serve", "--port", str(port)]
    environment = clean(home) | {"STREAMLIT_SERVER_HEADLESS": "true"}
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield server, f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(timeout=60)
    assert "Traceback" not in (home / "server.log").read_text()


def fetched(server, address):
    for _ in range(240):
        assert server.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"{address} did not answer")


def test_serve_answers_at_the_port_it_is_given(installed, home, empty):
    with serving(installed, home, empty) as (server, address):
        assert fetched(server, f"{address}/_stcore/health") == "ok"
        assert "<html" in fetched(server, address)
    # Streamlit says so where the settings beside app.py do not turn it off.
    assert "usage statistics" not in (home / "server.log").read_text()


def test_a_port_that_is_none_is_refused(installed, home, empty):
    command = [installed / "quantviz", "serve", "--port", "99999"]
    done = subprocess.run(command, cwd=empty, env=clean(home), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "99999" in done.stderr


def test_the_installed_pages_run(installed, home, empty):
    code = """\
from streamlit.testing.v1 import AppTest
from quantviz.cli.serve import dashboard
app = AppTest.from_file(dashboard() / "app.py", default_timeout=120).switch_page("pages/method.py").run()
assert not app.exception, app.exception
print(app.title[0].value)
"""
    assert ask(installed, home, empty, code).strip() == "Method"
