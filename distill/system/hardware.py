"""The machine's side of a run: threads, device, precision, allocator."""

import ctypes
import os
import platform
from contextlib import nullcontext
from pathlib import Path

import torch

from distill.system import distributed as parallel
from distill.system.console import console
from distill.system.cores import cores
from distill.system.errors import ConfigError

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # glibc's mallopt(3)


def tune_allocator() -> None:
    """Keep freed memory in the process, so that every step's buffers are not page-faulted in again (glibc only)."""
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(M_TOP_PAD, 256 << 20)


def set_threads(threads: int | None) -> int:
    """Set torch's threads; null means every core this process may use, or OMP_NUM_THREADS where it is set.

    Returns:
        The number of threads in force.
    """
    typed = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]  # one number per level of nested threads
    torch.set_num_threads(threads or (int(typed) if typed.isdigit() and int(typed) else cores()))
    return torch.get_num_threads()


def pick_device(name: str) -> torch.device:
    """Return the device asked for; auto is the first GPU where there is one, else the CPU.

    Raises:
        ConfigError: it is unknown, or torch sees no GPU here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError("train.device", f"got {name}, but torch sees no GPU here. Use train.device=cpu or auto.")
    if parallel.world() > 1:
        parallel.check_device(name)
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ConfigError("train.device", f"{name} is unknown. Choose auto, cpu or cuda.") from error


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype of the forward pass for auto, fp32 or bf16; auto is bf16 where the hardware multiplies it."""
    if name == "auto" and device.type == "cuda":
        name = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    elif name == "auto":
        name = "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[name]


def autocast(device: torch.device, precision: torch.dtype):
    """Return the autocast context of a forward pass, or an empty one for float32."""
    return nullcontext() if precision == torch.float32 else torch.autocast(device.type, precision)


def fits(size: int, device: torch.device) -> bool:
    """Say whether so many bytes are kept on a GPU: a quarter of what is free, the rest is for networks and their gradients."""
    if device.type != "cuda":
        return False
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return size <= (torch.cuda.mem_get_info(device)[0] + unused) // 4


def faces_per_pass(device: torch.device) -> int:
    """Return how many faces go through a network at a time when it is only asked: on a CPU so few that caches hold their maps."""
    return 64 if device.type == "cpu" else 256


def compiles(wanted: bool, device: torch.device) -> bool:
    """Say whether the student's steps are compiled, train.compile: on a GPU alone; elsewhere a line says that they are not."""
    if wanted and device.type != "cuda":
        console.print(f"train.compile: the steps are not compiled on {device.type}, only on a GPU")
    return wanted and device.type == "cuda"


def environment() -> dict:
    """Return what a reader needs to repeat a number: versions, CPU, threads, GPU."""
    from importlib.metadata import version

    packages = ("torch", "torchvision", "timm", "numpy", "hydra-core", "omegaconf", "wandb")
    known = Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8").splitlines() if known.is_file() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": next(named, platform.processor()),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "packages": {name: version(name) for name in packages},
    }
