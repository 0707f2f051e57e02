"""FER+ as distributed: every form gives the same pack, and protocols keep the published counts."""

import os
import shutil
from pathlib import Path

import ferplus_tree as tree
import numpy as np
import pytest
from PIL import Image

from distill.data.common.emotions import EMOTIONS
from distill.data.ferplus import ferplus, pack_ferplus
from distill.data.ferplus.protocols import PROTOCOLS, rows_of

ARCHIVE = Path(__file__).resolve().parents[4] / "shared" / "data" / "ferplus.tar.gz"


@pytest.fixture
def root(tmp_path):
    return tree.write_folders(tmp_path / "fer")


def one(**votes):
    return np.array([[votes.get(name, 0) for name in tree.VOTES]], np.float32)


# What is read


def test_folders_become_splits_with_pictures_and_vote_distributions(tmp_path, root):
    data = ferplus(tmp_path / "store", root)
    made = tree.faces()
    assert data.classes == EMOTIONS and data.protocol == "majority (label.csv), targets votes"
    for name, split in data.splits.items():
        assert len(split) == tree.SIZES[name]
        np.testing.assert_array_equal(split.pixels[split.rows][:, 0], [pixels for _, pixels, _ in made[name]])
        assert split.ids == tuple(file for file, _, _ in made[name])
        np.testing.assert_array_equal(split.label, np.arange(len(split)) % 8)
        np.testing.assert_allclose(split.target.sum(1), 1, rtol=1e-6)
        assert split.target.dtype == np.float32 and split.rows.dtype == split.label.dtype == np.int64
    np.testing.assert_allclose(data.splits["train"].target[0], [7 / 9, 2 / 9, 0, 0, 0, 0, 0, 0], rtol=1e-6)


FORMS = ["tar.gz", "zip", "tar.gz in a subfolder", "data folder", "Labels and Images", "TrainValid"]


@pytest.mark.parametrize("form", FORMS)
def test_ferplus_forms_give_the_same_pictures_votes_and_ids(tmp_path, root, form):
    expected = pack_ferplus(tmp_path / "a", root)
    shutil.copytree(root, tmp_path / "moved" / "deep" / "data")
    moved = tmp_path / "moved"
    if form in ("tar.gz", "zip"):
        source = tree.archive(root, tmp_path / f"fer.{form}")
    elif form == "tar.gz in a subfolder":
        source = tree.archive(moved, tmp_path / "fer.tar.gz")
    elif form == "data folder":
        source = moved
    else:
        source = tmp_path / "cern"
        for split, name in tree.FOLDERS.items():
            folder = "FER2013TrainValid" if form == "TrainValid" and split != "test" else name
            (source / "Labels" / folder).mkdir(parents=True, exist_ok=True)
            shutil.copytree(root / name, source / "Images" / folder, dirs_exist_ok=True)
            (source / "Images" / folder / "label.csv").unlink()
            with open(source / "Labels" / folder / "label.csv", "a") as file:
                file.write((root / name / "label.csv").read_text())
    found = pack_ferplus(tmp_path / "b", source)
    for split, arrays in expected.splits.items():
        assert found.splits[split].sha256 == arrays.sha256 and found.splits[split].ids == arrays.ids
        np.testing.assert_array_equal(found.splits[split].annotations, arrays.annotations)


def test_a_tar_in_another_order_gives_the_same_pack(tmp_path, root):
    import tarfile

    with tarfile.open(tmp_path / "fer.tar", "w") as out:
        for file in sorted(root.rglob("*.*"), reverse=True):
            out.add(file, "./" + file.relative_to(root).as_posix())
    expected = pack_ferplus(tmp_path / "a", root)
    found = pack_ferplus(tmp_path / "b", tmp_path / "fer.tar")
    assert {k: (v.sha256, v.ids) for k, v in found.splits.items()} == {
        k: (v.sha256, v.ids) for k, v in expected.splits.items()
    }


def test_the_csv_pair_gives_the_same_pictures_and_skips_rows_without_a_name(tmp_path, root):
    expected = ferplus(tmp_path / "a", root)
    found = ferplus(tmp_path / "b", tree.write_csv_pair(tmp_path / "pair", blank_rows=3))
    assert found.protocol == "majority (fer2013new.csv), targets votes"
    for name, split in expected.splits.items():
        assert found.splits[name].sha256 == split.sha256 and found.splits[name].ids == split.ids
        np.testing.assert_array_equal(found.splits[name].target, split.target)


def test_rows_without_a_file_name_are_skipped(tmp_path, root):
    tree.edit(root, lambda rows: rows.insert(3, ["", "", *[0] * 9, 10]))
    assert len(ferplus(tmp_path / "store", root).splits["train"]) == tree.SIZES["train"]


def test_a_picture_that_no_row_names_is_counted(tmp_path, root):
    tree.edit(root, lambda rows: rows.pop(1), "test")
    assert ferplus(tmp_path / "store", root).notes["left_out"] == {"in no label.csv": [1, "FER2013Test/fer0032221.png"]}


def test_a_second_call_does_not_decode_and_a_changed_file_does(tmp_path, root, monkeypatch):
    ferplus(tmp_path / "store", root)
    monkeypatch.setattr("distill.data.ferplus.label_folders.decode", lambda *_: pytest.fail("decoded again"))
    again = ferplus(tmp_path / "store", root, protocol="votes", target="majority")
    assert again.protocol == "votes (label.csv), targets majority"
    monkeypatch.undo()
    picture = root / "FER2013Test" / "fer0032220.png"
    Image.fromarray(np.full((48, 48), 9, np.uint8)).save(picture)
    os.utime(picture, ns=(1, 1))
    assert (ferplus(tmp_path / "store", root).splits["test"].pixels[0] == 9).all()


