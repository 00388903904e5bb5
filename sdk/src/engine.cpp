#include "engine.h"

#include "fault.h"

namespace topos {
namespace {

void ORT_API_CALL relay(void* host, OrtLoggingLevel severity, const char*, const char*, const char*,
                        const char* message) {
  constexpr topos_log_level kLevels[] = {TOPOS_LOG_DEBUG, TOPOS_LOG_INFO, TOPOS_LOG_WARNING, TOPOS_LOG_ERROR,
                                         TOPOS_LOG_ERROR};
  try {
    static_cast<const Host*>(host)->log(kLevels[severity], std::string("onnxruntime: ") + message);
  } catch (...) {  // no memory for the line
  }
}

// The options of a session: the same as topos_rt/engines/onnxruntime.py, so that the numbers are the same.
class SessionOptions {
 public:
  SessionOptions(const Ort& ort, const Host& host, uint32_t threads, bool spin) : api_(ort.api()) {
    ort.check(api_.CreateSessionOptions(&options), "a session");
    try {
      const auto set = [&ort](OrtStatus* status) { ort.check(status, "the options of a session"); };
      set(api_.SetIntraOpNumThreads(options, static_cast<int>(threads)));
      set(api_.SetInterOpNumThreads(options, 1));
      set(api_.SetSessionExecutionMode(options, ORT_SEQUENTIAL));
      set(api_.SetSessionGraphOptimizationLevel(options, ORT_ENABLE_ALL));
      set(api_.SetDeterministicCompute(options, true));
      set(api_.AddSessionConfigEntry(options, "session.intra_op.allow_spinning", spin ? "1" : "0"));
      const int level = host.level() >= TOPOS_LOG_OFF ? ORT_LOGGING_LEVEL_FATAL : host.level() == TOPOS_LOG_DEBUG ?
                        ORT_LOGGING_LEVEL_WARNING : host.level();  // ONNX Runtime's own details fill logs
      set(api_.SetSessionLogSeverityLevel(options, level));
      set(api_.SetUserLoggingFunction(options, relay, const_cast<Host*>(&host)));
    } catch (...) {
      api_.ReleaseSessionOptions(options);
      throw;
    }
  }
  ~SessionOptions() { api_.ReleaseSessionOptions(options); }
  SessionOptions(const SessionOptions&) = delete;
  SessionOptions& operator=(const SessionOptions&) = delete;

  OrtSessionOptions* options = nullptr;

