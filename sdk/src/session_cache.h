// Optimised graphs in a folder that the host names: with them a model loads in a fraction of the time, and its weights
// are pages of a file, which the system shares and drops, in place of the process's own memory.
//
// What ONNX Runtime writes holds only for its build and the kind of CPU: both are in a graph's name, with the SHA-256 of
// what it was made of. A graph is a folder of three files: graph.onnx, weights.bin, which ONNX Runtime maps, and
// sizes.txt, which is written last and tells whether the others are whole.
#ifndef TOPOS_SDK_SESSION_CACHE_H
#define TOPOS_SDK_SESSION_CACHE_H

#include <filesystem>
#include <functional>

#include "engine_source.h"
#include "ort.h"

namespace topos {

class SessionCache {
 public:
  // Throws a Fault where the kind of this CPU cannot be told.
  SessionCache(const char* dir, const Ort& ort, const EngineSource& source);

  // The path of the optimised graph; where it is not there yet, `save` writes graph.onnx and weights.bin into a folder.
  // Throws a Fault for a folder that cannot be written, or a source without the hash that its pack gives.
  std::filesystem::path graph(const EngineSource& source,
                              const std::function<void(const std::filesystem::path& folder)>& save) const;
  // Removes the graph.
  void drop() const;

 private:
  bool whole() const;

  std::filesystem::path folder_;
};

inline constexpr const char* kCachedGraph = "graph.onnx";
inline constexpr const char* kCachedWeights = "weights.bin";

}  // namespace topos

#endif
