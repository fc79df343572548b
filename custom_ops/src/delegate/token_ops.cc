// SPDX-License-Identifier: Apache-2.0
// Embedding, TokenScatter and TokenGather: operators that move rows.
#include <cstring>

#include "operator.h"
#include "positions.h"

namespace edge_vlm {
namespace {

class EmbeddingOperator final : public Operator {
 public:
  EmbeddingOperator(const EmbeddingAttributes& attributes, DelegateState& /*state*/)
      : attributes_(attributes), format_(static_cast<WeightFormat>(attributes.weight_format)) {
    if (format_ != WeightFormat::kInt8 && format_ != WeightFormat::kFloat32)
      throw Fault("attribute weight_format is %d, allowed 3 (int8) and 4 (float32)", attributes.weight_format);
    expect_range("vocab_size", attributes.vocab_size, 1, kMaxRows);
    expect_range("width", attributes.width, 1, kMaxWidth);
    expect_range("has_image", attributes.has_image, 0, 1);
  }

  void prepare(const Node& node) override {
    const int vocabulary = attributes_.vocab_size, width = attributes_.width;
    node.expect_inputs(3 + attributes_.has_image);
    node.expect(0, "ids", kTfLiteInt32, {kAnySize});
    if (format_ == WeightFormat::kInt8) {
      node.expect_constant_bytes(1, "weights", kTfLiteUInt8, packed_bytes(format_, vocabulary, width));
    } else {
      const int64_t bytes = static_cast<int64_t>(vocabulary) * width * static_cast<int64_t>(sizeof(float));
      node.expect_constant_bytes(1, "weights", kTfLiteFloat32, bytes);
    }
    node.expect_constant(2, "scale", kTfLiteFloat32, {vocabulary});
    if (attributes_.has_image) node.expect(3, "image_features", kTfLiteFloat32, {kAnySize, width});
    node.resize_output(node.rows(0), width);
  }

  void eval(const Node& node) override {
    const int32_t* ids = node.data<int32_t>(0);
    const int rows = node.rows(0);
    for (int row = 0; row < rows; row++)
      if (ids[row] < 0 || ids[row] >= attributes_.vocab_size)
        throw Fault("token id %d of row %d is outside the vocabulary of %d", ids[row], row, attributes_.vocab_size);
    float* y = node.output_data();
    embed(format_, node.data<void>(1), node.data<float>(2), attributes_.width, ids, rows, y);
    if (attributes_.has_image) place_images(node, ids, rows, y);
  }

 private:
  void place_images(const Node& node, const int32_t* ids, int rows, float* y) const {
    int images = 0;
    for (int row = 0; row < rows; row++) images += ids[row] == attributes_.image_token_id;
    if (images != node.rows(3))
      throw Fault("%d image tokens in the prompt, %d image features", images, node.rows(3));
    const float* features = node.data<float>(3);
    const size_t width = attributes_.width;
    for (int row = 0; row < rows; row++) {
      if (ids[row] != attributes_.image_token_id) continue;
      std::memcpy(y + row * width, features, sizeof(float) * width);
      features += width;
    }
  }

  EmbeddingAttributes attributes_;
  WeightFormat format_;
};

class TokenScatterOperator final : public Operator {
 public:
  TokenScatterOperator(const TokenScatterAttributes& attributes, DelegateState& state)
      : attributes_(attributes), state_(state) {
    expect_range("capacity", attributes.capacity, 1, kMaxRows);
    expect_range("width", attributes.width, 1, kMaxWidth);
  }

  void prepare(const Node& node) override {
    node.expect_inputs(2);
    node.expect(0, "x", kTfLiteFloat32, {kAnySize, attributes_.width});
    node.expect(1, "positions", kTfLiteInt32, {node.rows(0)});
    cache_ = &state_.token_cache(attributes_.cache_id, attributes_.capacity, attributes_.width);
    node.resize_output(attributes_.capacity, attributes_.width);
  }

  void eval(const Node& node) override {
    const float* x = node.data<float>(0);
    const int32_t* positions = node.data<int32_t>(1);
    const size_t width = attributes_.width;
    expect_positions(positions, node.rows(0), attributes_.capacity);
    for (int row = 0; row < node.rows(0); row++)
      std::memcpy(cache_->rows.get() + positions[row] * width, x + row * width, sizeof(float) * width);
    // A scatter may only fill the cache for a TokenGather of another signature.
    if (float* y = node.optional_output_data())
      std::memcpy(y, cache_->rows.get(), sizeof(float) * width * attributes_.capacity);
  }

 private:
  TokenScatterAttributes attributes_;
  DelegateState& state_;
  TokenCache* cache_ = nullptr;
};

class TokenGatherOperator final : public Operator {
 public:
  TokenGatherOperator(const TokenGatherAttributes& attributes, DelegateState& state)
      : attributes_(attributes), state_(state) {
    expect_range("capacity", attributes.capacity, 1, kMaxRows);
    expect_range("width", attributes.width, 1, kMaxWidth);
  }

  void prepare(const Node& node) override {
    node.expect_inputs(1);
    node.expect(0, "positions", kTfLiteInt32, {kAnySize});
    cache_ = &state_.token_cache(attributes_.cache_id, attributes_.capacity, attributes_.width);
    node.resize_output(node.rows(0), attributes_.width);
  }

  void eval(const Node& node) override {
    const int32_t* positions = node.data<int32_t>(0);
    float* y = node.output_data();
    const size_t width = attributes_.width;
    expect_positions(positions, node.rows(0), attributes_.capacity);
    for (int row = 0; row < node.rows(0); row++)
      std::memcpy(y + row * width, cache_->rows.get() + positions[row] * width, sizeof(float) * width);
  }

 private:
  TokenGatherAttributes attributes_;
  DelegateState& state_;
  TokenCache* cache_ = nullptr;
};

}  // namespace

OperatorKind embedding_kind() { return operator_kind<EmbeddingAttributes, EmbeddingOperator>(); }
OperatorKind token_scatter_kind() { return operator_kind<TokenScatterAttributes, TokenScatterOperator>(); }
OperatorKind token_gather_kind() { return operator_kind<TokenGatherAttributes, TokenGatherOperator>(); }

}  // namespace edge_vlm