 private:
  const OrtApi& api_;
};

}  // namespace

size_t count_of(const Shape& shape) {
  size_t count = 1;
  for (const int64_t size : shape) count *= static_cast<size_t>(size);
  return count;
}

Tensor::Tensor(const Ort& ort, Host& host, const Shape& shape)
    : ort_(ort), numbers_(count_of(shape), 0.0F, HostAllocator<float>(host)) {
  ort.check(ort.api().CreateTensorWithDataAsOrtValue(ort.memory(), numbers_.data(), numbers_.size() * sizeof(float),
                                                     shape.data(), shape.size(), ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
                                                     &value_),
            "a tensor");
}

Tensor::~Tensor() { ort_.api().ReleaseValue(value_); }

Engine::Engine(const Ort& ort, const Host& host, const EngineSource& source, uint32_t threads, bool spin)
    : ort_(ort), name_(source.name) {
  const SessionOptions session(ort, host, threads, spin);
  if (!source.location.empty()) {
    const ORTCHAR_T* names[1] = {};
#ifdef _WIN32
    const std::wstring name(source.location.begin(), source.location.end());  // of a pack: ASCII
#else
    const std::string& name = source.location;
#endif
    names[0] = name.c_str();
    char* buffers[] = {reinterpret_cast<char*>(const_cast<uint8_t*>(source.weights.data))};
    const size_t sizes[] = {source.weights.rows};
    ort.check(ort.api().AddExternalInitializersFromFilesInMemory(session.options, names, buffers, sizes, 1),
              name_.c_str());
  }
  ort.check(ort.api().CreateSessionFromArray(ort.env(), source.graph.data, source.graph.rows, session.options,
                                             &session_),
            name_.c_str());
  try {
    describe();
  } catch (...) {
    ort_.api().ReleaseSession(session_);
    throw;
  }
}

Engine::~Engine() { ort_.api().ReleaseSession(session_); }

void Engine::describe() {
  const OrtApi& api = ort_.api();
  const auto check = [this](OrtStatus* status) { ort_.check(status, name_.c_str()); };
  OrtAllocator* allocator = nullptr;
  check(api.GetAllocatorWithDefaultOptions(&allocator));
  for (const bool in : {true, false}) {
    size_t count = 0;
    check(in ? api.SessionGetInputCount(session_, &count) : api.SessionGetOutputCount(session_, &count));
    for (size_t at = 0; at < count; ++at) {
      TensorInfo info;
      char* name = nullptr;
      check(in ? api.SessionGetInputName(session_, at, allocator, &name)
               : api.SessionGetOutputName(session_, at, allocator, &name));
      info.name = name;
      check(api.AllocatorFree(allocator, name));
      OrtTypeInfo* type = nullptr;
      check(in ? api.SessionGetInputTypeInfo(session_, at, &type) : api.SessionGetOutputTypeInfo(session_, at, &type));
      const OrtTensorTypeAndShapeInfo* tensor = nullptr;
      ONNXTensorElementDataType element = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
      size_t rank = 0;
      OrtStatus* status = api.CastTypeInfoToTensorInfo(type, &tensor);
      if (status == nullptr && tensor != nullptr) status = api.GetTensorElementType(tensor, &element);
      if (status == nullptr && tensor != nullptr) status = api.GetDimensionsCount(tensor, &rank);
      if (status == nullptr && tensor != nullptr) {
        info.shape.resize(rank);
        status = api.GetDimensions(tensor, info.shape.data(), rank);
      }
      api.ReleaseTypeInfo(type);
      check(status);
      bool fits = element == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
      size_t total = 1;
      for (const int64_t size : info.shape) {
        fits = fits && size > 0 && static_cast<size_t>(size) <= (size_t{1} << 31) / total;
        if (fits) total *= static_cast<size_t>(size);
      }
      if (!fits) {
        fail(TOPOS_E_PACK, "tensor " + info.name + " of graph " + name_, "another type or an open shape",
             "float32 of fixed shape", "make the pack again with 'topos-rt pack'");
      }
      (in ? inputs_ : outputs_).push_back(std::move(info));
    }
  }
}

const TensorInfo& Engine::find(const std::vector<TensorInfo>& in, const char* name, const char* kind) const {
  for (const TensorInfo& info : in) {
    if (info.name == name) return info;
  }
  fail(TOPOS_E_PACK, std::string(kind) + "s of graph " + name_, std::string("none of the name ") + name, "one",
       "make the pack again with 'topos-rt pack'");
}

Bound::Bound(const Engine& engine, const std::vector<Named>& inputs, const std::vector<Named>& outputs)
    : engine_(engine) {
  const auto bind = [&engine](const Named& named, const TensorInfo& info) {
    if (count_of(info.shape) != named.second->count()) {
      fail(TOPOS_E_INTERNAL, std::string("tensor ") + named.first + " of graph " + engine.name(),
           std::to_string(named.second->count()) + " numbers", std::to_string(count_of(info.shape)));
    }
  };
  for (const Named& named : inputs) {
    bind(named, engine.input(named.first));
    input_names_.push_back(named.first);
    inputs_.push_back(named.second->value());
  }
  for (const Named& named : outputs) {
    bind(named, engine.output(named.first));
    output_names_.push_back(named.first);
    outputs_.push_back(named.second->value());
  }
}

void Bound::run(const OrtRunOptions* options) const {
  // ONNX Runtime takes a list of outputs that it may fill; these are given, and stay.
  const Ort& ort = engine_.ort();
  ort.check(ort.api().Run(engine_.session(), options, input_names_.data(), inputs_.data(), inputs_.size(),
                          output_names_.data(), output_names_.size(), const_cast<OrtValue**>(outputs_.data())),
            engine_.name().c_str());
}

}  // namespace topos
