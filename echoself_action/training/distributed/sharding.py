"""Where a model's tensors lie: whole in every process, or, with `sharding: full`, each process a part of every one.

Sharding is PyTorch's FSDP2: a block's weights come together when it computes, and are parted again. Checkpoints hold whole
tensors by the model's own names either way, so that a run goes on with another sharding, or none. What shards is loaded
only where something is sharded: it takes as long as PyTorch itself.
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


def place(model: Model, device: torch.device, process_group: ProcessGroup, shards: bool) -> None:
    """Give every process the main process's weights, on its `device`: all of them, or its part."""
    if not shards:
        process_group.broadcast_tensors(model.state_dict().values())
        nn.Module.to(model, device)
        return
    distributed = libraries.torch_distributed
    state_dict = distributed.checkpoint.state_dict
    weights = model.state_dict() if process_group.is_main else {}
    nn.Module.to(model, "meta")  # no process but the main process ever has all of it
    mesh = distributed.device_mesh.init_device_mesh(device.type, (process_group.world_size,))
    for block in _blocks(model):
        distributed.fsdp.fully_shard(block, mesh=mesh)
    distributed.fsdp.fully_shard(model, mesh=mesh)
    distributed.fsdp.register_fsdp_forward_method(model, "loss")
    model.to_empty(device=device)
    state_dict.set_model_state_dict(
        model, weights, options=state_dict.StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    )


def placed_like(tensor: Tensor | None, like: Tensor, process_group: ProcessGroup) -> Tensor:
    """The main process's `tensor` (the others give None), lying as `like` does, whose shape it has."""
    whole = torch.empty(like.shape, dtype=like.dtype, device=like.device) if tensor is None else tensor.to(like.device)
    if not is_sharded(like):
        process_group.broadcast_tensors([whole])
    return parted_like(whole, like)


def parted_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Of a whole tensor the part that this process has of `like`; all of it, where that is whole."""
    if not is_sharded(like):
        return tensor
    return libraries.torch_distributed.tensor.distribute_tensor(tensor, like.device_mesh, like.placements)


def whole(tensor: Tensor) -> Tensor:
    """The tensor with the parts of all processes, which all have to ask for it."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def is_sharded(tensor: Tensor) -> "TypeGuard[DTensor]":
    """Whether it is a DTensor, told by what only those have."""
    return hasattr(tensor, "placements")


def _blocks(model: Model) -> nn.ModuleList:
    blocks = model.get_submodule(architecture_of(model.config).blocks)
    assert isinstance(blocks, nn.ModuleList)
    return blocks
