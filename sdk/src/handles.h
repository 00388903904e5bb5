// Handles of the border, and what they point to.
#ifndef TOPOS_SDK_HANDLES_H
#define TOPOS_SDK_HANDLES_H

#include "fault.h"
#include "head.h"
#include "job.h"
#include "model.h"
#include "runtime.h"

namespace topos {

inline Runtime* object(topos_runtime* handle) { return reinterpret_cast<Runtime*>(handle); }
inline Model* object(topos_model* handle) { return reinterpret_cast<Model*>(handle); }
inline Job* object(topos_job* handle) { return reinterpret_cast<Job*>(handle); }
inline Head* object(topos_head* handle) { return reinterpret_cast<Head*>(handle); }

inline Runtime& runtime_of(Runtime& runtime) { return runtime; }
inline Runtime& runtime_of(Model& model) { return model.runtime(); }
inline Runtime& runtime_of(Job& job) { return job.runtime(); }
inline Runtime& runtime_of(Head& head) { return head.model().runtime(); }

// Gives a reference to the host.
template <class T, class Handle>
void hand_out(Ref<T> made, Handle** out) {
  runtime_of(*made).handle_made();
  *out = reinterpret_cast<Handle*>(made.leave());
}

template <class Handle>
void retain(Handle* handle) {
  if (handle == nullptr) return;
  runtime_of(*object(handle)).handle_made();
  object(handle)->retain();
}

template <class Handle>
void release(Handle* handle) {
  if (handle == nullptr) return;
  const Ref<Runtime> runtime(&runtime_of(*object(handle)));
  object(handle)->release();
  runtime->handle_gone();
}

// The object of a handle that must be given.
template <class Handle>
auto& needed(Handle* handle, const char* name) {
  if (handle == nullptr) fail(TOPOS_E_ARGUMENT, name, "NULL", "a handle");
  return *object(handle);
}

template <class Handle>
void need_out(Handle** out, const char* name) {
  if (out == nullptr) fail(TOPOS_E_ARGUMENT, name, "NULL", "a place for the result");
  *out = nullptr;
}

}  // namespace topos

#endif
