"""What NumPy computes in PyTorch's place. conftest.py has settled portable numerics: this process has those kernels."""

import json
import re

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from factories import make_dreams, make_episodes, make_normalize, space_of
from projects import make_project
from settling import run_settled
from worldmodel.dreams.dreamer import generate_dreams
from worldmodel.numerics.portable import FUNCTIONS

# What else of PyTorch's own operators is MKL's on a CPU.
OF_MKL = {"acos", "asin", "atan", "cos", "erf", "erfc", "erfinv", "expm1", "log10", "log1p", "log2", "sin", "tan"}
OF_MKL |= {"addbmm", "addr", "geqrf", "ormqr", "scaled_dot_product_flash_attention_for_cpu", "vdot"}


def printed(code, numerics="portable", **options):
    """By a process that has settled these numerics."""
    done = run_settled(numerics, code, **options)
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


def product(left, right):
    """By sums alone, of float64."""
    left, right = left.double(), right.double()
    return (left[..., :, :, None] * right[..., None, :, :]).sum(-2)


@pytest.fixture
def drawn():
    generator = torch.Generator().manual_seed(0)
    return lambda *shape, dtype=torch.float32: torch.randn(*shape, generator=generator, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("left", "right"),
    [((3, 4), (4, 5)), ((1, 4), (4, 1)), ((3, 0), (0, 5)), ((0, 4), (4, 5)), ((2, 3, 4), (2, 4, 5))],
)
def test_products(drawn, dtype, left, right):
    a, b = drawn(*left, dtype=dtype), drawn(*right, dtype=dtype)
    expected, out = product(a, b), torch.empty(0, dtype=dtype)
    tolerance = {"atol": 1e-5 if dtype == torch.float32 else 1e-12, "rtol": 0}
    found = a @ b
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, **tolerance)
    assert torch.equal(torch.matmul(a, b, out=out), found)
    assert torch.equal(out, found)
    # What is transposed, and what has gaps, is no other matrix.
    torch.testing.assert_close(a.mT.contiguous().mT @ b, found, **tolerance)
    torch.testing.assert_close(torch.cat([a, a], -1)[..., : a.shape[-1]] @ b, found, **tolerance)


def test_products_with_vectors(drawn):
    a, b, c = drawn(3, 4), drawn(4), drawn(3)
    expected = (a * b).sum(1)
    torch.testing.assert_close(a @ b, expected)
    torch.testing.assert_close(b @ b, b.square().sum())
    torch.testing.assert_close(torch.addmv(c, a, b, beta=0.5, alpha=2), 0.5 * c + 2 * expected)


@pytest.mark.parametrize(("beta", "alpha"), [(1, 1), (0.5, 1), (1, 2), (0, 3)])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_sums_with_products(drawn, beta, alpha, batch):
    a, b, added = drawn(*batch, 3, 4), drawn(*batch, 4, 5), drawn(5)
    add = torch.baddbmm if batch else torch.addmm
    expected = beta * added.double() + alpha * product(a, b)
    torch.testing.assert_close(add(added, a, b, beta=beta, alpha=alpha).double(), expected, atol=1e-5, rtol=0)
    whole = added.expand(*batch, 3, 5).clone()
    (whole.baddbmm_ if batch else whole.addmm_)(a, b, beta=beta, alpha=alpha)
    torch.testing.assert_close(whole.double(), expected, atol=1e-5, rtol=0)


