"""A .pt2 file's names are looked at as its values are: a key that is code is not opened."""

import json
from zipfile import ZipFile

import pytest

from distill.export.pt2_guard import refuse_code


def program(path, value):
    with ZipFile(path, "w") as file:
        file.writestr("student/models/model.json", json.dumps(value))
    return path


def test_a_key_that_could_be_run_is_refused_as_a_value_is(tmp_path):
    refuse_code(program(tmp_path / "good.pt2", {"nodes": [{"target": "torch.ops.aten.relu.default"}]}))
    for value in ({"a": {"__import__('os')": "b"}}, {"a": "__import__('os')"}, {"a": [{"b": {"f(); x": 1}}]}):
        with pytest.raises(ValueError, match="which is not opened: it could be run"):
            refuse_code(program(tmp_path / "bad.pt2", value))
