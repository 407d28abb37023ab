import pytest
import torch

from echoself_action.training.optim.muon import Muon, orthogonalize


def updates(matrix: torch.Tensor, gradient: torch.Tensor, side_by_side: int = 1) -> torch.Tensor:
    parameter = torch.nn.Parameter(matrix.clone())
    parameter.grad = gradient.clone()
    Muon([{"params": [parameter], "side_by_side": side_by_side}], lr=1.0, weight_decay=0.0, dtype=torch.float32).step()
    return parameter.detach() - matrix


@pytest.mark.parametrize("columns", [16, 64])
def test_newton_schulz_brings_singular_values_close_to_one(columns: int) -> None:
    torch.manual_seed(0)
    left, right = torch.linalg.qr(torch.randn(16, 16)).Q, torch.linalg.qr(torch.randn(columns, 16)).Q
    matrix = left @ torch.diag(torch.logspace(-2, 0, 16)) @ right.t()  # condition number 100
    values = torch.linalg.svdvals(orthogonalize(matrix[None], torch.float32))
    assert values.min() > 0.3
    assert values.max() < 1.7


def test_muon_update_in_float16_with_tiny_gradients_equals_float32() -> None:
    torch.manual_seed(0)
    gradient, found = torch.randn(16, 64) * 1e-6, []
    for dtype in (torch.float16, torch.float32):
        parameter = torch.nn.Parameter(torch.zeros(16, 64))
        parameter.grad = gradient.clone()
        Muon([{"params": [parameter]}], lr=1.0, weight_decay=0.0, dtype=dtype).step()
        found.append(parameter.detach())
    half, full = found
    assert (half - full).norm() < 0.01 * full.norm()


def test_batched_newton_schulz_equals_one_matrix_at_a_time() -> None:
    torch.manual_seed(0)
    both = torch.randn(2, 16, 64)
    together = orthogonalize(both, torch.float32)
    alone = torch.cat([orthogonalize(one[None], torch.float32) for one in both])
    assert torch.allclose(together.float(), alone.float(), atol=1e-4)


@pytest.mark.parametrize("shape", [(16, 64), (64, 16)])
def test_muon_update_has_the_rms_of_adamw(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    update = updates(torch.zeros(shape), torch.randn(shape))
    assert update.square().mean().sqrt() == pytest.approx(0.2, rel=0.35)


def test_muon_update_of_a_transposed_gradient_is_transposed() -> None:
    torch.manual_seed(0)
    gradient = torch.randn(16, 64)
    wide, tall = updates(torch.zeros(16, 64), gradient), updates(torch.zeros(64, 16), gradient.t())
    assert torch.allclose(wide, tall.t(), atol=1e-4)


def test_muon_orthogonalizes_query_key_and_value_separately() -> None:
    torch.manual_seed(0)
    gradient = torch.randn(16, 48)
    together = updates(torch.zeros(16, 48), gradient, side_by_side=3)
    apart = torch.cat([updates(torch.zeros(16, 16), piece) for piece in gradient.chunk(3, 1)], 1)
    assert torch.allclose(together, apart, atol=1e-4)


def test_muon_limits_the_batch_of_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    def stepped() -> list[torch.Tensor]:
        torch.manual_seed(0)
        parameters = [torch.nn.Parameter(torch.randn(16, 48)) for _ in range(5)]
        for parameter in parameters:
            parameter.grad = torch.randn(16, 48)
        Muon([{"params": parameters, "side_by_side": 3}], lr=0.1, weight_decay=0.1, dtype=torch.float32).step()
        return [parameter.detach() for parameter in parameters]

    together = stepped()
    monkeypatch.setattr("echoself_action.training.optim.muon._MAX_BATCH_ELEMENTS", 2 * 16 * 48)
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(stepped(), together, strict=True))
