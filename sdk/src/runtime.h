// The runtime: ONNX Runtime, the host's memory, threads and log, and the count of handles that the host holds.
#ifndef TOPOS_SDK_RUNTIME_H
#define TOPOS_SDK_RUNTIME_H

#include <atomic>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "host.h"
#include "ort_engine.h"

namespace topos {

class Runtime;

// What a handle points to. Its memory is the host's; it goes with the last reference, the host's or ours.
class Object {
 public:
  void retain() { ++references_; }
  void release();
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;

 protected:
  Object() = default;
  virtual ~Object() = default;

 private:
  // Destroys the object and gives its memory back.
  virtual void destroy() = 0;

  std::atomic<uint32_t> references_{1};
};

// A reference of ours.
template <class T>
class Ref {
 public:
  Ref() = default;
  explicit Ref(T* object) : object_(object) {
    if (object_ != nullptr) object_->retain();
  }
  Ref(const Ref& other) : Ref(other.object_) {}
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Ref& operator=(Ref other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Ref() {
    if (object_ != nullptr) object_->release();
  }
  // Takes over the reference that a new object is made with.
  static Ref adopt(T* object) {
    Ref made;
    made.object_ = object;
    return made;
  }
  T* get() const { return object_; }
  T* operator->() const { return object_; }
  T& operator*() const { return *object_; }
  explicit operator bool() const { return object_ != nullptr; }
  // Gives the reference away.
  T* leave() { return std::exchange(object_, nullptr); }

 private:
  T* object_ = nullptr;
};

class Runtime final : public Object {
 public:
  // options: checked, with every default filled in.
  static Ref<Runtime> make(const topos_runtime_options& options);

  Host& host() { return *host_; }
  const Ort* ort() const { return ort_.get(); }  // null for a runtime of the fake backend
  uint32_t threads() const { return threads_; }
  // Only with an ONNX Runtime.
  SessionSettings sessions() const;

  // Whether this process is the one that made the runtime; a forked one has none of its threads.
  void check_process() const;

  // Starts a thread for work, and keeps it until it has ended.
  void start(void (*work)(void*), void* argument);

  // The host's handles of this runtime and all that came from it. When the last one goes, threads are waited for, so
  // that the host may unload the library then.
  void handle_made() { ++handles_; }
  void handle_gone();

 private:
  struct Thread {
    Runtime* runtime;
    void (*work)(void*);
    void* argument;
    void* token = nullptr;
    std::atomic<bool> done{false};
    std::atomic<std::thread::id> id{};
  };

  Runtime(std::unique_ptr<Host> host, const topos_runtime_options& options);
  ~Runtime() override = default;
  void destroy() override;
  static void TOPOS_CALL enter(void* thread);
  void join(bool all);

  std::unique_ptr<Host> host_;
  std::unique_ptr<const Ort> ort_;
  std::string cache_dir_, rtx_library_;
  uint32_t threads_;
  bool spins_;
  int64_t process_;
  std::atomic<uint64_t> handles_{0};
  std::mutex mutex_;
  std::list<Thread> running_;
};

// Makes an object in the host's memory; its destroy calls unmake.
template <class T, class... Arguments>
T* made_in(Host& host, Arguments&&... arguments) {
  void* memory = host.take(sizeof(T), alignof(T));
  try {
    return new (memory) T(std::forward<Arguments>(arguments)...);
  } catch (...) {
    host.give_back(memory, sizeof(T), alignof(T));
    throw;
  }
}

}  // namespace topos

#endif
