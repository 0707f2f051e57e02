"""How far it is from the command to a loss value."""

import ast
import re

import structure


def test_frames_from_the_command_to_a_loss_value_are_at_most_eight():
    found = structure.frames()
    assert len(found) <= 8, found
    assert found[0].startswith("distill/losses/") and "distill/pipeline/run.py:run" in found


def test_the_whole_config_is_seen_where_runs_are_checked_and_made_and_nowhere_else():
    taking = [
        f"{path.relative_to(structure.ROOT)}: {node.name}"
        for path, node in structure.functions()
        if structure.takes_whole_config(node)
    ]
    places = ("distill/run.py", "distill/build.py", "distill/config/", "distill/pipeline/")
    assert [one for one in taking if not one.startswith(places)] == []
    assert len(taking) <= 33, "give a new function the parts that it reads"


def test_contributing_where_is_what_names_what_is_there():
    text = (structure.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    places = re.findall(
        r"`([\w/]+\.py): (\w+)`", text[text.index("## Where is what") : text.index("## Add a component")]
    )
    assert len(places) > 8
    for file, name in places:
        tree = ast.parse((structure.ROOT / file).read_text(encoding="utf-8"))
        assert name in {getattr(node, "name", None) for node in tree.body}, f"{file} has no {name}"
