"""How far it is from the command to a loss value."""

import structure


def test_frames_from_the_command_to_a_loss_value_are_at_most_eight():
    found = structure.frames()
    assert len(found) <= 8, found
    assert found[0].startswith("distill/losses/") and "distill/pipeline/run.py:run" in found
