// SPDX-License-Identifier: Apache-2.0
// The ternarization paper's scheme (arXiv 2504.06298) as a peer: float32 activations, weights of two bits, and for every byte
// one look-up in a table that holds its four weights as floats; products and sums are float. Compiled by lookup_matrix.py.
// The table has 4 KB and stays in the first cache.
#include <cstddef>
#include <cstdint>

namespace {

typedef float Four __attribute__((vector_size(16)));
typedef float Eight __attribute__((vector_size(32)));

struct Table {
  alignas(64) float weights[256][4];
  Table() {  // the first weight in the low bits, code w + 1
    for (int byte = 0; byte < 256; byte++)
      for (int i = 0; i < 4; i++) weights[byte][i] = static_cast<float>((byte >> (2 * i) & 3) - 1);
  }
};
const Table table;

// Eight weights of two bytes.
inline Eight looked_up(const uint8_t* bytes) {
  const Four low = *reinterpret_cast<const Four*>(table.weights[bytes[0]]);
  const Four high = *reinterpret_cast<const Four*>(table.weights[bytes[1]]);
  return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7);
}

inline Eight load(const float* x) {
  Eight values;
  __builtin_memcpy(&values, x, sizeof values);
  return values;
}

inline Four four(const float* x) {
  Four values;
  __builtin_memcpy(&values, x, sizeof values);
  return values;
}

inline float sum(Eight v) { return ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7])); }

// One row: four outputs with two sums each, eight bytes at a time, their table rows read by the multiplication itself.
void one_row(const float* x, const uint8_t* weights, const float* scale, int inputs, float* y) {
  const int stride = inputs / 4, whole = stride / 8 * 8;
  const char* rows = reinterpret_cast<const char*>(table.weights);
  Four acc[4][2] = {};
  for (int b = 0; b < whole; b += 8) {
    for (int o = 0; o < 4; o++) {
      uint64_t bytes;
      __builtin_memcpy(&bytes, weights + static_cast<size_t>(o) * stride + b, sizeof bytes);
      for (int i = 0; i < 8; i++) {
        const size_t at = (i == 0 ? bytes << 4 : bytes >> (8 * i - 4)) & 0xff0;  // 16 bytes a table row
        acc[o][i % 2] += *reinterpret_cast<const Four*>(rows + at) * four(x + 4 * (b + i));
      }
    }
  }
  for (int o = 0; o < 4; o++) {
    for (int b = whole; b < stride; b++)
      acc[o][0] += *reinterpret_cast<const Four*>(table.weights[weights[static_cast<size_t>(o) * stride + b]]) * four(x + 4 * b);
    const Four all = acc[o][0] + acc[o][1];
    y[o] = ((all[0] + all[2]) + (all[1] + all[3])) * scale[o];
  }
}

// kOut outputs of kRows rows, kOut * kRows sums: a looked-up byte serves all rows.
template <int kOut, int kRows>
void tile(const float* x, const uint8_t* weights, const float* scale, int inputs, int outputs, float* y) {
  const size_t stride = inputs / 4;
  Eight acc[kOut][kRows] = {};
  for (int k = 0; k < inputs; k += 8) {
    Eight activations[kRows];
    for (int r = 0; r < kRows; r++) activations[r] = load(x + static_cast<size_t>(r) * inputs + k);
    for (int o = 0; o < kOut; o++) {
      const Eight w = looked_up(weights + o * stride + k / 4);
      for (int r = 0; r < kRows; r++) acc[o][r] += w * activations[r];
    }
  }
  for (int r = 0; r < kRows; r++)
    for (int o = 0; o < kOut; o++) y[static_cast<size_t>(r) * outputs + o] = sum(acc[o][r]) * scale[o];
}

}  // namespace

// y (rows, outputs) = x (rows, inputs) W^T * scale; inputs a multiple of 8, outputs one of 4, rows 1 or a multiple of 4.
extern "C" void lookup_linear(const float* x, const uint8_t* weights, const float* scale, int rows, int inputs, int outputs,
                              float* y) {
  const size_t stride = inputs / 4;
  for (int o = 0; o < outputs; o += 4) {
    const uint8_t* w = weights + o * stride;
    if (rows == 1) one_row(x, w, scale + o, inputs, y + o);
    for (int r = 0; r + 4 <= rows; r += 4) {
      const size_t row = r;
      for (int half = 0; half < 4; half += 2)  // eight accumulators of the sixteen registers
        tile<2, 4>(x + row * inputs, w + half * stride, scale + o + half, inputs, outputs, y + row * outputs + o + half);
    }
  }
}
