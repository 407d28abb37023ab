"""Parameter sharding: every process has the whole model, or with `sharding: full` one shard of each tensor.

Sharding uses PyTorch's FSDP2, which gathers the weights of a block for its forward and backward pass. Checkpoints contain full
tensors either way, so a run can be resumed with another sharding. FSDP2 is imported only if it is used, because importing it
takes as long as importing PyTorch.
"""

from typing import TYPE_CHECKING, TypeGuard

import torch
import torch.nn as nn
from torch import Tensor

from ... import libraries
from ...checkpoint.architectures import architecture_of
from ...model import Model
from .process_group import ProcessGroup

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def distribute_model(model: Model, device: torch.device, process_group: ProcessGroup, shards: bool) -> None:
    """Broadcast the main process's weights to all processes, on `device`: whole, or as one shard per process if `shards`."""
    if not shards:
        process_group.broadcast_tensors(model.state_dict().values())
        nn.Module.to(model, device)
        return
    distributed = libraries.torch_distributed
    state_dict = distributed.checkpoint.state_dict
    weights = model.state_dict() if process_group.is_main else {}
    nn.Module.to(model, "meta")  # only the main process ever has the full weights
    mesh = distributed.device_mesh.init_device_mesh(device.type, (process_group.world_size,))
    for block in _blocks(model):
        distributed.fsdp.fully_shard(block, mesh=mesh)
    distributed.fsdp.fully_shard(model, mesh=mesh)
    distributed.fsdp.register_fsdp_forward_method(model, "loss")
    model.to_empty(device=device)
    state_dict.set_model_state_dict(
        model, weights, options=state_dict.StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    )


def broadcast_like(tensor: Tensor | None, like: Tensor, process_group: ProcessGroup) -> Tensor:
    """Broadcast the main process's `tensor` (None in other processes), with the device and sharding of `like`.

    Both have the same shape.
    """
    full = torch.empty(like.shape, dtype=like.dtype, device=like.device) if tensor is None else tensor.to(like.device)
    if not is_sharded(like):
        process_group.broadcast_tensors([full])
    return sharded_like(full, like)


def sharded_like(tensor: Tensor, like: Tensor) -> Tensor:
    """This process's shard of a full tensor, sharded as `like` is; the tensor itself if `like` is not sharded."""
    if not is_sharded(like):
        return tensor
    return libraries.torch_distributed.tensor.distribute_tensor(tensor, like.device_mesh, like.placements)


def whole(tensor: Tensor) -> Tensor:
    """The full tensor, gathered from all processes. Collective if the tensor is sharded."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """This process's shard of the tensor, which shares its memory; the tensor itself if it is not sharded."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def is_sharded(tensor: Tensor) -> "TypeGuard[DTensor]":
    """Whether the tensor is a DTensor, without importing that class."""
    return hasattr(tensor, "placements")


def _blocks(model: Model) -> nn.ModuleList:
    blocks = model.get_submodule(architecture_of(model.config).blocks)
    assert isinstance(blocks, nn.ModuleList)
    return blocks
