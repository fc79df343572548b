// SPDX-License-Identifier: Apache-2.0
#include "worker_pool.h"

#include <chrono>

#ifdef __linux__
#include <pthread.h>
#include <sched.h>
#endif

namespace edge_vlm {

namespace {
// Multiply-adds that pay for another thread: one that sleeps takes tens of microseconds to come, one that looks out hardly one.
constexpr int64_t kWorthWaking = 2'000'000, kWorthSharing = 300'000;
constexpr int kChunksPerThread = 4;

constexpr int64_t kLate = 50'000;  // ns beyond the time of the caller's own chunks
constexpr int64_t kShortestCrowd = 20'000'000, kLongestCrowd = 1'000'000'000;  // ns

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Leaves the core's other hardware thread its share.
void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// A CPU that this process may not use leaves the thread where it is.
void pin(std::thread& thread, int cpu) {
#ifdef __linux__
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  pthread_setaffinity_np(thread.native_handle(), sizeof set, &set);
#endif
}

}  // namespace

// One chunk of another thread takes about a quarter of what the caller did; who waits far longer waits for the system's
// scheduler. Each period that soon follows another is twice as long.
void Crowding::note(int64_t now, int64_t worked, int64_t waited) {
  if (waited <= worked + kLate) return;
  const bool soon = now - until_.load(std::memory_order_relaxed) < 4 * length_;
  length_ = soon ? (2 * length_ < kLongestCrowd ? 2 * length_ : kLongestCrowd) : kShortestCrowd;
  until_.store(now + length_, std::memory_order_relaxed);
}

WorkerPool::WorkerPool(const PoolOptions& options) : spin_us_(options.spin_us) {
  for (int worker = 1; worker < options.threads; worker++) {
    workers_.emplace_back([this, worker] { work(worker); });
    if (!options.cpus.empty()) pin(workers_.back(), options.cpus[(worker - 1) % options.cpus.size()]);
  }
}

template <typename Ready>
void WorkerPool::spin_until(Ready ready) const {
  if (spin_us_ == 0) return;
  const int64_t now = now_ns(), end = now + 1000 * spin_us_;
  if (crowding_.at(now)) return;
  while (!ready() && now_ns() < end) relax();
}

WorkerPool::~WorkerPool() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void WorkerPool::share(int tasks, int64_t macs, const Run& run) {
  if (workers_.empty() || tasks < 2 || macs < kWorthSharing) return run(0, 0, tasks);
  const int64_t begun = now_ns();
  if (macs < kWorthWaking && (spin_us_ == 0 || crowding_.at(begun))) return run(0, 0, tasks);
  const int chunks = threads() * kChunksPerThread;
  Job job{&run, tasks, (tasks + chunks - 1) / chunks};
  job_ = &job;
  generation_++;
  if (sleepers_ > 0) {
    const std::lock_guard<std::mutex> lock(mutex_);  // one that is about to sleep then sleeps, and hears
    wake_.notify_all();
  }
  take_chunks(0, job);
  const int64_t worked = now_ns();
  job_ = nullptr;  // a worker that comes now finds nothing
  spin_until([this] { return active_ == 0; });
  if (active_ != 0) {
    std::unique_lock<std::mutex> lock(mutex_);
    caller_sleeps_ = true;
    finished_.wait(lock, [this] { return active_ == 0; });
    caller_sleeps_ = false;
  }
  const int64_t done = now_ns();
  crowding_.note(done, worked - begun, done - worked);
}

void WorkerPool::work(int worker) {
  for (uint64_t seen = 0;;) {
    spin_until([this, seen] { return stop_ || generation_ != seen; });
    if (!stop_ && generation_ == seen) {
      std::unique_lock<std::mutex> lock(mutex_);
      sleepers_++;
      wake_.wait(lock, [this, seen] { return stop_ || generation_ != seen; });
      sleepers_--;
    }
    if (stop_) return;
    seen = generation_;
    join(worker);
  }
}

// Whatever job is open.
void WorkerPool::join(int worker) {
  active_++;
  if (Job* job = job_) take_chunks(worker, *job);
  if (--active_ == 0 && caller_sleeps_) {
    const std::lock_guard<std::mutex> lock(mutex_);
    finished_.notify_one();
  }
}

void WorkerPool::take_chunks(int worker, Job& job) {
  for (;;) {
    const int first = job.next.fetch_add(job.chunk, std::memory_order_relaxed);
    if (first >= job.tasks) return;
    (*job.run)(worker, first, first + job.chunk < job.tasks ? first + job.chunk : job.tasks);
  }
}

}  // namespace edge_vlm