def test_limit_keeps_the_first_pictures_of_each_split(tmp_path, root):
    data = ferplus(tmp_path / "store", root, limit=5)
    assert [len(split) for split in data.splits.values()] == [5, 5, 5]
    assert data.splits["train"].ids == tuple(name for name, _, _ in tree.faces()["train"][:5])


def test_notes_tell_the_counts_of_all_protocols_the_vote_file_and_the_license(tmp_path, root):
    notes = ferplus(tmp_path / "store", root).notes
    assert set(notes["counts"]) == {"pictures", *PROTOCOLS}
    assert notes["counts"]["majority"] == list(tree.SIZES.values())
    assert notes["votes"] == "label.csv" and notes["complete"] is False
    assert "research" in notes["license"]


# Protocols


def microsofts_rule(votes, mode):
    """Reference, one picture at a time as the authors' ferplus.py goes about it; None drops the picture."""
    raw = [0.0 if v <= 1 else float(v) for v in votes]
    total, kept = sum(raw), [0.0] * 10
    if mode == "majority":
        if max(raw) > 0.5 * total:
            kept[raw.index(max(raw))] = max(raw)
    else:
        part, number, valid = 0.0, 0, True
        while part < 0.75 * total and number < 3 and valid:
            top = max(raw)
            for i in range(10):
                if raw[i] == top:
                    kept[i], raw[i] = top, 0
                    part, number = part + top, number + 1
                    if i >= 8:
                        valid = False
                        if sum(kept) > top:
                            kept[i], number = 0, number - 1
                        break
        if sum(kept) <= 0.5 * total or number > 3:
            return None
    winner = int(np.argmax(kept))
    return None if sum(kept) == 0 or winner >= 8 else np.array(kept[:8]) / sum(kept[:8])


@pytest.mark.parametrize(("protocol", "target"), [("majority", "majority"), ("votes", "votes")])
def test_protocols_agree_with_the_authors_rules_picture_by_picture(protocol, target):
    rng = np.random.default_rng(0)
    votes = np.stack([rng.multinomial(10, rng.dirichlet([0.4] * 10)) for _ in range(3000)]).astype(np.float32)
    expected = [microsofts_rule(row, protocol) for row in votes]
    rows, distribution, label = rows_of(votes, protocol, target)
    assert 500 < len(rows) < 2800
    np.testing.assert_array_equal(rows, [i for i, row in enumerate(expected) if row is not None])
    np.testing.assert_allclose(distribution, [row for row in expected if row is not None], rtol=1e-6)
    np.testing.assert_array_equal(label, distribution.argmax(1))


def test_a_single_vote_is_an_outlier_for_majority_and_counts_for_argmax():
    votes = one(anger=4, neutral=1, sadness=1, fear=1, disgust=1, happiness=2)
    assert rows_of(votes, "majority")[1][0] == pytest.approx([0, 2 / 6, 0, 0, 4 / 6, 0, 0, 0])
    assert rows_of(votes, "argmax")[1][0] == pytest.approx([0.1, 0.2, 0, 0.1, 0.4, 0.1, 0.1, 0])


def test_half_of_the_votes_is_no_majority_but_an_argmax_and_the_first_tie_wins():
    votes = one(sadness=5, fear=5)
    assert len(rows_of(votes, "majority")[0]) == 0
    assert rows_of(votes, "argmax")[2].tolist() == [EMOTIONS.index("sadness")]


def test_unknown_in_front_drops_a_picture_except_for_emotions():
    votes = one(unknown=6, contempt=4)
    assert [len(rows_of(votes, protocol)[0]) for protocol in ("majority", "argmax", "votes")] == [0, 0, 0]
    rows, target, label = rows_of(votes, "emotions")
    assert rows.tolist() == [0] and label.tolist() == [7] and target[0, 7] == 1
    assert len(rows_of(one(NF=10), "emotions")[0]) == 0


def test_target_majority_is_one_hot():
    _, target, _ = rows_of(one(surprise=7, happiness=3), "majority", "majority")
    np.testing.assert_array_equal(target, np.eye(8, dtype=np.float32)[[2]])


# The real data set, where it is at hand


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    if not ARCHIVE.exists():
        pytest.skip("the real FER+ archive is not beside this repository")
    store = tmp_path_factory.mktemp("real")
    return {protocol: ferplus(store, ARCHIVE, protocol) for protocol in PROTOCOLS}


@pytest.mark.parametrize(
    ("protocol", "counts"),
    [
        ("majority", [25045, 3191, 3137]),
        ("argmax", [28385, 3555, 3545]),
        ("votes", [27947, 3508, 3507]),
        ("emotions", [28556, 3579, 3573]),
    ],
)
def test_real_counts_are_the_published_ones(real, protocol, counts):
    assert [len(split) for split in real[protocol].splits.values()] == counts
    assert real[protocol].notes["complete"] and real[protocol].notes["counts"][protocol] == counts


def test_real_test_classes_are_the_published_ones(real):
    label = real["majority"].splits["test"].label
    counts = dict(zip(EMOTIONS, np.bincount(label).tolist(), strict=True))
    assert counts == dict(
        neutral=1083, happiness=892, surprise=394, sadness=382, anger=269, disgust=16, fear=86, contempt=15
    )


def test_a_complete_data_set_with_changed_votes_is_refused(real, monkeypatch):
    from distill.data.ferplus.protocols import check_official

    counts = {name: tuple(numbers) for name, numbers in real["majority"].notes["counts"].items()}
    assert check_official("label.csv", counts, "fer.tar.gz")
    with pytest.raises(ValueError, match=r"fer.tar.gz holds all 35,710 pictures of FER\+, but protocol majority keeps"):
        check_official("label.csv", counts | {"majority": (25045, 3191, 3138)}, "fer.tar.gz")
