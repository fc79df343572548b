// SPDX-License-Identifier: Apache-2.0
// The part of TFLite's C ABI that an external delegate touches, declared anew: no runtime wheel ships headers.
//
// Fields are only ever appended to these structs, so what is declared here keeps its place in newer runtimes. Checked
// against tflite-runtime 2.14, tensorflow 2.21 and ai-edge-litert 2.3 on 64-bit systems. Never used here: a tensor's
// quantization (its layout did change).
#pragma once
#include <cstddef>
#include <cstdint>

extern "C" {

enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };
enum TfLiteType { kTfLiteFloat32 = 1, kTfLiteInt32 = 2, kTfLiteUInt8 = 3, kTfLiteInt8 = 9, kTfLiteFloat16 = 10 };
constexpr int kTfLiteMmapRo = 1;                // allocation_type of constants
constexpr int kTfLiteBuiltinCustom = 32;        // builtin_code of custom operators
constexpr int kTfLiteBuiltinDelegate = 51;      // builtin_code of a delegate's kernel
constexpr int64_t kAllowDynamicTensors = 1;     // delegate flag

struct TfLiteContext;
struct TfLiteDelegate;

struct TfLiteIntArray {
  int size;
  int data[1];  // really `size` of them
};

struct TfLiteTensor {
  int type;
  union {
    void* raw;
    float* f;
    int32_t* i32;
    uint8_t* u8;
  } data;
  TfLiteIntArray* dims;
  struct {
    float scale;
    int32_t zero_point;
  } params;
  int allocation_type;
  size_t bytes;
  const void* allocation;
  const char* name;
  TfLiteDelegate* delegate;
  int buffer_handle;
  bool data_is_stale;
  bool is_variable;
  struct {
    int type;
    void* params;
  } quantization;
  void* sparsity;
  const TfLiteIntArray* dims_signature;
};

struct TfLiteNode {
  TfLiteIntArray* inputs;
  TfLiteIntArray* outputs;
  TfLiteIntArray* intermediates;
  TfLiteIntArray* temporaries;
  void* user_data;
  void* builtin_data;
  const void* custom_initial_data;
  int custom_initial_data_size;
  TfLiteDelegate* delegate;
  bool might_have_side_effect;
};

struct TfLiteRegistration {
  void* (*init)(TfLiteContext*, const char* buffer, size_t length);
  void (*free)(TfLiteContext*, void* user_data);
  TfLiteStatus (*prepare)(TfLiteContext*, TfLiteNode*);
  TfLiteStatus (*invoke)(TfLiteContext*, TfLiteNode*);
  const char* (*profiling_string)(const TfLiteContext*, const TfLiteNode*);
  int32_t builtin_code;
  const char* custom_name;
  int version;
  void* registration_external;
  void* async_kernel;
  uint64_t inplace_operator;
  // Passed by value: a newer runtime may read fields appended later, which must be zero rather than stray stack.
  uint64_t appended_later[4];
};

struct TfLiteDelegateParams {
  TfLiteDelegate* delegate;
  TfLiteIntArray* nodes_to_replace;
  TfLiteIntArray* input_tensors;
  TfLiteIntArray* output_tensors;
};

struct TfLiteContext {
  size_t tensors_size;
  TfLiteStatus (*GetExecutionPlan)(TfLiteContext*, TfLiteIntArray** plan);
  TfLiteTensor* tensors;
  void* impl;
  TfLiteStatus (*ResizeTensor)(TfLiteContext*, TfLiteTensor*, TfLiteIntArray* new_size);  // frees new_size with free()
  void (*ReportError)(TfLiteContext*, const char* format, ...);
  void* AddTensors;
  TfLiteStatus (*GetNodeAndRegistration)(TfLiteContext*, int index, TfLiteNode**, TfLiteRegistration**);
  TfLiteStatus (*ReplaceNodeSubsetsWithDelegateKernels)(TfLiteContext*, TfLiteRegistration,
                                                        const TfLiteIntArray* nodes, TfLiteDelegate*);
  int recommended_num_threads;
  void* GetExternalContext;
  void* SetExternalContext;
  bool allow_fp32_relax_to_fp16;
  void* profiler;
  void* AllocatePersistentBuffer;
  void* AllocateBufferForEval;
  void* RequestScratchBufferInArena;
  void* GetScratchBuffer;
  void* ResizeTensorExplicit;
  void* PreviewDelegatePartitioning;
  TfLiteTensor* (*GetTensor)(const TfLiteContext*, int index);  // null in some runtimes, which then fill `tensors`
};

struct TfLiteDelegate {
  void* data;
  TfLiteStatus (*Prepare)(TfLiteContext*, TfLiteDelegate*);
  void* CopyFromBufferHandle;
  void* CopyToBufferHandle;
  void* FreeBufferHandle;
  int64_t flags;
  void* opaque_delegate_builder;
  uint64_t appended_later[4];
};

}  // extern "C"

static_assert(sizeof(void*) == 8, "only 64-bit systems: field offsets were not checked elsewhere");
static_assert(sizeof(TfLiteTensor) == 112, "TfLiteTensor");
static_assert(sizeof(TfLiteNode) == 80, "TfLiteNode");
static_assert(offsetof(TfLiteContext, GetTensor) == 160, "TfLiteContext.GetTensor");
static_assert(offsetof(TfLiteRegistration, builtin_code) == 40, "TfLiteRegistration.builtin_code");
static_assert(offsetof(TfLiteRegistration, appended_later) == 88, "TfLiteRegistration");
static_assert(offsetof(TfLiteDelegate, appended_later) == 56, "TfLiteDelegate");
