"""What a network costs: parameters, multiply-accumulates of one picture, bytes of its weights file, time on one core."""

import statistics
import time

import safetensors.torch
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from distill.models.feature_hooks import eval_mode
from distill.types import InputSpec


def num_parameters(model: nn.Module) -> int:
    """Number of parameters, trainable or frozen; one that two layers share counts once, buffers (running means) do not."""
    return sum(p.numel() for p in model.parameters())


@torch.no_grad()
def macs(model: nn.Module, input: InputSpec) -> int:
    """Multiply-accumulates of one forward pass of one picture in eval mode: counted FLOPs / 2.

    Convolutions, matrix products and attention are counted; additions, pooling and activations are not. A network that
    looks at a picture and at its mirror image pays for both.

    Args:
        model: the network; its modes (train, eval) are left as they were.
        input: what it wants to see.
    """
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    image = torch.zeros(1, input.channels, input.size, input.size, dtype=like.dtype, device=like.device)
    with eval_mode(model), FlopCounterMode(display=False) as counter:
        model(image)
    return counter.get_total_flops() // 2


def weight_bytes(model: nn.Module) -> int:
    """Bytes of the network's weights as a float32 safetensors file without metadata, header included.

    Whole-number buffers keep their type, tensors that share memory are written once each.
    """
    state = {}
    for name, tensor in model.state_dict().items():
        stored = tensor.detach().cpu().float() if tensor.is_floating_point() else tensor.detach().cpu()
        state[name] = stored.clone(memory_format=torch.contiguous_format)
    return len(safetensors.torch.save(state))


def profile(model: nn.Module, input: InputSpec) -> dict[str, int]:
    """The three numbers of a model table: num_parameters, macs (one picture), bytes (float32 weights file)."""
    return {"num_parameters": num_parameters(model), "macs": macs(model, input), "bytes": weight_bytes(model)}


def speed(model: nn.Module, input: InputSpec) -> dict[str, float]:
    """How fast a network answers on one thread of this machine's CPU: eval mode, float32, pictures channels last.

    Each number is the median of at least three passes after one to warm up, about a tenth of a second of them. So that a
    large network takes seconds, not minutes, the batch of 64 is halved until a pass takes about two seconds at most.

    Args:
        model: the network; on a GPU it is moved to the CPU and back. Its modes and torch's threads are left as they were.
        input: what it wants to see.

    Returns:
        latency_ms of one picture, images_per_second, and speed_batch, the pictures per pass of the latter.
    """
    device, threads = next((p.device for p in model.parameters()), torch.device("cpu")), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with eval_mode(model.cpu()):
            alone, batch = _seconds(model, input, 1), 64
            while batch > 1 and batch * alone > 2:
                batch //= 2
            together = _seconds(model, input, batch)
    finally:
        torch.set_num_threads(threads)
        model.to(device)
    return {"latency_ms": 1000 * alone, "images_per_second": batch / together, "speed_batch": batch}


@torch.no_grad()
def _seconds(model: nn.Module, input: InputSpec, batch: int, budget: float = 0.1) -> float:
    """Return the median time of a pass, of as many as fit into the budget [s], but three at least."""
    images = torch.rand(batch, input.channels, input.size, input.size, generator=torch.Generator().manual_seed(0))
    images = images.contiguous(memory_format=torch.channels_last)
    model(images)
    times: list[float] = []
    while len(times) < 3 or sum(times) < budget:
        start = time.perf_counter()
        model(images)
        times.append(time.perf_counter() - start)
    return statistics.median(times)
