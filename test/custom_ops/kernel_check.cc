// SPDX-License-Identifier: Apache-2.0
// Runs every kernel table of this CPU on odd sizes and extreme values against plain loops, on buffers of exactly the
// size that the contract promises, so that a sanitizer sees every read beyond. Prints the tables; exits 1 on a mismatch.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "kernels.h"

using namespace edge_vlm;

namespace {

std::mt19937 generator(7);
int failures = 0;

void expect(bool holds, const std::string& what) {
  if (holds) return;
  std::printf("MISMATCH %s\n", what.c_str());
  failures++;
}

std::vector<float> random_floats(size_t count) {
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator);
  return values;
}

int weight_limit(WeightFormat format) { return format == WeightFormat::kInt8 ? 127 : 1; }

std::vector<int8_t> random_weights(WeightFormat format, size_t count, bool extreme) {
  const int limit = weight_limit(format);
  std::vector<int8_t> weights(count);
  for (int8_t& w : weights) {
    const bool two_values = extreme || format == WeightFormat::kBinary;
    w = static_cast<int8_t>(two_values ? (generator() % 2 ? limit : -limit) : int(generator() % (2 * limit + 1)) - limit);
  }
  return weights;
}

std::vector<uint8_t> pack(WeightFormat format, const std::vector<int8_t>& weights, int rows, int columns) {
  std::vector<uint8_t> data(packed_bytes(format, rows, columns), format == WeightFormat::kTernary ? 0x55 : 0);
  const int width = block_width(format), bits = 32 / width, blocks = blocks_across(format, columns);
  for (int n = 0; n < rows; n++)
    for (int k = 0; k < columns; k++) {
      const int w = weights[size_t(n) * columns + k];
      const int code = format == WeightFormat::kTernary ? w + 1 : format == WeightFormat::kBinary ? (w + 1) / 2 : w & 255;
      const int shift = k % width / 4 * bits;
      uint8_t& byte = data[(size_t(n / 16) * blocks + k / width) * 64 + n % 16 * 4 + k % 4];
      byte = uint8_t((byte & ~(((1 << bits) - 1) << shift)) | code << shift);
    }
  return data;
}

void check_linear(const Kernels& kernels, WeightFormat format, int rows, int n, int k, bool extreme) {
  std::vector<float> x = random_floats(size_t(rows) * k), scale = random_floats(n), y(size_t(rows) * n);
  if (extreme)
    for (float& value : x) value = value < 0 ? -1.0f : 1.0f;
  const std::vector<int8_t> weights = random_weights(format, size_t(n) * k, extreme);
  const std::vector<uint8_t> packed = pack(format, weights, n, k);
  const size_t stride = round_up(k, kRowPadding);
  std::vector<int8_t> codes(rows * stride);
  std::vector<float> row_scale(rows);
  std::vector<int32_t> sums(rows);
  const QuantizedRows quantized{codes.data(), row_scale.data(), sums.data(), stride};
  kernels.quantize(x.data(), rows, k, quantized);
  const LinearArgs args{format, Activation::kNone, rows,    k, n, packed.data(), scale.data(), nullptr, nullptr, y.data()};
  kernels.linear(args, quantized, 0, int(round_up(n, 16) / 16));
  int wrong = 0;
  for (int row = 0; row < rows; row++)
    for (int out = 0; out < n; out++) {
      int32_t sum = 0;
      for (int i = 0; i < k; i++) sum += codes[row * stride + i] * weights[size_t(out) * k + i];
      const float factor = row_scale[row] * scale[out];
      wrong += y[size_t(row) * n + out] != float(sum) * factor;
    }
  std::ostringstream what;
  what << kernels.isa << " linear format " << int(format) << ", " << rows << " rows, " << n << " x " << k;
  expect(wrong == 0, what.str());
}

std::vector<float> attend(const Kernels& kernels, const AttentionShape& shape, const std::vector<float>& qkv, int rows) {
  AttentionCache cache;
  expect(cache.allocate(shape), "memory");
  std::vector<int32_t> positions(rows);
  for (int row = 0; row < rows; row++) positions[row] = row;
  const size_t width = size_t(shape.query_heads) * shape.head_dim;
  std::vector<float> queries(rows * width), y(rows * width), scores(size_t(kQueryTile) * cache.padded_capacity);
  cache.store(qkv.data(), positions.data(), rows, queries.data());
  kernels.attend({&cache, queries.data(), positions.data(), rows, scores.data(), y.data()}, 0, attention_tiles(shape, rows));
  return y;
}

void check_attention(const Kernels& kernels, int head_dim, bool causal) {
  const AttentionShape shape{19, 6, 2, head_dim, causal, causal ? 10000.0f : 0.0f, 0.3f};
  const std::vector<float> qkv = random_floats(size_t(17) * 10 * head_dim);
  const std::vector<float> y = attend(kernels, shape, qkv, 17), expected = attend(*select_kernels("scalar"), shape, qkv, 17);
  float worst = 0;
  for (size_t i = 0; i < y.size(); i++) worst = std::fmax(worst, std::fabs(y[i] - expected[i]));
  expect(worst < 1e-5f, std::string(kernels.isa) + " attention, head_dim " + std::to_string(head_dim));
}

std::vector<float> norm_and_gate(const Kernels& kernels, const std::vector<float>& x, int rows, int width) {
  std::vector<float> y(x.size()), gated(x.size() / 2), ones(width, 1.5f);
  kernels.norm({NormKind::kLayer, rows, width, 1e-6f, x.data(), ones.data(), ones.data(), y.data()});
  kernels.swiglu(y.data(), rows, width / 2, gated.data());
  y.insert(y.end(), gated.begin(), gated.end());
  return y;
}

void check_pointwise(const Kernels& kernels, int width) {
  const std::vector<float> x = random_floats(size_t(3) * width);
  const bool equal = norm_and_gate(kernels, x, 3, width) == norm_and_gate(*select_kernels("scalar"), x, 3, width);
  expect(equal, std::string(kernels.isa) + " norm and swiglu, width " + std::to_string(width));
}

void check(const Kernels& kernels) {
  for (const WeightFormat format : {WeightFormat::kTernary, WeightFormat::kBinary, WeightFormat::kInt8}) {
    for (const int n : {1, 15, 16, 17, 33, 50})
      for (const int k : {1, 3, 4, 15, 16, 17, 32, 33, 64, 70}) check_linear(kernels, format, 1 + (n + k) % 14, n, k, false);
    for (const int k : {1023, 8192}) check_linear(kernels, format, 5, 17, k, true);
  }
  for (const int head_dim : {2, 8, 10, 24, 64})
    for (const bool causal : {false, true}) check_attention(kernels, head_dim, causal);
  for (const int width : {2, 8, 14, 18, 66}) check_pointwise(kernels, width);
}

}  // namespace

int main() {
  std::printf("tables: %s\n", available_isas());
  std::istringstream names(available_isas());
  for (std::string name; std::getline(names, name, ',');) check(*select_kernels(name.c_str()));
  std::printf("%d mismatches\n", failures);
  return failures != 0;
}
