"""Tests for `streamfn.app.loading`: what an APP argument may be."""

import sys

import pytest

from streamfn import ConfigError
from streamfn.app import load_app

CODE = """
from streamfn import App
{name} = App("{app}")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty current folder, and the modules and the path as they were afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def write(folder):
    """Writes a module with one app: `write("shop.py", name="app", app="shop")`."""

    def write(file, name="app", app="shop", code=CODE):
        path = folder / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(code.format(name=name, app=app))

    return write


def refused(text, **options):
    """The reason why this argument is refused, for the field `APP`."""
    with pytest.raises(ConfigError) as caught:
        load_app(text, **options)
    assert caught.value.field == "APP"
    return caught.value.reason


class TestFinding:
    """Tests for the spellings."""

    @pytest.mark.parametrize(
        "text", ["shop:app", "shop", "shop.py", "shop.py:app", "./shop.py", "./shop.py:app"]
    )
    def test_a_module_or_a_file_with_or_without_the_attribute(self, text, write):
        write("shop.py")

        assert load_app(text).name == "shop"

    def test_the_only_app_is_found_whatever_its_name(self, write):
        write("shop.py", name="main")

        assert load_app("shop.py").name == "shop"

    def test_an_attribute_may_have_dots(self, write):
        write("shop.py", code="from streamfn import App\nclass Box:\n    app = App('shop')\n")

        assert load_app("shop:Box.app").name == "shop"

    def test_a_module_of_a_package(self, write):
        write("shop/__init__.py", code="")
        write("shop/apps.py")

        assert load_app("shop.apps:app").name == "shop"

    def test_a_file_elsewhere_can_import_its_neighbours(self, write):
        write("elsewhere/neighbour.py", name="app")
        write("elsewhere/shop.py", code="from neighbour import app")

        assert load_app("elsewhere/shop.py").name == "shop"

    def test_a_file_named_like_a_known_module_takes_nobodys_place(self, write):
        import json

        write("json.py")

        assert load_app("json.py").name == "shop"
        assert sys.modules["json"] is json

    def test_a_factory_is_called(self, write):
        write("shop.py", code="from streamfn import App\ndef make():\n    return App('made')\n")

        assert load_app("shop:make", factory=True).name == "made"

    def test_the_same_app_is_loaded_once(self, write):
        write("shop.py")

        assert load_app("shop.py") is load_app("shop.py")


class TestRefusals:
    """Every refusal names the cause and the fix."""

    @pytest.mark.parametrize("name", ["shop", "json.shop", "shop.apps"])
    def test_a_module_that_is_not_there(self, name):
        with pytest.raises(ConfigError, match="`APP`: there is no module `") as caught:
            load_app(f"{name}:app")

        assert caught.value.__cause__ is None, "nothing of the user's own is in its traceback"

    def test_a_file_that_is_not_python(self, write):
        write("README.md", code="shop")

        assert "`README.md` is not a Python file" in refused("README.md")

    def test_a_file_that_is_not_there(self):
        assert refused("shop.py") == "there is no file `shop.py`, check the path"
        assert "there is no file" in refused("folder/shop")

    def test_no_module_at_all(self):
        assert "names no module" in refused(":app")

    def test_an_attribute_that_is_not_there_gets_the_nearest(self, write):
        write("shop.py", name="shop_app")

        assert "did you mean `shop_app`?" in refused("shop:shopapp")

    def test_a_module_without_an_app(self, write):
        write("shop.py", code="x = 1")

        assert "has no `streamfn.App`, make one" in refused("shop")
        assert "is a int, not a `streamfn.App`" in refused("shop:x")

    def test_a_module_with_several(self, write):
        write("shop.py", code="from streamfn import App\na = App('a')\nb = App('b')\n")

        assert "has several apps, use one of `shop:a`, `shop:b`" in refused("shop")

    def test_a_factory_without_the_option(self, write):
        write("shop.py", code="from streamfn import App\ndef make():\n    return App('made')\n")

        assert "or add --factory" in refused("shop:make")

    @pytest.mark.parametrize(
        ("code", "cause"),
        [
            ("1 / 0", "ZeroDivisionError"),
            ("def f(:", "SyntaxError"),
            ("import not_there_at_all", "ModuleNotFoundError: No module named"),
            ("import sys; sys.exit(3)", "SystemExit: 3"),
        ],
    )
    def test_code_that_does_not_import_carries_its_cause(self, code, cause, write):
        write("shop.py", code=code)

        with pytest.raises(ConfigError) as caught:
            load_app("shop.py")
        assert cause in caught.value.reason
        assert "\n" not in caught.value.reason
        assert caught.value.__cause__ is not None

    def test_a_file_that_failed_can_be_loaded_again_once_it_is_right(self, write):
        write("shop.py", code="1 / 0")
        refused("shop.py")

        write("shop.py")
        assert load_app("shop.py").name == "shop"

    def test_a_wrong_setting_in_the_app_keeps_its_own_field(self, write):
        code = "from streamfn import App\napp = App('shop')\n"
        code += "@app.stream('orders', batch_size=0)\ndef f(batch): ...\n"
        write("shop.py", code=code)

        with pytest.raises(ConfigError) as caught:
            load_app("shop.py")
        assert caught.value.field == "batch_size"
