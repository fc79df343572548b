# SPDX-License-Identifier: Apache-2.0
"""Plans: what the default decides, and what is refused."""

import numpy as np
import pytest

from custom_ops.spec import WeightFormat
from offline_compress.errors import QuantizeError
from offline_compress.export.module_names import linear_names
from offline_compress.export.weights import LinearWeights, ModelWeights
from offline_compress.quantize.formats import stored_bytes
from offline_compress.quantize.plan import Plan, Rule, default_plan
from offline_compress.quantize.report import plan_table, quantise_weights

CONFIG = {"vision_config": {"num_hidden_layers": 4}, "text_config": {"num_hidden_layers": 3}}


def methods(config, method, tied=True):
    names = linear_names(config, tied)
    return {line.name: line.method.name for line in default_plan(config, method, tied).resolve(names)}


@pytest.mark.parametrize("method", ["ternary", "binary"])
def test_default_plan_keeps_the_ends_at_int8(method):
    table = methods(CONFIG, method)
    low = {name for name, chosen in table.items() if chosen == method}
    kept = {name for name, chosen in table.items() if chosen == "int8"}
    assert len(low) == 2 * 6 + 1 * 7 and len(low) + len(kept) == len(table)
    assert {name.split(".layers.")[1][0] for name in low if "vision" in name} == {"1", "2"}
    assert {name.split(".layers.")[1][0] for name in low if "text" in name} == {"1"}
    assert "lm_head" in kept and "model.connector.modality_projection.proj" in kept


def test_default_plan_of_untied_and_of_shallow_models():
    assert methods(CONFIG, "ternary", tied=False)["model.text_model.embed_tokens"] == "int8"
    shallow = {"vision_config": {"num_hidden_layers": 1}, "text_config": {"num_hidden_layers": 2}}
    assert set(methods(shallow, "ternary").values()) == {"int8"}


def test_float_plan_covers_all():
    assert set(methods(CONFIG, "float32").values()) == {"float32"}


@pytest.mark.parametrize(
    "rules, message",
    [
        ([Rule("head", "int8")], "no rule for body.0"),
        ([Rule(".*", "int8"), Rule("haed", "int8")], "'haed' matches no module"),
        ([Rule(".*", "int8"), Rule("head", "ternary")], "earlier rules leave nothing to 'head'"),
        ([Rule(".*", "int7")], "no quantisation method named 'int7'"),
        ([Rule("(", "int8")], "no regular expression"),
    ],
)
def test_misfitting_plans_are_refused_by_name(rules, message):
    with pytest.raises(QuantizeError, match=message.replace("(", r"\(")):
        Plan("mine", tuple(rules)).resolve(["body.0", "head"])


def test_first_matching_rule_decides():
    table = Plan("mine", (Rule("body.0", "binary"), Rule("body.*", "ternary"))).resolve(["body.0", "body.1"])
    assert [line.method.name for line in table] == ["binary", "ternary"]


@pytest.mark.parametrize(
    "weight_format, expected",
    [
        (WeightFormat.TERNARY, 2 * 3 * 64 + 17 * 4),  # 2 row blocks, 33 / 16 -> 3 column blocks
        (WeightFormat.BINARY, 2 * 2 * 64 + 17 * 4),
        (WeightFormat.INT8, 2 * 9 * 64 + 17 * 4),
        (WeightFormat.FLOAT32, 4 * 17 * 33),
    ],
)
def test_stored_bytes_follow_the_packed_layout(weight_format, expected):
    assert stored_bytes(weight_format, 17, 33) == expected
    assert stored_bytes(weight_format, 17, 33, has_bias=True) == expected + 17 * 4


def test_quantised_weights_and_report():
    rng = np.random.default_rng(0)
    linears = {name: LinearWeights.of_float(rng.normal(size=(8, 16))) for name in ("a", "b", "c")}
    table = Plan("mine", (Rule("a", "int8", "first"), Rule("b", "ternary"), Rule("c", "float32"))).resolve(linears)
    quantised, rows = quantise_weights(ModelWeights({}, linears, {}), table)
    assert [quantised[name].format.name for name in "abc"] == ["INT8", "TERNARY", "FLOAT32"]
    assert rows[0].relative_error < 1e-3 < rows[1].relative_error and rows[2].relative_error == 0
    assert rows[0].why == "first" and rows[1].bits == 2
    assert plan_table(rows, "mine").row_count == 3


def test_damaged_matrix_is_named():
    linears = {"encoder.fc1": LinearWeights.of_float(np.full((4, 4), np.nan))}
    with pytest.raises(QuantizeError, match="encoder.fc1: 16 of 16"):
        quantise_weights(ModelWeights({}, linears, {}), Plan("p", (Rule(".*", "ternary"),)).resolve(linears))
