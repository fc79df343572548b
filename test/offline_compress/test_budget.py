# SPDX-License-Identifier: Apache-2.0
"""Plans under a byte budget, and plans that a user wrote."""

import itertools

import numpy as np
import pytest
from tiny_model import CONFIG, random_tensors

from edge_vlm.errors import InputError
from offline_compress.errors import QuantizeError
from offline_compress.export.module_names import linear_names
from offline_compress.export.weights import ModelWeights
from offline_compress.quantize import budget as budgets
from offline_compress.quantize.budget import Choice, FusedMatrices, plan_under_budget, spend
from offline_compress.quantize.formats import stored_bytes
from offline_compress.quantize.plan_file import plan_of, read_plan

METHODS = {"ternary": 30.0, "int2-g64": 25.0, "int3-g64": 6.0, "int4-g64": 1.0, "int8": 0.01}


@pytest.fixture(scope="module")
def weights():
    return ModelWeights.from_tensors(CONFIG, random_tensors(), "a random model")


def losses(weights, important="text_model"):
    return {
        name: {method: loss * (100 if important in name else 1) for method, loss in METHODS.items()}
        for name in weights.linears
    }


def least(weights):
    """Bytes of the smallest plan."""
    with pytest.raises(QuantizeError) as caught:
        plan_under_budget(weights, losses(weights), 1)
    return 1e6 * float(caught.value.remedy.split()[2])


def planned_bytes(weights, table):
    shapes = {name: (w.out_features, w.in_features, w.bias is not None) for name, w in weights.linears.items()}
    return sum(stored_bytes(line.method.format, *shapes[line.name], line.method.group) for line in table)


def test_greedy_is_near_the_best_of_all_plans():
    groups = [
        FusedMatrices((str(i),), (Choice("a", 10, 9.0 * i), Choice("b", 20, 4.0 * i), Choice("c", 40, 1.0)))
        for i in range(1, 6)
    ]
    everything = list(itertools.product(*(group.choices for group in groups)))
    for budget in (50, 90, 120, 155, 200):
        best = min(sum(c.loss for c in plan) for plan in everything if sum(c.bytes for c in plan) <= budget)
        chosen = spend([group.hull() for group in groups], budget)
        assert sum(c.bytes for c in chosen) <= budget
        assert sum(c.loss for c in chosen) <= 1.3 * best
    assert spend([group.hull() for group in groups], 49) is None


def test_more_bytes_never_cost_loss_and_bits_go_where_they_count(weights):
    names = linear_names(CONFIG)
    found = []
    for budget in (round(least(weights) * factor) for factor in (1.05, 1.2, 1.5, 4)):
        chosen = plan_under_budget(weights, losses(weights), budget)
        table = chosen.resolve(names)
        assert planned_bytes(weights, table) <= budget
        found.append(expected_loss(weights, chosen))
    assert found == sorted(found, reverse=True) and found[-1] < found[0]
    table = plan_under_budget(weights, losses(weights), round(1.2 * least(weights))).resolve(names)
    bits = {
        half: [line.method.bits for line in table if f"{half}.layers" in line.name]
        for half in ("encoder", "text_model")
    }
    assert sum(bits["text_model"]) / len(bits["text_model"]) > sum(bits["encoder"]) / len(bits["encoder"])


def test_the_budget_is_spent_whatever_stands_beside_the_matrices(weights):
    """Alignment takes some bytes more or less in each plan; a near miss is no reason to give up what is left."""
    rng, smallest = np.random.default_rng(0), least(weights)
    uneven = {
        name: {method: loss * rng.uniform(0.2, 3) for method, loss in found.items()}
        for name, found in losses(weights).items()
    }
    for wanted in np.linspace(1.05, 1.7, 60) * smallest:
        taken = budgets.planned_bytes(weights, plan_under_budget(weights, uneven, int(wanted)))
        assert 0.9 * wanted <= taken <= wanted


def test_what_dense_ternary_weights_save_is_spent(weights):
    budget = round(1.1 * least(weights))
    plain = plan_under_budget(weights, losses(weights), budget)
    dense = plan_under_budget(weights, losses(weights), budget, dense_ternary=True)
    assert 0.9 * budget <= budgets.planned_bytes(weights, dense, dense_ternary=True) <= budget
    assert expected_loss(weights, dense) < expected_loss(weights, plain)


def expected_loss(weights, plan):
    table = plan.resolve(linear_names(CONFIG))
    return sum(losses(weights)[line.name].get(line.method.name, 0) for line in table)


def test_fused_matrices_share_a_format_and_tied_tables_stay_int8(weights):
    table = {
        line.name: line.method.name
        for line in plan_under_budget(weights, losses(weights), round(1.1 * least(weights))).resolve(
            linear_names(CONFIG)
        )
    }
    for block in (f"model.text_model.layers.{i}" for i in range(4)):
        assert len({table[f"{block}.self_attn.{part}_proj"] for part in "qkv"}) == 1
        assert table[f"{block}.mlp.gate_proj"] == table[f"{block}.mlp.up_proj"]
    assert table["lm_head"] == "int8"


def test_a_budget_below_the_smallest_plan_is_refused_before_formats_are_measured(weights):
    with pytest.raises(QuantizeError, match=r"the smallest plan takes 0.\d+ MB"):
        budgets.check_budget(weights, METHODS, 10_000)
    budgets.check_budget(weights, METHODS, round(1.01 * least(weights)))


def test_a_budget_below_the_smallest_plan_says_what_that_takes(weights):
    with pytest.raises(QuantizeError, match=r"a budget of 0.01 MB; the smallest plan takes 0.\d+ MB") as caught:
        plan_under_budget(weights, losses(weights), 10_000)
    assert "--budget-mb" in caught.value.remedy


def test_a_plan_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("default: ternary\nrules:\n- {modules: lm_head, method: int8, why: logits}\n")
    table = read_plan(path).resolve(["body.0", "lm_head"])
    assert [(line.method.name, line.why) for line in table] == [("ternary", "default"), ("int8", "logits")]


@pytest.mark.parametrize(
    "text, error, message",
    [
        ("rules: [{modules: 'b.*', method: int8}, {modules: '.*y', method: binary}]", QuantizeError, "both match body"),
        ("default: ternary\nrules: [{modules: haed, method: int8}]", QuantizeError, "'haed' matches no module"),
        ("rules: [{modules: body, method: int8}]", QuantizeError, "no rule for head"),
        ("rules: [{modules: body, methd: int8}]", InputError, "mine.yaml: rule 1: expected modules, method"),
        ("rules: {a: b}", InputError, "rules is no list"),
        ("- 3", InputError, "a plan holds `rules` and `default`"),
        ("a: [", InputError, "not valid YAML"),
    ],
)  # fmt: skip
def test_misfitting_plans_are_refused(tmp_path, text, error, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(error, match=message):
        read_plan(path).resolve(["body", "head"])
    with pytest.raises(InputError, match="absent.yaml: cannot be read"):
        read_plan(tmp_path / "absent.yaml")


def test_an_empty_plan_names_nothing():
    with pytest.raises(QuantizeError, match="no rule for body"):
        plan_of({"rules": []}, "mine").resolve(["body"])
