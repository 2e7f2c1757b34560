"""What this machine is good at."""

import torch


def has_bf16() -> bool:
    """Whether bf16 arithmetic is native here: on the GPU where there is one, else on the CPU."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def autocast(device: torch.device | str):
    """bf16 autocast on ``device`` where it is native, else full precision."""
    kind = torch.device(device).type
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=kind in ("cpu", "cuda") and has_bf16())
