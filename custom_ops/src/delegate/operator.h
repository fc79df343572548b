// SPDX-License-Identifier: Apache-2.0
// An operator of the contract (spec.py) at one node: its attributes, its checks, its call of the kernels.
#pragma once
#include <memory>

#include "attributes.h"
#include "node.h"
#include "state.h"

namespace edge_vlm {

class Operator {
 public:
  virtual ~Operator() = default;
  // Check every tensor and size the output. Throws Fault.
  virtual void prepare(const Node& node) = 0;
  // Compute. Throws Fault where values (ids, positions) are out of range.
  virtual void eval(const Node& node) = 0;
};

struct OperatorKind {
  const char* name;
  int version;
  int attribute_bytes;
  std::unique_ptr<Operator> (*make)(const void* attributes, int size, DelegateState& state);  // throws Fault
};

// Adapts a class with a constructor (Attributes, DelegateState&).
template <typename Attributes, typename Implementation>
constexpr OperatorKind operator_kind() {
  return {Attributes::kName, Attributes::kVersion, static_cast<int>(sizeof(Attributes)),
          [](const void* bytes, int size, DelegateState& state) -> std::unique_ptr<Operator> {
            return std::make_unique<Implementation>(parse_attributes<Attributes>(bytes, size), state);
          }};
}

OperatorKind linear_kind();
OperatorKind norm_kind();
OperatorKind swiglu_kind();
OperatorKind attention_kind();
OperatorKind embedding_kind();
OperatorKind token_scatter_kind();
OperatorKind token_gather_kind();
OperatorKind sample_kind();

constexpr int kMaxWidth = 1 << 16;  // of a row: exact int32 sums need in_features * 255 * 127 < 2^31
constexpr int kMaxRows = 1 << 24;   // out_features, vocabulary, capacity

}  // namespace edge_vlm
