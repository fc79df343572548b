// SPDX-License-Identifier: Apache-2.0
// What a node's checks throw; plugin.cc catches it at the border to the runtime and reports it with the node's name.
#pragma once
#include <string>

namespace edge_vlm {

class Fault {
 public:
  __attribute__((format(printf, 2, 3))) explicit Fault(const char* format, ...);
  const std::string& what() const { return what_; }

 private:
  std::string what_;
};

}  // namespace edge_vlm
