# SPDX-License-Identifier: Apache-2.0
"""QAT with distillation on a tiny random model: it learns, and a resumed run ends where an unbroken one does."""

import copy

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tiny_vlm import tiny_batch, tiny_vlm  # noqa: E402

from edge_vlm.errors import InputError  # noqa: E402
from offline_compress.errors import QuantizeError  # noqa: E402
from offline_compress.export.module_names import linear_names  # noqa: E402
from offline_compress.quantize.plan import default_plan  # noqa: E402
from offline_compress.quantize.replace import low_bit_layers, quantise_model  # noqa: E402
from offline_compress.train.distillation import DistillationConfig, answer_losses  # noqa: E402
from offline_compress.train.qat import QatConfig, QatTrainer, rate_factor  # noqa: E402


class SteppedBatches:
    """A few random batches, by step."""

    def batch(self, step):
        return tiny_batch(seed=step % 3)


def trainer(method="ternary", **options):
    teacher = tiny_vlm()
    student = copy.deepcopy(teacher)
    names = linear_names(student.config.to_dict())
    quantise_model(student, default_plan(student.config.to_dict(), method).resolve(names))
    return QatTrainer(student, teacher, SteppedBatches(), QatConfig(**{"steps": 30, "bf16": False, **options}))


@pytest.mark.parametrize("method", ["ternary", "binary"])
def test_training_reduces_every_loss(method):
    losses = []
    teacher_only = DistillationConfig(answer_weight=0.0)  # the labels are random
    training = trainer(method, latent_rate=1e-2, other_rate=2e-3, distillation=teacher_only)
    training.run(lambda progress: losses.append(progress.losses))
    assert len(losses) == 30
    for name in ("loss", "logits", "hidden"):
        first, last = (sum(row[name] for row in rows) for rows in (losses[:3], losses[-3:]))
        assert last < 0.9 * first, name


def test_latents_stay_in_range_and_codes_move():
    training = trainer(latent_rate=5e-2)
    before = [layer.codes_and_scale()[0] for layer in low_bit_layers(training.student)]
    training.run()
    after = [layer.codes_and_scale()[0] for layer in low_bit_layers(training.student)]
    assert all(layer.latent.abs().max() <= 1 for layer in low_bit_layers(training.student))
    assert any((a != b).any() for a, b in zip(after, before, strict=True))


def test_slow_steps_are_saved_before_many_are_taken(monkeypatch):
    saved = []
    monkeypatch.setattr("offline_compress.train.qat.SAVED_EVERY_S", 0.0)
    training = trainer(steps=5, checkpoint_every=4)
    training.run(save=lambda done: saved.append((done.step, done.due)))
    assert saved == [(1, False), (2, False), (3, False), (4, True), (5, True)]


def test_resumed_run_ends_at_the_same_weights(tmp_path):
    whole = trainer()
    whole.run()

    class Interrupted(Exception):
        pass

    def save(training):
        torch.save(training.state(), tmp_path / "checkpoint.pt")
        raise Interrupted

    with pytest.raises(Interrupted):
        trainer(checkpoint_every=12).run(save=save)
    resumed = trainer(checkpoint_every=12)
    resumed.restore(torch.load(tmp_path / "checkpoint.pt", weights_only=True), "checkpoint.pt")
    assert resumed.step == 12
    resumed.run()
    weights = resumed.student.state_dict()
    for name, expected in whole.student.state_dict().items():
        assert torch.equal(expected, weights[name]), name


def test_checkpoint_of_other_options_is_refused():
    state = trainer(steps=20).state()
    with pytest.raises(InputError, match="a.pt: made with other training options"):
        trainer(steps=30).restore(state, "a.pt")


def test_diverged_training_is_reported():
    training = trainer()
    with torch.no_grad():
        training.student.model.text_model.norm.weight.fill_(torch.inf)
    with pytest.raises(QuantizeError, match="loss of step 1"):
        training.run()


def test_rates_warm_up_and_decay():
    config = QatConfig(steps=100, warmup=0.1, final_rate=0.05)
    factors = [rate_factor(step, config) for step in range(100)]
    assert factors[0] == pytest.approx(0.1) and max(factors) == factors[9] == 1
    assert factors[-1] == pytest.approx(0.05, abs=0.01)


def test_losses_count_answer_tokens_only():
    logits, teacher = torch.randn(2, 5, 7), torch.randn(2, 5, 7)
    labels = torch.full((2, 5), -100)
    labels[0, 3], labels[1, 4] = 2, 6
    answer, divergence = answer_losses(logits, teacher, labels, 1.0)
    at = torch.stack([logits[0, 2], logits[1, 3]]).log_softmax(-1)
    wanted = torch.stack([teacher[0, 2], teacher[1, 3]]).softmax(-1)
    assert answer.item() == pytest.approx(-(at[0, 2] + at[1, 6]).item() / 2, rel=1e-5)
    assert divergence.item() == pytest.approx((wanted * (wanted.log() - at)).sum().item() / 2, rel=1e-4)
