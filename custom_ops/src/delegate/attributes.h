// SPDX-License-Identifier: Apache-2.0
// The operators' attributes as they travel in custom_options: spec.py, byte for byte (a test compares the two).
#pragma once
#include <cstdint>
#include <cstring>

#include "fault.h"

namespace edge_vlm {

// Each struct has a version and the sizes of all versions so far. A new version only appends fields, and 0 in them means
// what the version before meant.
constexpr char kMagic[4] = {'E', 'V', 'O', '1'};

struct AttributeHeader {
  char magic[4];
  uint16_t version;
  uint16_t size;  // bytes that follow
};
static_assert(sizeof(AttributeHeader) == 8, "header");

struct LinearAttributes {
  static constexpr const char* kName = "EdgeVlmLinear";
  static constexpr int kVersion = 3;
  static constexpr int kBytes[] = {24, 32, 40};  // version 1 has no groups, version 2 no norm
  int32_t weight_format, in_features, out_features, activation, has_bias, has_residual, group_size, has_zero, norm_kind;
  float norm_epsilon;
};
static_assert(sizeof(LinearAttributes) == 40, "packed");

struct NormAttributes {
  static constexpr const char* kName = "EdgeVlmNorm";
  static constexpr int kVersion = 1;
  static constexpr int kBytes[] = {12};
  int32_t kind, width;
  float epsilon;
};
static_assert(sizeof(NormAttributes) == 12, "packed");

struct AttentionAttributes {
  static constexpr const char* kName = "EdgeVlmAttention";
  static constexpr int kVersion = 2;
  static constexpr int kBytes[] = {32, 36};  // version 1 has float caches
  int32_t cache_id, capacity, query_heads, kv_heads, head_dim, causal;
  float rope_theta, scale;
  int32_t cache_format;
};
static_assert(sizeof(AttentionAttributes) == 36, "packed");

struct EmbeddingAttributes {
  static constexpr const char* kName = "EdgeVlmEmbedding";
  static constexpr int kVersion = 1;
  static constexpr int kBytes[] = {20};
  int32_t weight_format, vocab_size, width, image_token_id, has_image;
};
static_assert(sizeof(EmbeddingAttributes) == 20, "packed");

struct SwiGluAttributes {
  static constexpr const char* kName = "EdgeVlmSwiGlu";
  static constexpr int kVersion = 1;
  static constexpr int kBytes[] = {4};
  int32_t width;
};
static_assert(sizeof(SwiGluAttributes) == 4, "packed");

struct TokenScatterAttributes {
  static constexpr const char* kName = "EdgeVlmTokenScatter";
  static constexpr int kVersion = 1;
  static constexpr int kBytes[] = {12};
  int32_t cache_id, capacity, width;
};
static_assert(sizeof(TokenScatterAttributes) == 12, "packed");

struct TokenGatherAttributes {
  static constexpr const char* kName = "EdgeVlmTokenGather";
  static constexpr int kVersion = 1;
  static constexpr int kBytes[] = {12};
  int32_t cache_id, capacity, width;
};
static_assert(sizeof(TokenGatherAttributes) == 12, "packed");

struct SampleAttributes {
  static constexpr const char* kName = "EdgeVlmSample";
  static constexpr int kVersion = 1;
  static constexpr int kBytes[] = {4};
  int32_t vocab_size;
};
static_assert(sizeof(SampleAttributes) == 4, "packed");

// The bytes lie unaligned in the file: they are copied out. What an earlier version lacks stays 0, which means what that
// version meant. Throws Fault where they are not these attributes.
template <typename Attributes>
Attributes parse_attributes(const void* bytes, int size) {
  constexpr int kNewest = sizeof(AttributeHeader) + sizeof(Attributes);
  AttributeHeader header{};
  if (bytes != nullptr && size >= static_cast<int>(sizeof header)) std::memcpy(&header, bytes, sizeof header);
  if (bytes == nullptr || size > kNewest || size != static_cast<int>(sizeof header) + header.size)
    throw Fault("%d bytes of attributes, expected %d; export the bundle again", size, kNewest);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0)
    throw Fault("attributes do not start with EVO1: not written by edge-vlm-compress");
  constexpr int kVersions = sizeof(Attributes::kBytes) / sizeof(int);  // of version 1, 2, ...
  static_assert(kVersions == Attributes::kVersion && Attributes::kBytes[kVersions - 1] == sizeof(Attributes), "");
  if (header.version < 1 || header.version > kVersions || header.size != Attributes::kBytes[header.version - 1])
    throw Fault("attributes of version %d, this library reads %d; export the bundle again or update edge_vlm",
                header.version, Attributes::kVersion);
  Attributes attributes{};
  std::memcpy(&attributes, static_cast<const char*>(bytes) + sizeof header, header.size);
  return attributes;
}

}  // namespace edge_vlm
