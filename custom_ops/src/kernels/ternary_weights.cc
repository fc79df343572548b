// SPDX-License-Identifier: Apache-2.0
#include "ternary_weights.h"

#include <vector>

namespace edge_vlm {

namespace {

constexpr int kTernaryQuads = 4, kDenseQuads = 5;  // of a block

// Stored codes (0..2) of a byte's five trits; see packing.py, dense_bytes.
void decode(uint8_t byte, uint8_t trits[kDenseQuads]) {
  const int rest = byte < 192 ? byte & 63 : 64 + (byte - 192) % 17;
  const int last = byte < 192 ? byte >> 6 : (byte - 192) / 17;
  const int values[kDenseQuads] = {rest % 3, rest / 3 % 3, rest / 9 % 3, rest / 27, last < 2 ? last : 2};
  for (int quad = 0; quad < kDenseQuads; quad++) trits[quad] = static_cast<uint8_t>(values[quad]);
}

}  // namespace

void unpack_dense(const uint8_t* dense, int out_features, int in_features, uint8_t* ternary) {
  const int row_blocks = static_cast<int>(round_up(out_features, kBlockRows) / kBlockRows);
  const int dense_blocks = blocks_across(WeightFormat::kTernaryDense, in_features);
  const int blocks = blocks_across(WeightFormat::kTernary, in_features);
  uint8_t trits[256][kDenseQuads];
  for (int byte = 0; byte < 256; byte++) decode(static_cast<uint8_t>(byte), trits[byte]);
  std::vector<uint8_t> quads(static_cast<size_t>(dense_blocks * kDenseQuads + kTernaryQuads) * kBlockBytes, 1);
  for (int row_block = 0; row_block < row_blocks; row_block++, ternary += static_cast<size_t>(blocks) * kBlockBytes) {
    for (int block = 0; block < dense_blocks; block++, dense += kBlockBytes)
      for (int byte = 0; byte < kBlockBytes; byte++)
        for (int quad = 0; quad < kDenseQuads; quad++)
          quads[static_cast<size_t>(block * kDenseQuads + quad) * kBlockBytes + byte] = trits[dense[byte]][quad];
    const uint8_t* quad = quads.data();
    for (int block = 0; block < blocks; block++, quad += kTernaryQuads * kBlockBytes)
      for (int byte = 0; byte < kBlockBytes; byte++)
        ternary[block * kBlockBytes + byte] = static_cast<uint8_t>(
            quad[byte] | quad[kBlockBytes + byte] << 2 | quad[2 * kBlockBytes + byte] << 4 | quad[3 * kBlockBytes + byte] << 6);
  }
}

bool TernaryWeights::unpacks() const {
  if (choice_ != DenseWeights::kAuto) return choice_ == DenseWeights::kUnpacked;
  return !total_.exceeds_caches() || !kernels_decode_;
}

const uint8_t* TernaryWeights::unpacked(const uint8_t* dense, int out_features, int in_features) {
  if (!unpacks()) return nullptr;
  ZeroedArray<uint8_t>& own = unpacked_[dense];
  if (!own) {
    own = allocate_zeroed<uint8_t>(static_cast<size_t>(packed_bytes(WeightFormat::kTernary, out_features, in_features)));
    if (own) unpack_dense(dense, out_features, in_features, own.get());
  }
  return own.get();
}

}  // namespace edge_vlm
