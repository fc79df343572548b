// SPDX-License-Identifier: Apache-2.0
#include "operator.h"

namespace edge_vlm {
namespace {

class LinearOperator final : public Operator {
 public:
  LinearOperator(const LinearAttributes& attributes, DelegateState& state)
      : attributes_(attributes), format_(static_cast<WeightFormat>(attributes.weight_format)), state_(state) {
    if (!is_packed(format_))
      throw Fault("attribute weight_format is %d, allowed 1..3 and 5..8", attributes.weight_format);
    expect_range("in_features", attributes.in_features, 1, kMaxWidth);
    expect_range("out_features", attributes.out_features, 1, kMaxRows);
    expect_range("activation", attributes.activation, 0, 2);
    expect_range("has_bias", attributes.has_bias, 0, 1);
    expect_range("has_residual", attributes.has_residual, 0, 1);
    expect_range("norm_kind", attributes.norm_kind, 0, 2);
    if (!(attributes.norm_epsilon >= 0)) throw Fault("attribute norm_epsilon is %g, expected at least 0", attributes.norm_epsilon);
    expect_groups();
  }

  void prepare(const Node& node) override {
    const int k = attributes_.in_features, n = attributes_.out_features;
    node.expect_inputs(norm_weight() + has_norm() + has_norm_bias());
    node.expect(0, "x", kTfLiteFloat32, {kAnySize, k});
    node.expect_constant_bytes(1, "weights", kTfLiteUInt8, packed_bytes(format_, n, k));
    node.expect_constant(2, "scale", kTfLiteFloat32, {n});
    const int groups = group_count(k, attributes_.group_size), blocks = static_cast<int>(round_up(n, kBlockRows) / kBlockRows);
    if (has_groups()) node.expect_constant(3, "group_scale", kTfLiteFloat16, {blocks, groups, kBlockRows});
    if (attributes_.has_zero) node.expect_constant(4, "zero", kTfLiteInt8, {blocks, groups, kBlockRows});
    if (attributes_.has_bias) node.expect_constant(bias(), "bias", kTfLiteFloat32, {n});
    if (attributes_.has_residual) node.expect(residual(), "residual", kTfLiteFloat32, {node.rows(0), n});
    if (has_norm()) node.expect_constant(norm_weight(), "norm_weight", kTfLiteFloat32, {k});
    if (has_norm_bias()) node.expect_constant(norm_weight() + 1, "norm_bias", kTfLiteFloat32, {k});
    node.resize_output(node.rows(0), n);
    state_.weights.note(node.data<uint8_t>(1), packed_bytes(format_, n, k));
  }

  void eval(const Node& node) override {
    LinearArgs args{};
    args.format = format_;
    args.activation = static_cast<Activation>(attributes_.activation);
    args.rows = node.rows(0);
    args.in_features = attributes_.in_features;
    args.out_features = attributes_.out_features;
    args.weights = node.data<uint8_t>(1);
    if (format_ == WeightFormat::kTernaryDense) choose_form(args);
    args.scale = node.data<float>(2);
    args.group_size = attributes_.group_size;
    args.group_scale = has_groups() ? node.data<uint16_t>(3) : nullptr;
    args.zero = attributes_.has_zero ? node.data<int8_t>(4) : nullptr;
    args.bias = attributes_.has_bias ? node.data<float>(bias()) : nullptr;
    args.residual = attributes_.has_residual ? node.data<float>(residual()) : nullptr;
    args.y = node.output_data();
    args.streams = state_.weights.exceeds_caches();
    if (args.rows == 0) return;
    state_.huge_pages.ask(args.y, sizeof(float) * args.rows * args.out_features);
    const QuantizedRows x = quantized(node);
    const int blocks = static_cast<int>(round_up(args.out_features, kBlockRows) / kBlockRows), pairs = (blocks + 1) / 2;
    const int64_t macs = static_cast<int64_t>(args.rows) * args.in_features * args.out_features;
    state_.pool.share(pairs, macs, [&](int, int first, int last) {  // pairs: kernels may take two blocks at a time
      state_.kernels.linear(args, x, 2 * first, 2 * last < blocks ? 2 * last : blocks);
    });
  }

 private:
  QuantizedRows quantized(const Node& node) const {
    const int rows = node.rows(0), width = attributes_.in_features;
    const float* x = node.data<float>(0);
    if (!has_norm()) return state_.quantized(x, rows, width, attributes_.group_size);
    const float* bias = has_norm_bias() ? node.data<float>(norm_weight() + 1) : nullptr;
    const auto kind = static_cast<NormKind>(attributes_.norm_kind);
    return state_.quantized({kind, rows, width, attributes_.norm_epsilon, x, node.data<float>(norm_weight()), bias, nullptr},
                            attributes_.group_size);
  }

  void choose_form(LinearArgs& args) const {
    const uint8_t* unpacked = state_.ternary.unpacked(args.weights, args.out_features, args.in_features);
    if (unpacked == nullptr) return;
    args.format = WeightFormat::kTernary;
    args.weights = unpacked;
  }

  void expect_groups() const {
    expect_range("has_zero", attributes_.has_zero, 0, has_groups());
    if (!has_groups()) return;
    if (!may_have_groups(format_)) throw Fault("attribute group_size is set, weight_format %d has no groups", attributes_.weight_format);
    expect_range("group_size", attributes_.group_size, kGroupMultiple, kLargestGroup);
    if (attributes_.group_size % kGroupMultiple != 0)
      throw Fault("attribute group_size is %d, no multiple of %d", attributes_.group_size, kGroupMultiple);
  }

  // Places among the inputs, which follow one another without gaps.
  bool has_groups() const { return attributes_.group_size != 0; }
  int bias() const { return 3 + has_groups() + attributes_.has_zero; }
  int residual() const { return bias() + attributes_.has_bias; }
  int norm_weight() const { return residual() + attributes_.has_residual; }
  bool has_norm() const { return attributes_.norm_kind != 0; }
  bool has_norm_bias() const { return attributes_.norm_kind == static_cast<int>(NormKind::kLayer); }

  LinearAttributes attributes_;
  WeightFormat format_;
  DelegateState& state_;
};

}  // namespace

OperatorKind linear_kind() { return operator_kind<LinearAttributes, LinearOperator>(); }

}  // namespace edge_vlm
