// SPDX-License-Identifier: Apache-2.0
// The weights that a model uses in turn, against the caches of the machine: more than fit come from memory every time.
#pragma once
#include <cstdint>
#include <map>

namespace edge_vlm {

// Bytes of the largest cache of this machine; 0 where the system does not tell.
int64_t last_level_cache_bytes();

class WeightTotal {
 public:
  // Counts the weights of a Linear, once however many nodes share them; all are known before the first is used.
  void note(const uint8_t* weights, int64_t bytes);

  bool exceeds_caches() const { return bytes_ > cache_bytes_; }

 private:
  std::map<const uint8_t*, int64_t> noted_;
  int64_t bytes_ = 0, cache_bytes_ = last_level_cache_bytes();
};

}  // namespace edge_vlm
