// SPDX-License-Identifier: Apache-2.0
#include "operator.h"
#include "sample.h"

namespace edge_vlm {
namespace {

class SampleOperator final : public Operator {
 public:
  SampleOperator(const SampleAttributes& attributes, DelegateState& state)
      : vocabulary_(attributes.vocab_size), state_(state) {
    expect_range("vocab_size", vocabulary_, 1, kMaxRows);
  }

  void prepare(const Node& node) override {
    node.expect_inputs(4);
    node.expect(0, "logits", kTfLiteFloat32, {kAnySize, vocabulary_});
    node.expect(1, "positions", kTfLiteInt32, {kAnySize});
    if (node.rows(1) < node.rows(0)) throw Fault("%d positions for %d rows of logits", node.rows(1), node.rows(0));
    node.expect(2, "temperature", kTfLiteFloat32, {1});
    node.expect(3, "choice", kTfLiteInt32, {2});
    node.resize_output(node.rows(0), 2);
  }

  void eval(const Node& node) override {
    const float* logits = node.data<float>(0);
    const int32_t* positions = node.data<int32_t>(1) + node.rows(1) - node.rows(0);
    const int32_t* choice = node.data<int32_t>(3);
    const Sampling sampling{node.data<float>(2)[0], choice[0], static_cast<uint32_t>(choice[1])};
    if (!(sampling.temperature >= 0 && sampling.temperature < 3.4e38f) || sampling.top_k < 0)
      throw Fault("temperature %g, top_k %d: neither may be negative or infinite", sampling.temperature, sampling.top_k);
    float* y = node.output_data();
    for (int row = 0; row < node.rows(0); row++, logits += vocabulary_, y += 2) {
      const LogitSummary summary = state_.kernels.summarise(logits, vocabulary_);
      const int token = draw(logits, vocabulary_, summary, sampling, positions[row]);
      y[0] = static_cast<float>(token);
      y[1] = log_probability(logits[token], summary);
    }
  }

 private:
  int vocabulary_;
  DelegateState& state_;
};

}  // namespace

OperatorKind sample_kind() { return operator_kind<SampleAttributes, SampleOperator>(); }

}  // namespace edge_vlm
