"""Which of the timed files is to be taken, and why."""

import pytest

from distill.runs.exported_files import recommend_file, takes


def row(name, milliseconds, size, passed=True, takes="pictures", threads=1, accuracy="0.5", spread=0.1):
    quartiles = [milliseconds - spread, milliseconds + spread]
    passes = {
        "1": {"milliseconds": milliseconds, "quartiles": quartiles},
        "32": {"milliseconds": 0, "quartiles": [0, 0]},
    }
    words = {"passed": passed, "takes": takes, "valid_top1_accuracy": accuracy}
    return {"name": f"run/export/{name}", "threads": threads, "passes": passes, "file_bytes": size, **words}


def test_the_file_to_take_is_the_fastest_file_that_passed_the_gate():
    rows = [
        row("student.onnx", 3.0, 9000),
        row("student.int8.onnx", 2.0, 5000),
        row("student.tflite", 1.0, 1234567, accuracy="0.8765"),
        row("unproven.onnx", 0.5, 10, passed=False),
        row("bare/student.onnx", 0.5, 10, takes="rendered faces"),
        row("student.onnx", 0.1, 9000, threads=2),
    ]
    assert recommend_file(rows) == (
        "take run/export/student.tflite: the fastest, of the 3 that passed the gate and take pictures; 1 ms a picture on "
        "1 thread, 1,234,567 bytes, valid top-1 87.65%"
    )


def test_the_file_to_take_of_those_as_fast_is_the_smallest():
    rows = [
        row("student.onnx", 1.0, 9000),
        row("student.int8.onnx", 1.15, 5000, accuracy=None),
        row("slow.onnx", 2.0, 1),
    ]
    assert recommend_file(rows) == (
        "take run/export/student.int8.onnx: as fast as student.onnx, and smaller, of the 3 that passed the gate and take "
        "pictures; 1.15 ms a picture on 1 thread, 5,000 bytes"
    )


@pytest.mark.parametrize(
    ("dtype", "shape", "wanted"),
    [
        ("uint8", [None, None, None, 3], "pictures"),
        ("uint8", [None, 48, 40, 3], "pictures"),
        ("uint8", [None, 40, 48, 3], "pictures of 40x48"),
        ("float32", [None, 1, 48, 48], "rendered faces"),
    ],
)
def test_a_file_for_pictures_of_another_size_takes_those(dtype, shape, wanted):
    assert takes((dtype, shape), "48x40") == wanted


def test_a_file_that_was_timed_on_other_pictures_is_not_compared():
    rows = [row("student.onnx", 1.0, 9000), row("student.tflite", 0.1, 10, takes="pictures of 100x90")]
    first, second = recommend_file(rows).splitlines()
    assert first.startswith("take run/export/student.onnx: the fastest, of the 1 that passed")
    assert second == "not compared: student.tflite, on pictures of 100x90. Type --picture 100x90 to compare all"


def test_the_file_to_take_is_not_named_where_no_file_passed_the_gate():
    assert recommend_file([row("student.onnx", 1.0, 9000, passed=False)]) is None
