# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.plugin_utils._vllm_memory import Gpu, Need, bits_of, fraction_of, judged, parameters_of

RTX_3060 = Gpu("a", "rtx-3060-12gb", 12.0)
RTX_PRO = Gpu("b", "rtx-pro-4000-20gb", 20.0, slices=4)
THOR = Gpu("c", "jetson-thor-128gb", 122.0, slices=4, with_cpu=True)


def gpu(one: Gpu, slices: int) -> Gpu:
    return Gpu(one.node, one.sku, one.memory_gib, slices, one.with_cpu)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("deepseek-ai/deepseek-coder-6.7b-instruct", 6.7),
        ("TheBloke/deepseek-coder-6.7B-instruct-AWQ", 6.7),
        ("Qwen/Qwen3-0.6B", 0.6),
        ("/models/llama-3.2-1b", 1.0),
        ("meta-llama/Llama-3-70B-Instruct", 70.0),
        ("mistralai/Mixtral-8x7B-v0.1", None),
        ("openai/gpt-oss", None),
        ("org/b2b-model", None),
    ],
)
def test_parameters_in_names(model: str, expected: float | None) -> None:
    assert parameters_of(model) == expected


@pytest.mark.parametrize(
    ("model", "quantization", "bits"),
    [
        ("m-7b", None, 16),
        ("m-7b-AWQ", None, 4.5),
        ("m-7b-GPTQ-Int4", None, 4.5),
        ("m-7b-FP8", None, 8.5),
        ("m-7b", "awq_marlin", 4.5),
        ("m-7b-awq", "fp8", 8.5),
    ],
)
def test_bits_of_a_weight(model: str, quantization: str | None, bits: float) -> None:
    assert bits_of(model, quantization) == bits


@pytest.mark.parametrize(
    ("one", "fraction"),
    [(RTX_3060, 0.9), (gpu(RTX_3060, 2), 0.45), (gpu(RTX_3060, 3), 0.3), (RTX_PRO, 0.22), (THOR, 0.2), (gpu(THOR, 8), 0.1), (gpu(THOR, 1), 0.8)],
)
def test_slices_share_what_a_gpu_can_give(one: Gpu, fraction: float) -> None:
    assert fraction_of(one) == fraction
    assert fraction * one.slices <= (0.8 if one.with_cpu else 0.9) + 1e-9


@pytest.mark.parametrize(
    ("one", "need"),
    [
        pytest.param(RTX_3060, Need(3.6, 512, 4096, 1.5), id="a quantised 7B on a whole 12 GB"),
        pytest.param(RTX_PRO, Need(None, 512, 4096, 1.5), id="what is not known is not judged"),
        pytest.param(THOR, Need(15.0, 128, 16384, 1.5), id="a 7B on a quarter of Thor"),
        pytest.param(gpu(RTX_PRO, 1), Need(16.5, None, 4096, 1.5), id="exactly as much as there is"),
    ],
)
def test_what_fits(one: Gpu, need: Need) -> None:
    judged(one, fraction_of(one), need)


@pytest.mark.parametrize(
    ("one", "need", "says"),
    [
        (
            RTX_PRO,
            Need(3.6, 512, 4096, 1.5),
            [
                "20.0 GiB of rtx-pro-4000-20gb on b × 0.22 = 4.4 GiB",
                "3.6 GiB of weights + 2.0 GiB of KV cache (4096 tokens of 512 KiB) + 1.5 GiB for activations and CUDA graphs = 7.1 GiB",
                "in 2 instead of 4 slices",
                "take a smaller or more strongly quantised model",
            ],
        ),
        (gpu(RTX_PRO, 2), Need(5.0, 512, 8192, 1.5), ["in 1 instead of 2 slices", "vllm_max_model_len to at most 5120"]),
        (gpu(RTX_PRO, 1), Need(14.0, 512, 32768, 1.5), ["vllm_max_model_len to at most 5120"]),
        (RTX_3060, Need(13.0, None, 4096, 1.5), ["take a smaller"]),
    ],
)
def test_what_does_not_fit_is_refused_with_the_sum(one: Gpu, need: Need, says: list[str]) -> None:
    with pytest.raises(InputError) as refused:
        judged(one, fraction_of(one), need)
    for text in says:
        assert text in str(refused.value)


def test_advice_holds() -> None:
    """What is said to fit does fit, and a little more does not."""
    with pytest.raises(InputError) as refused:
        judged(gpu(RTX_PRO, 2), 0.45, Need(5.0, 512, 8192, 1.5))
    judged(gpu(RTX_PRO, 2), 0.45, Need(5.0, 512, 5120, 1.5))
    with pytest.raises(InputError):
        judged(gpu(RTX_PRO, 2), 0.45, Need(5.0, 512, 5120 + 512, 1.5))
    judged(gpu(RTX_PRO, 1), fraction_of(gpu(RTX_PRO, 1)), Need(5.0, 512, 8192, 1.5))
    assert "1 instead of 2" in str(refused.value)


def test_a_fraction_that_was_given_is_the_first_to_blame() -> None:
    with pytest.raises(InputError, match=r"leave vllm_gpu_memory_utilization to the role, which would take 0\.9"):
        judged(RTX_3060, 0.4, Need(6.0, None, 4096, 1.5))
