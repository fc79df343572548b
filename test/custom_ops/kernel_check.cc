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

struct FormatRange {
  int low, high;  // codes
};

FormatRange range_of(WeightFormat format) {
  switch (format) {
    case WeightFormat::kInt8: return {-127, 127};
    case WeightFormat::kInt2: return {-2, 1};
    case WeightFormat::kInt3: return {-4, 3};
    case WeightFormat::kInt4: return {-8, 7};
    default: return {-1, 1};
  }
}

std::vector<int8_t> random_weights(WeightFormat format, size_t count, bool extreme) {
  const FormatRange range = range_of(format);
  std::vector<int8_t> weights(count);
  for (int8_t& w : weights) {
    const bool two_values = extreme || format == WeightFormat::kBinary;
    const int span = range.high - range.low;
    w = static_cast<int8_t>(range.low + int(two_values ? generator() % 2 * span : generator() % (span + 1)));
  }
  return weights;
}

// The byte(s) that hold the weights w[0], w[1], ... of one lane in consecutive quads; see packing.py.
void encode(WeightFormat format, const std::vector<int>& w, uint8_t* block, int byte) {
  const auto planes = [&](int bits, int offset) {
    int value = 0;
    for (size_t j = 0; j < w.size(); j++) value |= (w[j] + offset) << (bits * j);
    return static_cast<uint8_t>(value);
  };
  switch (format) {
    case WeightFormat::kTernary: block[byte] = planes(2, 1); break;
    case WeightFormat::kInt2: block[byte] = planes(2, 2); break;
    case WeightFormat::kInt4: block[byte] = planes(4, 8); break;
    case WeightFormat::kInt8: block[byte] = static_cast<uint8_t>(w[0]); break;
    case WeightFormat::kTernaryDense: {
      const int r = w[0] + 1 + 3 * (w[1] + 1) + 9 * (w[2] + 1) + 27 * (w[3] + 1), last = w[4] + 1;
      block[byte] = static_cast<uint8_t>(r < 64 ? 64 * last + r : 192 + r - 64 + 17 * last);
      break;
    }
    default: {  // kBinary, and the planes of kInt3
      int low[2] = {0, 0}, high = 0;
      for (int j = 0; j < 8; j++) {
        const int code = format == WeightFormat::kInt3 ? w[j] + 4 : (w[j] + 1) / 2 * 4;
        low[j / 4] |= (code & 3) << (j % 4 * 2);
        high |= (code >> 2) << j;
      }
      if (format == WeightFormat::kInt3) {
        block[byte] = static_cast<uint8_t>(low[0]);
        block[64 + byte] = static_cast<uint8_t>(low[1]);
        block[128 + byte] = static_cast<uint8_t>(high);
      } else {
        block[byte] = static_cast<uint8_t>(high);
      }
    }
  }
}

std::vector<uint8_t> pack(WeightFormat format, const std::vector<int8_t>& weights, int rows, int columns) {
  std::vector<uint8_t> data(packed_bytes(format, rows, columns));
  const int width = block_width(format), padding = format == WeightFormat::kBinary ? -1 : 0;
  uint8_t* block = data.data();
  for (int first = 0; first < rows; first += 16)
    for (int start = 0; start < columns; start += width, block += block_bytes(format))
      for (int byte = 0; byte < 64; byte++) {
        std::vector<int> w;
        for (int quad = 0; quad < width; quad += 4) {
          const int n = first + byte / 4, k = start + quad + byte % 4;
          w.push_back(n < rows && k < columns ? weights[size_t(n) * columns + k] : padding);
        }
        encode(format, w, block, byte);
      }
  return data;
}

struct LinearCase {
  WeightFormat format;
  int rows, n, k;
  int group_size;  // 0: none
  bool has_zero, extreme;
};

int code_at(const QuantizedRows& x, int row, int k) {
  const int panel = row / x.panel_rows, within = row % x.panel_rows;
  return x.codes[size_t(panel) * x.panel_rows * x.stride + (size_t(k / 4) * x.panel_rows + within) * 4 + k % 4];
}

