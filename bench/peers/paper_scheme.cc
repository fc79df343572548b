// SPDX-License-Identifier: Apache-2.0
// The ternarization paper's own scheme (arXiv 2504.06298): float activations, weights of two bits, and one table look-up per
// byte of four weights, here four floats at once. A function for bench/peers/matrix_paper.py.
#include <cstddef>
#include <cstdint>

#include <immintrin.h>

namespace {

struct Table {
  alignas(64) float weights[256][4];
  Table() {
    for (int byte = 0; byte < 256; byte++)
      for (int i = 0; i < 4; i++) weights[byte][i] = static_cast<float>((byte >> (2 * i) & 3) - 1);
  }
};

const Table kTable;

}  // namespace

// y[r][n] = scale[n] * sum over k of w[n][k] * x[r][k]; packed (outputs, inputs / 4), inputs a multiple of 16.
extern "C" void paper_matmul(const float* x, const uint8_t* packed, const float* scale, int rows, int inputs, int outputs, float* y) {
  for (int row = 0; row < rows; row++, x += inputs, y += outputs) {
    const uint8_t* codes = packed;
    for (int n = 0; n < outputs; n++, codes += inputs / 4) {
      __m256 sums[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
      for (int byte = 0; byte < inputs / 4; byte += 4)
        for (int half = 0; half < 2; half++) {
          const uint8_t* two = codes + byte + 2 * half;
          const __m256 weights = _mm256_set_m128(_mm_load_ps(kTable.weights[two[1]]), _mm_load_ps(kTable.weights[two[0]]));
          sums[half] = _mm256_fmadd_ps(weights, _mm256_loadu_ps(x + 4 * byte + 8 * half), sums[half]);
        }
      const __m256 both = _mm256_add_ps(sums[0], sums[1]);
      __m128 sum = _mm_add_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps(both, 1));
      sum = _mm_hadd_ps(sum, sum);
      y[n] = scale[n] * _mm_cvtss_f32(_mm_hadd_ps(sum, sum));
    }
  }
}
