// A network, loaded and ready to run, and the tensors that it reads and writes.
#ifndef TOPOS_SDK_ENGINE_H
#define TOPOS_SDK_ENGINE_H

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ort.h"

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
  // ort: null where no ONNX Runtime is there.
  Tensor(const Ort* ort, Host& host, const Shape& shape);
  ~Tensor();
  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;

  float* data() { return numbers_.data(); }
  const float* data() const { return numbers_.data(); }
  size_t count() const { return numbers_.size(); }
  OrtValue* value() const { return value_; }

 private:
  const Ort* ort_;
  HostVector<float> numbers_;
  OrtValue* value_ = nullptr;
};

// Ends the runs of a job before they are done, from any thread.
class Stop {
 public:
  explicit Stop(const Ort* ort);
  ~Stop();
  Stop(const Stop&) = delete;
  Stop& operator=(const Stop&) = delete;

  void now();
  const OrtRunOptions* options() const { return options_; }

 private:
  const Ort* ort_;
  OrtRunOptions* options_ = nullptr;
};

class Bound;

class Engine {
 public:
  virtual ~Engine() = default;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const std::string& name() const { return name_; }
  const std::vector<TensorInfo>& inputs() const { return inputs_; }
  const std::vector<TensorInfo>& outputs() const { return outputs_; }
  const TensorInfo& input(const char* name) const { return find(inputs_, name, "input"); }
  const TensorInfo& output(const char* name) const { return find(outputs_, name, "output"); }
  // stop may be null. Throws a Fault where it fails, or was told to stop.
  virtual void run(const Bound& bound, const Stop* stop) const = 0;

 protected:
  explicit Engine(std::string name) : name_(std::move(name)) {}

  std::string name_;
  std::vector<TensorInfo> inputs_, outputs_;

 private:
  const TensorInfo& find(const std::vector<TensorInfo>& in, const char* name, const char* kind) const;
};

using Named = std::pair<const char*, Tensor*>;

// An engine with a tensor for each input and output. To run it allocates nothing of ours.
class Bound {
 public:
  Bound(const Engine& engine, const std::vector<Named>& inputs, const std::vector<Named>& outputs);

  void run(const Stop* stop) const { engine_.run(*this, stop); }
  const std::vector<Named>& inputs() const { return inputs_; }
  const std::vector<Named>& outputs() const { return outputs_; }

  // The same, as ONNX Runtime takes them.
  std::vector<const char*> input_names, output_names;
  std::vector<const OrtValue*> input_values;
  std::vector<OrtValue*> output_values;

 private:
  const Engine& engine_;
  std::vector<Named> inputs_, outputs_;
};

}  // namespace topos

#endif
