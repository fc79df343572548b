// SPDX-License-Identifier: Apache-2.0
// Norm and SwiGlu.
#include "operator.h"

namespace edge_vlm {
namespace {

constexpr int64_t kValueCost = 100;  // multiply-adds that take as long as one value

// Run run(first row, last row) on all threads.
template <typename Run>
void share_rows(DelegateState& state, int rows, int width, const Run& run) {
  state.pool.share(rows, static_cast<int64_t>(rows) * width * kValueCost, [&](int, int first, int last) { run(first, last); });
}

class NormOperator final : public Operator {
 public:
  NormOperator(const NormAttributes& attributes, DelegateState& state) : attributes_(attributes), state_(state) {
    expect_range("kind", attributes.kind, 1, 2);
    expect_range("width", attributes.width, 1, kMaxWidth);
    if (!(attributes.epsilon >= 0)) throw Fault("attribute epsilon is %g, expected at least 0", attributes.epsilon);
  }

  void prepare(const Node& node) override {
    node.expect_inputs(has_bias() ? 3 : 2);
    node.expect(0, "x", kTfLiteFloat32, {kAnySize, attributes_.width});
    node.expect_constant(1, "weight", kTfLiteFloat32, {attributes_.width});
    if (has_bias()) node.expect_constant(2, "bias", kTfLiteFloat32, {attributes_.width});
    node.resize_output(node.rows(0), attributes_.width);
  }

  void eval(const Node& node) override {
    NormArgs args{};
    args.kind = static_cast<NormKind>(attributes_.kind);
    args.rows = node.rows(0);
    args.width = attributes_.width;
    args.epsilon = attributes_.epsilon;
    args.x = node.data<float>(0);
    args.weight = node.data<float>(1);
    args.bias = has_bias() ? node.data<float>(2) : nullptr;
    args.y = node.output_data();
    share_rows(state_, args.rows, args.width, [&](int first, int last) {
      NormArgs part = args;
      part.rows = last - first;
      part.x += static_cast<size_t>(first) * args.width;
      part.y += static_cast<size_t>(first) * args.width;
      state_.kernels.norm(part);
    });
  }

 private:
  bool has_bias() const { return attributes_.kind == static_cast<int>(NormKind::kLayer); }

  NormAttributes attributes_;
  DelegateState& state_;
};

class SwiGluOperator final : public Operator {
 public:
  SwiGluOperator(const SwiGluAttributes& attributes, DelegateState& state) : width_(attributes.width), state_(state) {
    expect_range("width", width_, 1, kMaxWidth);
  }

  void prepare(const Node& node) override {
    node.expect_inputs(1);
    node.expect(0, "x", kTfLiteFloat32, {kAnySize, 2 * width_});
    node.resize_output(node.rows(0), width_);
  }

  void eval(const Node& node) override {
    const float* x = node.data<float>(0);
    float* y = node.output_data();
    share_rows(state_, node.rows(0), width_, [&](int first, int last) {
      const size_t skipped = static_cast<size_t>(first) * width_;
      state_.kernels.swiglu(x + 2 * skipped, last - first, width_, y + skipped);
    });
  }

 private:
  int width_;
  DelegateState& state_;
};

}  // namespace

OperatorKind norm_kind() { return operator_kind<NormAttributes, NormOperator>(); }
OperatorKind swiglu_kind() { return operator_kind<SwiGluAttributes, SwiGluOperator>(); }

}  // namespace edge_vlm
