import os
from pathlib import Path

import numpy as np
import pytest
import torch

from settling import run_settled
from worldmodel.core.params import Compute
from worldmodel.numerics import setup
from worldmodel.numerics.pinning import can_be_pinned
from worldmodel.numerics.setup import PORTABLE, bits, configure

FOUND = "print(torch.backends.cpu.get_cpu_capability())"


def compute(**fields):
    return Compute(**({"history": 1, "threads": 1, "numerics": "portable", "device": "cpu"} | fields))


def test_portable_is_refused_once_something_else_has_computed():
    if not can_be_pinned() or "avx512f" not in Path("/proc/cpuinfo").read_text().split():
        pytest.skip("this processor has no more than AVX2")
    done = run_settled("portable", FOUND, before="torch.backends.cpu.get_cpu_capability()")
    assert done.returncode == 1
    assert "train.numerics is portable, and PyTorch has already computed with" in done.stderr


def test_portable_is_refused_where_numpy_computes_with_more(monkeypatch):
    monkeypatch.setattr(np, "show_config", lambda mode: {"SIMD Extensions": {"found": ["X86_V3", "X86_V4"]}})
    with pytest.raises(ValueError, match=r"NumPy was loaded with X86_V4 in this process"):
        configure(compute())


def test_fast_leaves_the_choice_to_the_environment():
    assert run_settled("fast", FOUND, ATEN_CPU_CAPABILITY="default").stdout == "DEFAULT\n"


@pytest.mark.skipif(not can_be_pinned(), reason="this processor has no AVX2")
def test_these_tests_compute_portably():
    assert torch.backends.cpu.get_cpu_capability() in ("AVX2", "DEFAULT")
    assert {name: os.environ[name] for name in PORTABLE} == PORTABLE


def test_settled_threads_are_used_and_only_deterministic_algorithms():
    try:
        configure(compute(threads=2))
        assert torch.get_num_threads() == 2
    finally:
        assert configure(compute()) == torch.device("cpu")
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()


def test_a_device_that_is_not_there_is_named():
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(ValueError, match=r"train\.device is cuda, .* use train\.device: cpu"):
        configure(compute(device="cuda"))


def test_what_cannot_be_promised_is_said_with_what_computed():
    cpu, found = torch.device("cpu"), torch.backends.cpu.get_cpu_capability()
    fast = bits(compute(numerics="fast"), cpu)
    assert fast == {"computed_by": found, "same_on": "processors of the same kind, if anywhere"}


def test_portable_bits_are_promised_on_avx2():
    if torch.backends.cpu.get_cpu_capability() != "AVX2":
        pytest.skip("this processor has no AVX2")
    promised = bits(compute(numerics="portable"), torch.device("cpu"))
    assert promised == {"computed_by": "AVX2", "same_on": "every x86-64 processor with AVX2"}


def test_another_family_is_said_once_and_promised_nothing(monkeypatch, capsys):
    monkeypatch.setattr(setup, "can_be_pinned", lambda: False)
    setup._say_family.cache_clear()
    configure(compute())
    assert "they hold for its family" in capsys.readouterr().err
    setup._say_family.cache_clear()  # as in a process of its own
    setup.configure_as()()
    assert not capsys.readouterr().err
    assert bits(compute(), torch.device("cpu"))["same_on"] == setup.SAME_KIND


def test_a_gpu_is_named_with_its_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A GPU")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    found = bits(compute(device="cuda"), torch.device("cuda"))
    assert found == {"computed_by": "A GPU, CUDA 13.0", "same_on": "processors of the same kind, if anywhere"}
