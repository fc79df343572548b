// SPDX-License-Identifier: Apache-2.0
// Norm and SwiGlu.
#include "operator.h"

namespace edge_vlm {
namespace {

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
    state_.kernels.norm(args);
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
    state_.kernels.swiglu(node.data<float>(0), node.rows(0), width_, node.output_data());
  }

 private:
  int width_;
  DelegateState& state_;
};

}  // namespace

OperatorKind norm_kind() { return operator_kind<NormAttributes, NormOperator>(); }
OperatorKind swiglu_kind() { return operator_kind<SwiGluAttributes, SwiGluOperator>(); }

}  // namespace edge_vlm