def test_what_counts_for_nothing_may_be_nan():
    found = torch.addmm(torch.full((2, 2), torch.nan), torch.ones(2, 3), torch.ones(3, 2), beta=0)
    assert torch.equal(found, torch.full((2, 2), 3.0))


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_functions(drawn, name):
    function = getattr(torch, name)
    given = drawn(7, 5).abs().T
    expected = torch.from_numpy(getattr(np, name)(given.double().numpy()))
    torch.testing.assert_close(function(given).double(), expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(function(given.double()), expected)
    assert function(given[0, 0]).shape == ()
    out = torch.empty(0)
    assert torch.equal(function(given, out=out), out)
    changed = given.clone()
    assert getattr(changed, f"{name}_")() is changed
    assert torch.equal(changed, out)


def test_functions_of_other_types():
    assert torch.ones(2, dtype=torch.int64).exp().dtype == torch.float32
    half = torch.ones(2, dtype=torch.bfloat16)
    assert torch.equal(half.exp(), torch.tensor([2.71875, 2.71875], dtype=torch.bfloat16))


def test_what_is_not_finite_is_answered_without_a_warning():
    assert torch.equal(torch.tensor([1e9, -torch.inf]).exp(), torch.tensor([torch.inf, 0]))
    assert torch.equal(torch.tensor([0.0]).log(), torch.tensor([-torch.inf]))
    assert torch.tensor([-1.0]).sqrt().isnan().all()
    assert (torch.full((2, 2), torch.inf) @ torch.tensor([[1.0, -1.0], [-1.0, 1.0]])).isnan().all()


def test_gradients_pass_through(drawn):
    a, b, c = (drawn(*shape, dtype=torch.float64).requires_grad_() for shape in ((3, 4), (4, 5), (5,)))
    assert torch.autograd.gradcheck(lambda a, b, c: torch.addmm(c, a, b).tanh().exp().square().sqrt(), (a, b, c))
    assert torch.autograd.gradcheck(lambda a, b: torch.bmm(a[None], b[None]), (a, b))


@pytest.mark.parametrize(
    ("left", "right"), [(torch.ones(2, 3), torch.ones(2, 3)), (torch.ones(2, 3), torch.ones(3, 2).double())]
)
def test_what_cannot_be_multiplied_is_refused(left, right):
    with pytest.raises(RuntimeError, match=r"\(2, 3\) of torch.float32 by .*: these cannot be multiplied"):
        torch.mm(left, right)


CALLS = """
frames = torch.randn(3, 2, 10)
square = torch.randn(20, 20)
nn = torch.nn
attended = nn.functional.scaled_dot_product_attention(*torch.randn(3, 2, 2, 8, 16).requires_grad_())
moved = nn.functional.linear(nn.GRU(10, 20)(frames)[0][0], square, square[0]) @ square
(moved.sum() + attended.sum() + torch.einsum("ij,kj->ik", square, square).sum()).backward()
square[0] @ square @ square[1]
"""


def calls_of_mkl(numerics):
    lines = printed(CALLS, numerics, MKL_VERBOSE="1").splitlines()
    return [line for line in lines if line.startswith("MKL_VERBOSE") and "Product build" not in line]


@pytest.mark.slow
def test_portable_numerics_ask_mkl_for_no_product():
    if not torch.backends.mkl.is_available():
        pytest.skip("this PyTorch has no MKL")
    assert calls_of_mkl("fast")
    assert calls_of_mkl("portable") == []


class Called(TorchDispatchMode):
    """Names of all operators that are called within, gradients' included."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, operator, types, given=(), options=None):
        self.names.add(operator.overloadpacket.__name__)
        return operator(*given, **(options or {}))


def of_mkl(names):
    return {name for name in names if name.strip("_") in OF_MKL or re.search("linalg_(?!vector_norm)|cholesky", name)}


@pytest.mark.parametrize("encoder", ["mlp", "gru", "transformer"])
def test_a_training_calls_nothing_else_of_mkl(tmp_path, encoder):
    project = make_project(tmp_path, encoder=encoder, kl_weight=0.1, contrastive_weight=0.1)
    with Called() as called:
        project.train()
    assert {"mm", "addmm", "exp"} <= called.names
    assert of_mkl(called.names) == set()


def test_dreams_call_nothing_else_of_mkl():
    train = make_episodes(20, 9)
    teacher = {"points": 20, "transition_steps": 4}
    with Called() as called:
        generate_dreams(train, space_of(train), make_dreams(teacher), make_normalize(), 3, torch.device("cpu"))
    assert {"mm", "bmm", "exp", "sqrt"} <= called.names
    assert of_mkl(called.names) == set()


def test_torch_and_numpy_keep_to_avx2_and_both_to_the_threads_of_the_training():
    if torch.backends.cpu.get_cpu_capability() != "AVX2":
        pytest.skip("this processor has no AVX2")
    shown = printed(
        """
import json
from threadpoolctl import threadpool_info
[blas] = [each for each in threadpool_info() if each["user_api"] == "blas"]
torch_has = {"torch": torch.backends.cpu.get_cpu_capability(), "torch_threads": torch.get_num_threads()}
print(json.dumps(torch_has | {"found": np.show_config(mode="dicts")["SIMD Extensions"]["found"]} | blas))
""",
        threads=3,
    )
    found = json.loads(shown)
    assert (found["architecture"], found["num_threads"], found["found"]) == ("Haswell", 3, ["X86_V3"])
    assert (found["torch"], found["torch_threads"]) == ("AVX2", 3)
