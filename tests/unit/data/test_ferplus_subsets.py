"""FER+ tested on the published lists of occluded and turned faces, beside the whole test split."""

import json

import ferplus_tree as tree
import pytest
from commandline import distill, result_of
from face_trees import write_lines

from distill.data.ferplus import ferplus

LISTS = {  # test faces are fer0032220.png to fer0032231.png, face i shows emotion i % 8
    "occlusion": ("occlusion_list.txt", ["1_fer0032221.png 8 0", "4_fer0032224.png 8 3", "0_fer0039999.png 8 2"]),
    "pose30": ("pose_30_list.txt", ["1/fer0032221.jpg", "3/fer0032224.jpg"]),
    "pose45": ("pose_45_list.txt", ["4/fer0032224.jpg"]),
}
FOUND = {"occlusion": (3, 2, 1, 0), "pose30": (2, 2, 0, 1), "pose45": (1, 1, 0, 0)}


@pytest.fixture
def root(tmp_path):
    return tree.write_folders(tmp_path / "fer")


@pytest.mark.parametrize("name", LISTS)
def test_a_subset_is_the_listed_test_faces_beside_the_whole_test_split(tmp_path, root, name):
    file, lines = LISTS[name]
    write_lines(root / file, lines)
    whole, data = ferplus(tmp_path / "store", root), ferplus(tmp_path / "store", root, test_subset=name)
    subset = data.extra_test_splits[name]
    assert subset.ids == tuple(f"fer003222{i}.png" for i in ((4,) if name == "pose45" else (1, 4)))
    assert subset.label.tolist() == [1, 4][-len(subset) :] and subset.target.shape == (len(subset), 8)
    facts = dict(zip(("listed", "found", "missing", "other_label"), FOUND[name], strict=True))
    assert data.notes["test_subset"] == {name: facts} and whole.notes["test_subset"] == {}
    assert data.protocol == whole.protocol and data.notes["packed"] == whole.notes["packed"]
    assert {part: split.ids for part, split in data.splits.items()} == {p: s.ids for p, s in whole.splits.items()}
    assert (
        data.extra_test_splits.keys() - whole.extra_test_splits.keys() == {name} and "votes" in whole.extra_test_splits
    )
    assert data.notes["counts"] == whole.notes["counts"]


def test_ferplus_with_several_subsets_measures_each(tmp_path, root):
    for file, lines in LISTS.values():
        write_lines(root / file, lines)
    data = ferplus(tmp_path / "store", root, test_subset=["pose45", "occlusion"])
    assert {name: len(data.extra_test_splits[name]) for name in ("pose45", "occlusion")} == {
        "pose45": 1,
        "occlusion": 2,
    }
    assert list(data.notes["test_subset"]) == ["pose45", "occlusion"] and "pose30" not in data.extra_test_splits


def test_lists_lie_beside_an_archive_or_in_subset_dir(tmp_path, root):
    source = tree.archive(root, tmp_path / "fer.zip")
    write_lines(tmp_path / "pose_45_list.txt", LISTS["pose45"][1])
    write_lines(tmp_path / "lists" / "pose_30_list.txt", LISTS["pose30"][1])
    assert len(ferplus(tmp_path / "store", source, test_subset="pose45").extra_test_splits["pose45"]) == 1
    data = ferplus(tmp_path / "store", source, test_subset="pose30", subset_dir=tmp_path / "lists", limit=1)
    assert [len(split) for split in (*data.splits.values(), data.extra_test_splits["pose30"])] == [1, 1, 1, 1]


def test_faces_that_the_protocol_drops_are_missing(tmp_path, root):
    write_lines(root / "pose_30_list.txt", LISTS["pose30"][1])
    tree.edit(root, lambda rows: rows[1].__setitem__(slice(2, 12), [0] * 8 + [10, 0]), "test")
    data = ferplus(tmp_path / "store", root, test_subset="pose30")
    assert (
        data.extra_test_splits["pose30"].ids == ("fer0032224.png",)
        and data.notes["test_subset"]["pose30"]["missing"] == 1
    )


