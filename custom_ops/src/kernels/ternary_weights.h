// SPDX-License-Identifier: Apache-2.0
// Ternary weights of five a byte and how they are held in memory: as in the file, which is less to read, or at two bits,
// which is less to decode. What is read from memory anyway pays for decoding; what stays in a cache does not.
#pragma once
#include <cstdint>
#include <map>
#include <memory>

#include "attention_cache.h"
#include "layout.h"
#include "weight_total.h"

namespace edge_vlm {

// `dense`: TERNARY_DENSE weights -> the same as TERNARY, packed_bytes(kTernary, ...) bytes.
void unpack_dense(const uint8_t* dense, int out_features, int in_features, uint8_t* ternary);

enum class DenseWeights { kAuto, kPacked, kUnpacked };

class TernaryWeights {
 public:
  TernaryWeights(DenseWeights choice, bool kernels_decode, const WeightTotal& total)
      : choice_(choice), kernels_decode_(kernels_decode), total_(total) {}

  // The two-bit form of dense weights, made at the first call, or null: they are to be read as they are. Null also
  // where memory is short.
  const uint8_t* unpacked(const uint8_t* dense, int out_features, int in_features);

 private:
  bool unpacks() const;

  DenseWeights choice_;
  bool kernels_decode_;
  const WeightTotal& total_;
  std::map<const uint8_t*, ZeroedArray<uint8_t>> unpacked_;
};

}  // namespace edge_vlm
