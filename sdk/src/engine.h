// One ONNX graph, loaded and ready to run, and the tensors that it reads and writes.
#ifndef TOPOS_SDK_ENGINE_H
#define TOPOS_SDK_ENGINE_H

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "ort.h"
#include "pack.h"

namespace topos {

using Shape = std::vector<int64_t>;

size_t count_of(const Shape& shape);

struct TensorInfo {
  std::string name;
  Shape shape;  // float32
};

// Float32 numbers in the host's memory, as ONNX Runtime takes them.
class Tensor {
 public:
  Tensor(const Ort& ort, Host& host, const Shape& shape);
  ~Tensor();
  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;

  float* data() { return numbers_.data(); }
  const float* data() const { return numbers_.data(); }
  size_t count() const { return numbers_.size(); }
  OrtValue* value() const { return value_; }

 private:
  const Ort& ort_;
  HostVector<float> numbers_;
  OrtValue* value_ = nullptr;
};

struct EngineSource {
  std::string name;  // for messages
  Rows<uint8_t> graph;
  std::string location;  // what the graph calls its file of weights; "" where they are inside
  Rows<uint8_t> weights;
};

class Engine {
 public:
  // Throws a Fault for a graph that cannot be loaded or has tensors other than float32 of fixed shape.
  Engine(const Ort& ort, const Host& host, const EngineSource& source, uint32_t threads, bool spin);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const std::string& name() const { return name_; }
  const std::vector<TensorInfo>& inputs() const { return inputs_; }
  const std::vector<TensorInfo>& outputs() const { return outputs_; }
  const TensorInfo& input(const char* name) const { return find(inputs_, name, "input"); }
  const TensorInfo& output(const char* name) const { return find(outputs_, name, "output"); }
  const Ort& ort() const { return ort_; }
  OrtSession* session() const { return session_; }

 private:
  void describe();
  const TensorInfo& find(const std::vector<TensorInfo>& in, const char* name, const char* kind) const;

  const Ort& ort_;
  std::string name_;
  OrtSession* session_ = nullptr;
  std::vector<TensorInfo> inputs_, outputs_;
};

using Named = std::pair<const char*, const Tensor*>;

// An engine with a tensor for each input and output. To run it allocates nothing of ours.
class Bound {
 public:
  Bound(const Engine& engine, const std::vector<Named>& inputs, const std::vector<Named>& outputs);
  // Throws a Fault where the engine fails, or was told by the options to end.
  void run(const OrtRunOptions* options) const;

 private:
  const Engine& engine_;
  std::vector<const char*> input_names_, output_names_;
  std::vector<const OrtValue*> inputs_;
  std::vector<OrtValue*> outputs_;
};

}  // namespace topos

#endif
