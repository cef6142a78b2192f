"""The fingerprint of an app's code: what changes it, and what does not."""

import os
import subprocess
import sys

import pytest

PRINT = """
import json, sys
from streamfn.app import load_app
from streamfn.app.fingerprint import app_code
place = sys.argv[1]
app = load_app(place)
code = app_code(place.partition(":")[0], app.mappings, app.functions)
print(json.dumps([code.version, sorted(code.files)]))
"""
APP = """
from datetime import UTC, datetime
from streamfn import App
import helper
app = App("shop")

@app.stream("orders", start=datetime.now(UTC))
def total(batch):
    pass
"""


@pytest.fixture
def place(tmp_path):
    """A folder with an app and a module that it imports."""
    (tmp_path / "shop.py").write_text(APP)
    (tmp_path / "helper.py").write_text("VALUE = 1\n")
    (tmp_path / "other.py").write_text("VALUE = 1\n")
    return tmp_path


def code(folder, app="shop.py", **options):
    """The version, and the names of the files."""
    import json

    options.setdefault("cwd", folder)
    arguments = [sys.executable, "-B", "-c", PRINT, app]
    ended = subprocess.run(arguments, capture_output=True, text=True, check=True, **options)
    version, files = json.loads(ended.stdout)
    return version, {path.rpartition("/")[2] for path in files}


class TestAppCode:
    """Tests for `app_code`."""

    def test_it_is_the_same_for_each_process_and_folder(self, place, tmp_path_factory):
        version, files = code(place)
        assert files == {"shop.py", "helper.py"}
        assert len(version) == 12
        assert code(place, "shop:app") == (version, files)
        assert code(place, str(place / "shop.py"), cwd="/")[0] == version
        copy = tmp_path_factory.mktemp("copy")
        for name in ("shop.py", "helper.py"):
            (copy / name).write_text((place / name).read_text())
        assert code(copy)[0] == version

    def test_it_changes_with_the_files_that_are_imported_and_no_others(self, place):
        before, _ = code(place)
        (place / "other.py").write_text("VALUE = 2\n")
        assert code(place)[0] == before
        (place / "helper.py").write_text("VALUE = 2\n")
        assert code(place)[0] != before

    def test_it_changes_with_the_mappings(self, place):
        (place / "shop.py").write_text(
            APP.replace('"orders",', '"orders", batch_size=int(__import__("os").environ["SIZE"]),')
        )
        sizes = {
            code(place, env={"SIZE": size, "PYTHONPATH": ":".join(sys.path)})[0] for size in "12"
        }
        assert len(sizes) == 2

    def test_it_changes_with_the_functions_by_request(self, place):
        function = "app.function(timeout=os.environ['LIMIT'], name='price')(total)"
        (place / "shop.py").write_text(f"import os\n{APP}\n{function}\n")

        limits = ("1s", "2s", "1s")
        versions = [code(place, env=os.environ | {"LIMIT": limit})[0] for limit in limits]
        assert versions[0] == versions[2] != versions[1]

    def test_what_is_installed_is_left_out(self, place):
        for folder in ("venv/lib/python3/site-packages", "dist-packages"):
            (place / folder).mkdir(parents=True)
            (place / folder / f"dep{len(folder)}.py").write_text("")
        imports = "".join(
            f"import sys; sys.path.append('{place / folder}'); import dep{len(folder)}\n"
            for folder in ("venv/lib/python3/site-packages", "dist-packages")
        )
        (place / "helper.py").write_text(imports)
        assert code(place)[1] == {"shop.py", "helper.py"}

    def test_an_installed_package_is_its_own_folder(self, place):
        folder = place / "site-packages"
        (folder / "firm").mkdir(parents=True)
        (folder / "firm/__init__.py").write_text("")
        (folder / "firm/shop.py").write_text(APP.replace("import helper", "import stranger"))
        (folder / "stranger.py").write_text("")
        found = code(
            place, "firm.shop", cwd="/", env={"PYTHONPATH": ":".join([str(folder), *sys.path])}
        )
        assert found[1] == {"__init__.py", "shop.py"}

    def test_a_module_without_a_file_or_one_that_was_removed_is_no_error(self, place):
        (place / "helper.py").write_text(
            "import sys, types, pathlib\n"
            "sys.modules['odd'] = types.ModuleType('odd')\n"
            "sys.modules['none'] = None\n"
            "pathlib.Path(__file__).unlink()\n"
        )
        assert code(place)[1] == {"shop.py", "helper.py"}
