"""Feature maps by name: every network that we have answers them, no network is changed, and none pays while nothing is asked."""

import copy

import pytest
import torch
from mapped_nets import cern, features, hooks, inception, micro, pictures, swin, teacher, timm_net, vit
from torch import nn

from distill.losses.base.feature_loss import regressor
from distill.losses.base.objective import Objective
from distill.losses.ce import CrossEntropy
from distill.losses.hint import Hint
from distill.losses.kd import KnowledgeDistillation
from distill.models.feature_hooks import attach_hooks, detach_hooks, inspect_layers
from distill.training.optim import ModelEma
from distill.types import InputSpec, Outputs
from teachers.ensemble import Ensemble

# Names


def test_stages_are_the_last_outermost_map_of_each_resolution_fine_to_coarse():
    found = inspect_layers(timm_net(size=64))
    assert [layer.name for layer in found.stages] == [
        f"net.{name}" for name in ("act1", "layer1", "layer2", "layer3", "layer4")
    ]
    shapes = [(64, 32, 32), (64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]
    assert [layer.shape for layer in found.stages] == shapes
    assert [layer.name for layer in inspect_layers(timm_net("convnext_atto", 64)).stages][:3] == [
        f"net.stages.{n}" for n in range(3)
    ]
    assert [layer.name for layer in inspect_layers(micro()).stages] == ["conv1", "conv2"]


def test_a_layer_is_found_by_stage_embedding_name_end_or_as_a_modules_input():
    found = inspect_layers(timm_net(size=64))
    assert found.find("stage4", "k") == found.find("net.layer3", "k") == found.find("layer3", "k")
    assert found.find("layer3", "k").shape == (256, 4, 4)
    assert found.find("embedding", "k") == found.find("fc:in", "k")
    assert found.find("embedding", "k").shape == (512,)
    assert found.find("layer4.0.conv1:in", "k").shape == (256, 4, 4)


@pytest.mark.parametrize("make, width", [(timm_net, 512), (micro, 16), (cern, 64), (vit, 192), (swin, 192)])
def test_the_embedding_is_what_the_classifier_sees(make, width):
    network = make()
    assert inspect_layers(network).embedding.shape == (width,)
    (vector,) = features(network, "embedding")
    assert vector.shape == (3, width) and vector.std(0).max() > 0


def test_an_unknown_name_lists_what_there_is_and_what_is_near():
    with pytest.raises(
        ValueError, match=r"loss\.hint\.teacher: there is no layer 'layer9'\. Choose stage1 \(net\.act1\), .*"
    ) as error:
        inspect_layers(timm_net()).find("layer9", "loss.hint.teacher")
    for word in ("stage4 (net.layer3)", "embedding (net.fc:in)", "or one like net.layer", "modules can be named"):
        assert word in str(error.value)


def test_an_end_that_several_names_share_lists_them():
    found = inspect_layers(timm_net())
    with pytest.raises(ValueError, match=r"k: '0\.conv1' is the end of 4 names\. Type one of net\.layer1\.0\.conv1, "):
        found.find("0.conv1", "k")
    assert found.find("conv1", "k").name == "net.conv1", "as timm names its own first convolution"


def test_a_survey_leaves_modes_hooks_buffers_and_the_random_state_as_they_were():
    network = timm_net().train()
    network.net.bn1.eval()
    modes = [module.training for module in network.modules()]
    before, state = {k: v.clone() for k, v in network.state_dict().items()}, torch.get_rng_state()
    inspect_layers(network)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert hooks(network) == 0 and torch.equal(torch.get_rng_state(), state)


# What is taken


def test_a_map_is_what_the_module_answered():
    network = micro()
    conv2, embedding = features(network, "conv2", "embedding")
    x = pictures(network)
    with torch.no_grad():
        by_hand = network.conv2(network.conv1(x).relu())
        hidden = network.fc(by_hand.relu().permute(0, 2, 3, 1).flatten(1)).relu()
    assert torch.equal(conv2, by_hand) and torch.allclose(embedding, hidden, atol=1e-6)


def test_cern_answers_a_row_for_each_picture_and_not_one_for_its_mirror_image_too():
    network = cern()
    last, embedding = features(network, f"stage{len(inspect_layers(network).stages)}", "embedding")
    assert len(last) == len(embedding) == 3
    seen = []
    hook = network.get_submodule(inspect_layers(network).stages[-1].name).register_forward_hook(
        lambda m, a, y: seen.append(y)
    )
    with torch.no_grad():
        network(pictures(network))
    hook.remove()
    assert len(seen[0]) == 6, "the network itself sees pictures and mirror images"
    assert torch.equal(last, seen[0][:3]) and not torch.allclose(last, seen[0][3:])


def test_a_picture_alone_answers_as_in_a_batch():
    for make in (cern, micro, vit, swin, timm_net, inception):
        network = make()
        found, images = inspect_layers(network), pictures(network)
        asked = [*found.stages, found.embedding]
        attach_hooks(network, asked)
        with torch.no_grad():
            whole, alone = network.eval()(images).features, network(images[1:2]).features
        for layer in asked:
            assert whole[layer.name].shape == (3, *layer.shape), (make, layer)
            assert torch.allclose(whole[layer.name][1:2], alone[layer.name], atol=1e-4), (make, layer)


def test_the_tokens_of_a_vision_transformer_become_maps_without_the_class_token():
    network = vit()
    found = inspect_layers(network)
    assert found.find("blocks.0", "k").shape == found.find("patch_embed", "k").shape == (192, 4, 4)
    block, patches = features(network, "blocks.0", "patch_embed")
    tokens = []
    network.net.blocks[0].register_forward_hook(lambda m, a, y: tokens.append(y))
    with torch.no_grad():
        network(pictures(network))
    assert torch.equal(block[:, :, 2, 3], tokens[0][:, 1 + 4 * 2 + 3])
    assert torch.equal(patches.flatten(2).transpose(1, 2), network.net.patch_embed(pictures(network)))


def test_channels_last_maps_of_swin_become_maps_and_its_convolution_stays_one():
    network = swin()
    found = inspect_layers(network)
    assert [layer.shape for layer in found.stages] == [(96, 16, 16), (192, 8, 8)]
    assert found.find("patch_embed.proj", "k").shape == (96, 16, 16)
    first, proj = features(network, "stage1", "patch_embed.proj")
    with torch.no_grad():
        patches = network.net.patch_embed(pictures(network))
        assert torch.allclose(first, network.net.layers[0](patches).permute(0, 3, 1, 2), atol=1e-5)
        assert torch.equal(proj, network.net.patch_embed.proj(pictures(network)))


def test_what_has_no_row_for_each_picture_is_not_offered():
    names = inspect_layers(swin()).layers
    assert "net.layers.0.blocks.0" in names
    assert "net.layers.0.blocks.0.attn.qkv" not in names, "rows of windows, not of pictures"


class Twice(nn.Module):
    """Calls one module twice and another's answer is a tuple."""

    def __init__(self):
        super().__init__()
        self.input = InputSpec(8)
        self.conv, self.norm, self.out = nn.Conv2d(1, 1, 3, padding=1), nn.Identity(), nn.Linear(64, 8)

    def forward(self, x):
        logits = self.out(self.norm(self.conv(self.conv(x))).flatten(1))
        return Outputs(logits, logits[:, None], {})


def test_a_module_that_is_called_twice_is_not_offered():
    found = inspect_layers(Twice())
    assert {"conv", "conv:in"}.isdisjoint(found.layers) and {"norm", "norm:in", "out:in"} <= found.layers.keys()
    with pytest.raises(ValueError, match="k: there is no layer 'conv'"):
        found.find("conv", "k")


def test_what_the_network_overwrites_in_place_is_copied_and_nothing_else():
    network = timm_net(size=64)
    found = inspect_layers(network)
    overwritten = {name for name, layer in found.layers.items() if layer.overwritten}
    assert {"net.bn1", "net.act1:in", "net.layer1.0.bn2"} <= overwritten
    assert overwritten.isdisjoint({"net.layer1", "net.act1", "net.conv1", "net.fc:in", "net.layer1.0.act2"})
    normed, given, activated = features(network, "net.bn1", "net.act1:in", "net.act1")
    with torch.no_grad():
        by_hand = network.net.bn1(network.net.conv1(pictures(network)))
    assert torch.equal(normed, by_hand) and torch.equal(given, by_hand) and by_hand.min() < 0
    assert torch.equal(activated, by_hand.relu())


# No network is changed


def test_no_hook_exists_while_no_loss_asks_for_maps():
    student, taught_by = micro(), teacher()
    objective = Objective({"ce": CrossEntropy(), "kd": KnowledgeDistillation()}, {"ce": 0.1, "kd": 0.9})
    objective.bind(student, taught_by)
    assert hooks(student) == hooks(taught_by) == 0
    assert student(pictures(student)).features == {}
    Objective({"hint": Hint()}, {"hint": 1.0}).bind(student, taught_by)
    assert hooks(student) == hooks(taught_by) == 3, "one on a layer, two on the network"


def test_untap_takes_every_hook_off_and_a_layer_asked_twice_is_taken_once():
    network = micro()
    layers = [inspect_layers(network).find(name, "k") for name in ("conv1", "conv2", "conv2:in", "embedding")]
    attach_hooks(network, layers[:2])
    attach_hooks(network, layers)
    assert hooks(network) == 2 + len(layers)
    assert network(pictures(network)).features.keys() == {layer.name for layer in layers}
    detach_hooks(network)
    assert hooks(network) == 0 and network(pictures(network)).features == {}
    detach_hooks(network)


@pytest.mark.parametrize("make", [cern, micro, vit, timm_net])
def test_the_state_and_the_logits_are_those_of_the_network_without_taps(make):
    plain, tapped = make().eval(), make().eval()
    attach_hooks(tapped, inspect_layers(tapped).stages)
    ours, theirs = tapped.state_dict(), plain.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert torch.equal(tapped(pictures(tapped)).logits, plain(pictures(plain)).logits)
    names = [[name for name, _ in network.named_parameters()] for network in (tapped, plain)]
    assert names[0] == names[1]


def test_no_map_outlives_its_forward_pass_nor_the_next_one_where_that_raised():
    network = micro()
    features(network, "conv1", "conv2")
    found, later = [network._feature_hooks.features.copy()], network.conv2.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        network(pictures(network))
    later.remove()
    network.conv1.register_forward_pre_hook(lambda *_: found.append(dict(network._feature_hooks.features)))
    network(pictures(network))
    assert found == [{}, {}]


def test_a_copy_answers_its_own_maps_and_the_original_its_own():
    network = micro()
    (before,) = features(network, "conv2")
    twin = copy.deepcopy(network)
    with torch.no_grad():
        twin.conv1.weight.mul_(-1)
        theirs, ours = twin(pictures(twin)).features, network(pictures(network)).features
    assert theirs.keys() == ours.keys() == {"conv2"}
    assert torch.equal(ours["conv2"], before) and not torch.allclose(theirs["conv2"], before)
    detach_hooks(twin)
    assert hooks(twin) == 0 and hooks(network) == 3


def test_a_moving_average_follows_a_tapped_network_and_its_weights_answer_their_maps():
    plain, network = micro(), micro()
    features(network, "conv2")
    average = ModelEma(network, 0.9)
    assert average.values.keys() == plain.state_dict().keys()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    average.update(network)
    network.load_state_dict(average.values)
    plain.load_state_dict(average.values)
    attach_hooks(plain, inspect_layers(plain).stages)
    with torch.no_grad():
        assert torch.equal(network(pictures(network)).features["conv2"], plain(pictures(plain)).features["conv2"])


# Refusals


def test_a_network_without_anything_inside_gets_a_sentence():
    network = Twice()
    network.forward = lambda x: Outputs(x.flatten(1), x[:, 0], {})  # calls no module
    with pytest.raises(ValueError, match=r"Twice: no module of this network answers .* loss=\[ce,kd\]"):
        inspect_layers(network)


def test_an_ensemble_has_no_layers_of_its_own():
    with pytest.raises(ValueError, match=r"the layers of .* are those of several networks. .*teacher=resnet50"):
        Objective({"hint": Hint()}, {"hint": 1.0}).bind(micro(), Ensemble([teacher(), teacher()]))


def test_a_map_and_a_vector_do_not_meet():
    loss = Objective({"hint": Hint("conv2", "embedding")}, {"hint": 1.0})
    with pytest.raises(
        ValueError, match=r"loss\.hint: the student's layer answers \[32, 11, 11\], the teacher's \[512\]; name two"
    ):
        loss.bind(micro(), teacher())


def test_tokens_meet_as_many_tokens():
    assert regressor((9, 256), (9, 128), "hint")(torch.zeros(2, 9, 256)).shape == (2, 9, 128)
    with pytest.raises(ValueError, match=r"loss\.hint: .* \[4, 256\], the teacher's \[9, 128\]; .* as many tokens"):
        regressor((4, 256), (9, 128), "hint")


def test_as_many_layers_of_the_student_as_of_the_teacher_are_asked_for():
    loss = Objective({"hint": Hint(["conv1", "conv2"], "layer3")}, {"hint": 1.0})
    with pytest.raises(
        ValueError, match=r"loss\.hint: 2 layers of the student \(conv1, conv2\) for 1 of the teacher \(net\.layer3\)"
    ):
        loss.bind(micro(), teacher())