@pytest.mark.parametrize(
    ("name", "line", "match"),
    [
        ("mask", "", "data.test_subset: there is no subset 'mask'. Use null or some of occlusion, pose30, pose45"),
        (
            "pose45",
            "",
            "pose45 needs pose_45_list.txt in .*fer; it is not there. Copy the list there, or give data.subset_dir",
        ),
        ("occlusion", "9_fer0032221.png 8 0", "occlusion_list.txt row 1: '9' is no label. Write one of 0 neutral"),
        ("occlusion", "fer0032221.png", "occlusion_list.txt row 1: 'fer0032221.png' is no label"),
        ("occlusion", "1_fer0000001.png 8 0", "none of the 1 pictures listed for occlusion is among the 12 for test"),
        ("occlusion", " ", "occlusion_list.txt is empty. Take the published list"),
    ],
)
def test_a_subset_that_cannot_be_used_is_refused(tmp_path, root, name, line, match):
    if line:
        write_lines(root / "occlusion_list.txt", [line])
    with pytest.raises(ValueError, match=match):
        ferplus(tmp_path / "store", root, test_subset=name)


def test_a_subset_dir_that_is_not_there_is_named(tmp_path, root):
    with pytest.raises(ValueError, match=r"data.subset_dir: .*nowhere does not exist. Give a folder with pose_30_list"):
        ferplus(tmp_path / "store", root, test_subset="pose30", subset_dir=tmp_path / "nowhere")


def test_a_subset_asked_of_a_finished_run_is_measured_without_a_step_of_training(tmp_path, root):
    write_lines(root / "occlusion_list.txt", LISTS["occlusion"][1])
    where = {"store": tmp_path / "store", "runs": tmp_path / "runs"}
    job = ("data=ferplus", f"data.root={root}", "teacher=none", "loss=[ce]", "train.epochs=1", "train.batch_size=8")
    assert distill(*job, **where).returncode == 0
    (folder,) = where["runs"].iterdir()
    kept = [folder / name for name in ("metrics.jsonl", "checkpoints/best.safetensors", "checkpoints/last.pt")]
    before, whole = [path.read_bytes() for path in kept], result_of(where["runs"])
    asked = distill(*job, "data.test_subset=[occlusion]", **where)
    assert asked.returncode == 0, asked.stderr
    result = result_of(where["runs"])
    assert [path.read_bytes() for path in kept] == before and result["teacher_forward_images"] == 0
    assert result["extra_test_splits"]["occlusion"]["rows"] == 2 and "occlusion" not in whole["extra_test_splits"]
    assert (
        whole["extra_test_splits"].items() <= result["extra_test_splits"].items()
        and result["data"]["rows"] == tree.SIZES
    )
    assert result["student"]["metrics"] == whole["student"]["metrics"]
    accuracies = (result["extra_test_splits"]["occlusion"][key] for key in ("top1_accuracy", "mean_class_accuracy"))
    words = "the student on test subset occlusion: top-1 {:.2%}, mean-class {:.2%} of 2 faces".format(*accuracies)
    assert words in asked.stdout
    again = distill(*job, "data.test_subset=occlusion", **where)
    assert "is complete; nothing to do" in again.stdout and words in again.stdout


def test_a_list_that_is_not_there_leaves_what_a_finished_run_says(tmp_path, root):
    where = {"store": tmp_path / "store", "runs": tmp_path / "runs"}
    job = ("data=ferplus", f"data.root={root}", "teacher=none", "loss=[ce]", "train.epochs=1", "train.batch_size=8")
    assert distill(*job, **where).returncode == 0
    before = result_of(where["runs"])
    asked = distill(*job, "data.test_subset=pose30", **where)
    assert asked.returncode == 1 and "pose30 needs pose_30_list.txt" in asked.stderr
    assert json.dumps(result_of(where["runs"])) == json.dumps(before)