// Activations and weights of one case; the kernel's result against plain loops.
void check_linear(const Kernels& kernels, const LinearCase& c) {
  const int n = c.n, k = c.k, groups = group_count(k, c.group_size), span = c.group_size == 0 ? k : c.group_size;
  std::vector<float> x = random_floats(size_t(c.rows) * k), scale = random_floats(n), y(size_t(c.rows) * n);
  if (c.extreme)
    for (float& value : x) value = value < 0 ? -1.0f : 1.0f;
  const std::vector<int8_t> weights = random_weights(c.format, size_t(n) * k, c.extreme);
  const std::vector<uint8_t> packed = pack(c.format, weights, n, k);
  std::vector<uint16_t> group_scale(packed_groups(n, groups));
  std::vector<int8_t> zero(group_scale.size());
  for (uint16_t& value : group_scale) value = static_cast<uint16_t>(0x3400 + generator() % 16 * 64);  // 0.25 .. 0.5
  for (int8_t& value : zero) value = static_cast<int8_t>(generator() % 16) - 8;
  const size_t stride = row_stride(k);
  const int panel_rows = c.rows < kManyRows ? 1 : c.group_size == 0 ? kernels.panel_rows : kernels.group_panel_rows;
  std::vector<int8_t> codes(round_up(c.rows, panel_rows) * stride);
  std::vector<float> row_scale(c.rows);
  std::vector<int32_t> sums(round_up(c.rows, panel_rows) * groups);
  const QuantizedRows quantized{codes.data(), row_scale.data(), sums.data(), stride, c.group_size, groups, panel_rows};
  kernels.quantize(x.data(), c.rows, k, quantized);
  LinearArgs args{};
  args.format = c.format;
  args.rows = c.rows;
  args.in_features = k;
  args.out_features = n;
  args.weights = packed.data();
  args.scale = scale.data();
  args.y = y.data();
  args.group_size = c.group_size;
  args.group_scale = c.group_size == 0 ? nullptr : group_scale.data();
  args.zero = c.has_zero ? zero.data() : nullptr;
  kernels.linear(args, quantized, 0, int(round_up(n, 16) / 16));
  const std::vector<float> cached = y;
  args.streams = true;
  kernels.linear(args, quantized, 0, int(round_up(n, 16) / 16));
  int wrong = cached != y;
  for (int row = 0; row < c.rows; row++)
    for (int out = 0; out < n; out++) {
      float total = 0;
      for (int group = 0; group < groups; group++) {
        const size_t at = (size_t(out / 16) * groups + group) * 16 + out % 16;
        int32_t sum = 0;
        for (int i = group * span; i < k && i < (group + 1) * span; i++)
          sum += code_at(quantized, row, i) * (weights[size_t(out) * k + i] - (c.has_zero ? zero[at] : 0));
        const float part = float(sum) * (c.group_size == 0 ? 1.0f : 0.25f + float(group_scale[at] - 0x3400) / 4096);
        total = total + part;
      }
      const float factor = row_scale[row] * scale[out];
      wrong += y[size_t(row) * n + out] != total * factor;
    }
  std::ostringstream what;
  what << kernels.isa << " linear format " << int(c.format) << ", " << c.rows << " rows, " << n << " x " << k << ", groups of "
       << c.group_size << (c.has_zero ? " with zero points" : "");
  expect(wrong == 0, what.str());
}

std::vector<float> attend(const Kernels& kernels, const AttentionShape& shape, const std::vector<float>& qkv, int rows) {
  AttentionCache cache;
  const bool rotary = shape.rope_theta > 0;
  const auto table = rotary ? make_rotary_table(shape.capacity, shape.head_dim, shape.rope_theta) : nullptr;
  expect(cache.allocate(shape, table), "memory");
  std::vector<int32_t> positions(rows);
  for (int row = 0; row < rows; row++) positions[row] = row;
  const size_t count = size_t(rows) * shape.query_heads, stride = round_up(shape.head_dim, kRowPadding);
  std::vector<float> values(count * shape.head_dim), scales(count), y(count * shape.head_dim);
  std::vector<int8_t> codes(count * stride);
  std::vector<int32_t> sums(count);
  std::vector<float> scratch(attention_scratch_bytes(cache) / sizeof(float));
  const PreparedQueries queries{values.data(), {codes.data(), scales.data(), sums.data(), stride, 0, 1}};
  kernels.store({&cache, qkv.data(), positions.data(), rows, queries}, 0, rows);
  cache.note_written(positions.data(), rows);
  kernels.attend({&cache, queries, positions.data(), rows, reinterpret_cast<char*>(scratch.data()), y.data()}, 0,
                 attention_tiles(shape, rows));
  return y;
}

void check_attention(const Kernels& kernels, int head_dim, bool causal, CacheFormat format) {
  const AttentionShape shape{19, 6, 2, head_dim, causal, causal ? 10000.0f : 0.0f, 0.3f, format};
  const std::vector<float> qkv = random_floats(size_t(17) * 10 * head_dim);
  const std::vector<float> y = attend(kernels, shape, qkv, 17), expected = attend(*select_kernels("scalar"), shape, qkv, 17);
  float worst = 0;
  for (size_t i = 0; i < y.size(); i++) worst = std::fmax(worst, std::fabs(y[i] - expected[i]));
  const float limit = format == CacheFormat::kInt8 ? 5e-4f : 1e-5f;  // a weight next to a half rounds either way
  expect(worst < limit, std::string(kernels.isa) + " attention, head_dim " + std::to_string(head_dim) + ", cache " +
                            std::to_string(int(format)));
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
  for (const WeightFormat format :
       {WeightFormat::kTernary, WeightFormat::kBinary, WeightFormat::kInt8, WeightFormat::kInt2, WeightFormat::kInt3,
        WeightFormat::kInt4, WeightFormat::kTernaryDense}) {
    for (const int n : {1, 15, 16, 17, 33, 50})
      for (const int k : {1, 3, 4, 15, 16, 17, 32, 33, 64, 70})
        check_linear(kernels, {format, 1 + (n + k) % 14, n, k, 0, false, false});
    for (const int k : {1023, 8192}) check_linear(kernels, {format, 5, 17, k, 0, false, true});
    if (!may_have_groups(format)) continue;
    for (const int k : {1, 31, 64, 95, 200, 257})
      for (const int group_size : {32, 64, 128}) check_linear(kernels, {format, 1 + k % 14, 33, k, group_size, k % 2 == 1, false});
    check_linear(kernels, {format, 5, 17, 8191, 128, true, true});
  }
  for (const int head_dim : {2, 8, 10, 24, 64})
    for (const bool causal : {false, true})
      for (const CacheFormat format : {CacheFormat::kFloat32, CacheFormat::kFloat16, CacheFormat::kInt8})
        check_attention(kernels, head_dim, causal, format);
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
