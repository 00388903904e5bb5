#include "engine.h"

#include "fault.h"

namespace topos {

size_t count_of(const Shape& shape) {
  size_t count = 1;
  for (const int64_t size : shape) count *= static_cast<size_t>(size);
  return count;
}

Tensor::Tensor(const Ort* ort, Host& host, const Shape& shape)
    : ort_(ort), numbers_(count_of(shape), 0.0F, HostAllocator<float>(host)) {
  if (ort == nullptr) return;
  ort->check(ort->api().CreateTensorWithDataAsOrtValue(ort->memory(), numbers_.data(), numbers_.size() * sizeof(float),
                                                       shape.data(), shape.size(),
                                                       ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &value_),
             "a tensor");
}

Tensor::~Tensor() {
  if (ort_ != nullptr) ort_->api().ReleaseValue(value_);
}

Stop::Stop(const Ort* ort) : ort_(ort) {
  if (ort != nullptr) ort->check(ort->api().CreateRunOptions(&options_), "the options of a run");
}

Stop::~Stop() {
  if (ort_ != nullptr) ort_->api().ReleaseRunOptions(options_);
}

void Stop::now() {
  if (ort_ == nullptr) return;
  OrtStatus* status = ort_->api().RunOptionsSetTerminate(options_);
  if (status != nullptr) ort_->api().ReleaseStatus(status);
}

const TensorInfo& Engine::find(const std::vector<TensorInfo>& in, const char* name, const char* kind) const {
  for (const TensorInfo& info : in) {
    if (info.name == name) return info;
  }
  fail(TOPOS_E_PACK, std::string(kind) + "s of graph " + name_, std::string("none of the name ") + name, "one",
       "make the pack again with 'topos-rt pack'");
}

Bound::Bound(const Engine& engine, const std::vector<Named>& inputs, const std::vector<Named>& outputs)
    : engine_(engine), inputs_(inputs), outputs_(outputs) {
  const auto check = [&engine](const Named& named, const TensorInfo& info) {
    if (count_of(info.shape) != named.second->count()) {
      fail(TOPOS_E_INTERNAL, std::string("tensor ") + named.first + " of graph " + engine.name(),
           std::to_string(named.second->count()) + " numbers", std::to_string(count_of(info.shape)));
    }
  };
  for (const Named& named : inputs) {
    check(named, engine.input(named.first));
    input_names.push_back(named.first);
    input_values.push_back(named.second->value());
  }
  for (const Named& named : outputs) {
    check(named, engine.output(named.first));
    output_names.push_back(named.first);
    output_values.push_back(named.second->value());
  }
}

}  // namespace topos
