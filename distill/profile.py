"""What a network costs: parameters, multiply-accumulates of one picture, bytes of its weights file."""

import safetensors.torch
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from distill.types import InputSpec


def num_parameters(model: nn.Module) -> int:
    """Number of parameters, trainable or frozen; buffers (running means) are not parameters.

    Args:
        model: the network.

    Returns:
        A count; a parameter that two layers share counts once.
    """
    return sum(p.numel() for p in model.parameters())


@torch.no_grad()
def macs(model: nn.Module, input: InputSpec) -> int:
    """Multiply-accumulates of one forward pass of one picture in eval mode: counted FLOPs / 2.

    Convolutions, matrix products and attention are counted; additions, pooling and activations are not. A network that
    looks at a picture and at its mirror image pays for both.

    Args:
        model: the network; its modes (train, eval) are left as they were.
        input: what it wants to see.

    Returns:
        A count.
    """
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    image = torch.zeros(1, input.channels, input.size, input.size, dtype=like.dtype, device=like.device)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with FlopCounterMode(display=False) as counter:
            model(image)
    finally:
        for module, mode in modes:
            module.training = mode
    return counter.get_total_flops() // 2


def weight_bytes(model: nn.Module) -> int:
    """Size of the network's weights as a float32 safetensors file without metadata.

    Args:
        model: the network.

    Returns:
        Bytes, header included; whole-number buffers keep their type, tensors that share memory are written once each.
    """
    state = {k: v.detach().cpu() for k, v in model.state_dict().items()}
    state = {
        k: (v.float() if v.is_floating_point() else v).clone(memory_format=torch.contiguous_format)
        for k, v in state.items()
    }
    return len(safetensors.torch.save(state))


def profile(model: nn.Module, input: InputSpec) -> dict[str, int]:
    """The three numbers of a model table.

    Args:
        model: the network.
        input: what it wants to see.

    Returns:
        num_parameters, macs (one picture), bytes (float32 weights file).
    """
    return {"num_parameters": num_parameters(model), "macs": macs(model, input), "bytes": weight_bytes(model)}
