// SPDX-License-Identifier: Apache-2.0
// The compute kernels. They know nothing of TFLite: pointers, sizes and plain structs; arguments are trusted, the
// caller has checked them. Matrices are dense and row-major, float32 unless said otherwise.
//
// Each instruction set has one table of functions, all compiled from the same float code (vector8.h) and from its own
// integer accumulation (accumulate_*.h). The integers are exact, and the float steps of every kernel but attention
// run in the same order without fused multiply-add, so the tables agree bit for bit there. A row's result never
// depends on the other rows of a call.
#pragma once
#include <cstddef>
#include <cstdint>

#include "attention_cache.h"
#include "layout.h"

// AVX-VNNI needs an assembler that knows it, and these compilers to ask the CPU for it; older ones go without.
#if defined(EDGE_VLM_X86_KERNELS) && (__GNUC__ >= 11 || __clang_major__ >= 13)
#define EDGE_VLM_AVXVNNI_COMPILES
#endif
#if defined(EDGE_VLM_X86_KERNELS) && (__GNUC__ >= 11 || __clang_major__ >= 12)
#define EDGE_VLM_AMX_COMPILES
#endif

namespace edge_vlm {

enum class Activation : int32_t { kNone = 0, kGeluTanh = 1, kSilu = 2 };
enum class NormKind : int32_t { kLayer = 1, kRms = 2 };

// Activations as int8: codes (rows, stride), zero behind the real width; scale per row; sum of codes (rows, groups), where
// a group is the whole row if group_size is 0. With panel_rows > 1 that many rows are interleaved, codes quad by quad,
// (ceil(rows / panel_rows), stride / 4, panel_rows, 4), and sums (ceil(rows / panel_rows), groups, panel_rows): what a
// kernel for many rows reads is then one stream.
struct QuantizedRows {
  int8_t* codes;
  float* scale;
  int32_t* sum;
  size_t stride;
  int group_size;
  int groups;
  int panel_rows = 1;
};

constexpr int kManyRows = 4;  // from here on rows come in panels, and weights are unpacked once for all of them

// y (rows, out_features) = activation((codes W^T) * row scale * scale + bias) + residual
struct LinearArgs {
  WeightFormat format;
  Activation activation;
  int rows;
  int in_features;
  int out_features;
  const uint8_t* weights;  // packed
  const float* scale;      // (out_features,)
  const float* bias;       // (out_features,) or null
  const float* residual;   // (rows, out_features) or null
  float* y;
  // Where inputs have scales in groups, else 0 and null: float16 scales and zero points (or null), as layout.h has them.
  int group_size;
  const uint16_t* group_scale;
  const int8_t* zero;
  bool streams = false;  // whether the weights come from memory, as more are used in turn than a cache holds
};

struct NormArgs {
  NormKind kind;
  int rows;
  int width;
  float epsilon;
  const float* x;
  const float* weight;
  const float* bias;  // kLayer only, else null
  float* y;
};

// Queries made ready for a cache, kv head by kv head so that those sharing K and V lie side by side: query
// (kv head, row, head of the group) is number (kv_head * rows + row) * group + head.
struct PreparedQueries {
  float* values;        // (queries, head_dim), rotated and scaled; float32 and float16 caches
  QuantizedRows codes;  // the same as int8, padded to kRowPadding; int8 caches
};

struct StoreArgs {
  AttentionCache* cache;
  const float* qkv;          // (rows, (query_heads + 2 kv_heads) * head_dim)
  const int32_t* positions;  // (rows,)
  int rows;
  PreparedQueries queries;  // written
};

// Attention against a cache. The unit of work is a tile: up to kQueryTile (row, head) pairs of one kv head.
constexpr int kQueryTile = 48;  // whole times what any instruction set multiplies together

struct AttendArgs {
  const AttentionCache* cache;
  PreparedQueries queries;
  const int32_t* positions;  // (rows,)
  int rows;
  char* scratch;  // attention_scratch_bytes(cache), 64-byte aligned
  float* y;       // (rows, query_heads * head_dim)
};

// The largest of some logits, where it stands first (0 where there is none but NaN), and the sum of exp(logit - peak).
struct LogitSummary {
  float peak;
  int peak_index;
  float exponential_sum;
};

struct Kernels {
  const char* isa;
  int group_panel_rows;  // that linear() wants from kManyRows rows on where inputs have scales in groups,
  int panel_rows;        // and where they have none
  // x (rows, width) -> out, whose stride is at least width rounded up to kRowPadding.
  void (*quantize)(const float* x, int rows, int width, const QuantizedRows& out);
  // The same for what norm() would write; args.y is not used.
  void (*norm_quantize)(const NormArgs& args, const QuantizedRows& out);
  // Output rows 16 * first_block .. 16 * last_block - 1.
  void (*linear)(const LinearArgs& args, const QuantizedRows& x, int first_block, int last_block);
  void (*norm)(const NormArgs& args);
  // x (rows, 2 width), gate first -> y (rows, width) = silu(gate) * up
  void (*swiglu)(const float* x, int rows, int width, float* y);
  // K and V of rows first_row .. last_row - 1 into the cache, their queries made ready. AttentionCache::note_written
  // follows when all rows have been stored.
  void (*store)(const StoreArgs& args, int first_row, int last_row);
  void (*attend)(const AttendArgs& args, int first_tile, int last_tile);
  LogitSummary (*summarise)(const float* logits, int count);
  // Whether linear() decodes TERNARY_DENSE as fast as it comes from memory.
  bool (*reads_dense)();
};

// Elements between two queries' scores (float32) and planes of weights (int8) in an attention's scratch: a whole number of
// lines, and no power of two, at which rows would share few places of the nearest cache.
inline size_t score_stride(const AttentionCache& cache) { return static_cast<size_t>(cache.padded_capacity) + 16; }
inline size_t weight_stride(const AttentionCache& cache) { return static_cast<size_t>(cache.padded_capacity) + 64; }

int attention_tiles(const AttentionShape& shape, int rows);
size_t attention_scratch_bytes(const AttentionCache& cache);

// Rows of an embedding table: y (rows, width) = row ids[r] * scale[ids[r]]; packed int8 or plain float32.
void embed(WeightFormat format, const void* table, const float* scale, int width, const int32_t* ids, int rows,
           float* y);

// The best table that this CPU runs; with a name that one, or null where it is unknown, not compiled in, or the CPU lacks
// what it needs.
const Kernels* select_kernels(const char* name);

// Whether a name is that of an instruction set on some CPU: scalar; avx2, avxvnni, avx512vnni; neon, neondot, i8mm.
bool is_instruction_set(const char* name);

// Names of the tables that this CPU runs, best first, separated by commas.
const char* available_isas();

}  // namespace edge_vlm
