"""What tests of several datasets need."""

import functools
import http.server
import json
import threading

import pytest

from cwd.data import fake_trees
from cwd.data.scenes.draw import write_dataset


@pytest.fixture
def server(tmp_path):
    """Address of an HTTP server that has the files of `tmp_path`."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture
def coco(tmp_path):
    """A generated COCO."""
    return fake_trees.coco(tmp_path / "coco")


@pytest.fixture
def edit(coco):
    """Change the annotations of its split val."""
    path = coco / "annotations" / "instances_val2017.json"

    def call(change):
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return call


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """A few drawn scenes."""
    root = tmp_path_factory.mktemp("scenes") / "drawn"
    return write_dataset(root, size=(48, 96), splits={"train": 5, "val": 2})
