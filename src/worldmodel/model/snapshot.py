"""A model in training as numbers and tensors, and back: weights, optimizer, and the best weights so far."""

from torch import Tensor, nn
from torch.optim import Optimizer

from worldmodel.checkpoints.content import State
from worldmodel.model.selection import BestWeights


def snapshot(model: nn.Module, optimizer: Optimizer, best: BestWeights) -> State:
    """The learning rate is not in it: it is a function of the step."""
    moments = {
        f"{number}.{name}": value
        for number, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }
    tensors = named("model", model.state_dict()) | named("optimizer", moments) | named("best", best.weights)
    return State({"best": {"step": best.step, "error": best.error}}, tensors)


def restore(model: nn.Module, optimizer: Optimizer, state: State) -> BestWeights:
    """Fill model and optimizer with what `snapshot` took of them; returns the best weights."""
    model.load_state_dict(part("model", state.tensors))
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in part("optimizer", state.tensors).items():
        number, name = key.split(".")
        moments.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
    return BestWeights(**state.numbers["best"], weights=part("best", state.tensors))


def named(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def part(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those that `named` gave this prefix, under their own names."""
    return {name.removeprefix(f"{prefix}."): each for name, each in tensors.items() if name.startswith(f"{prefix}.")}
