"""The examples in the docstrings of `import fanfold`."""

import doctest
import inspect

import pytest

import fanfold


@pytest.mark.parametrize("name", [name for name in fanfold.__all__ if not name.startswith("_")])
def test_examples_give_what_they_say(name, pictures, cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").symlink_to(pictures)
    given = {"fanfold": fanfold, "cluster": cluster.client}
    for test in doctest.DocTestFinder().find(inspect.unwrap(getattr(fanfold, name)), name, globs=given):
        assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed == 0
