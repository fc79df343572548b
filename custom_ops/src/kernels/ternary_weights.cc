// SPDX-License-Identifier: Apache-2.0
#include "ternary_weights.h"

#include <unistd.h>

#include <cstdio>
#include <string>
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

// Sysfs gives sizes like "512K".
int64_t cache_bytes_of(int index) {
  const std::string path = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/size";
  std::FILE* file = std::fopen(path.c_str(), "r");
  if (file == nullptr) return 0;
  long long size = 0;
  char unit = 0;
  const int found = std::fscanf(file, "%lld%c", &size, &unit);
  std::fclose(file);
  return found < 1 ? 0 : size * (unit == 'K' ? 1024 : unit == 'M' ? 1024 * 1024 : 1);
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

int64_t last_level_cache_bytes() {
  int64_t largest = 0;
  for (int index = 0; index < 5; index++) {
    const int64_t bytes = cache_bytes_of(index);
    largest = bytes > largest ? bytes : largest;
  }
  return largest;
}

bool TernaryWeights::unpacks() {
  if (choice_ == DenseWeights::kAuto) {
    int64_t total = 0;
    for (const auto& weights : noted_) total += weights.second;
    const bool cached = total <= last_level_cache_bytes();
    choice_ = cached || !kernels_decode_ ? DenseWeights::kUnpacked : DenseWeights::kPacked;
  }
  return choice_ == DenseWeights::kUnpacked;
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
