// Optimised graphs in a folder that the host names: with them a model loads in a fraction of the time, and its weights
// are pages of a file, which the system shares and drops, in place of the process's own memory. For TensorRT-RTX they
// hold the compiled engines (EPContext).
//
// What ONNX Runtime writes holds only for its build, the kind of CPU and the provider: all are in a graph's name, with
// the SHA-256 of what it was made of. A graph is a folder of three files: graph.onnx, weights.bin, which ONNX Runtime
// maps and not every provider needs, and sizes.txt, which is written last and tells whether the others are whole.
#ifndef TOPOS_SDK_SESSION_CACHE_H
#define TOPOS_SDK_SESSION_CACHE_H

#include <filesystem>
#include <functional>
#include <string>

#include "engine_source.h"
#include "ort.h"

namespace topos {

class SessionCache {
 public:
  // maker: what the result depends on besides the build of ONNX Runtime and the kind of CPU. Throws a Fault where that
  // kind cannot be told.
  SessionCache(const char* dir, const Ort& ort, const std::string& maker, const EngineSource& source);

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
