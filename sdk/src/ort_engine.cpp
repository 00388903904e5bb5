#include "ort_engine.h"

#include "fault.h"
#include "providers.h"
#include "session_cache.h"

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

// The options of a session: as to numbers the same as topos_rt/engines/onnxruntime.py.
class SessionOptions {
 public:
  explicit SessionOptions(const SessionSettings& settings) : ort_(settings.ort), api_(settings.ort.api()) {
    check(api_.CreateSessionOptions(&options));
    try {
      check(api_.SetIntraOpNumThreads(options, static_cast<int>(settings.threads)));
      check(api_.SetInterOpNumThreads(options, 1));
      check(api_.SetSessionExecutionMode(options, ORT_SEQUENTIAL));
      check(api_.SetSessionGraphOptimizationLevel(options, ORT_ENABLE_ALL));
      check(api_.SetDeterministicCompute(options, true));
      // An arena of each session would keep what its largest run took, though sessions run one after another.
      check(api_.DisableCpuMemArena(options));
      check(api_.DisableMemPattern(options));
      set("session.intra_op.allow_spinning", settings.spins ? "1" : "0");
      const Host& host = settings.host;
      const int level = host.level() >= TOPOS_LOG_OFF ? ORT_LOGGING_LEVEL_FATAL : host.level() == TOPOS_LOG_DEBUG ?
                        ORT_LOGGING_LEVEL_WARNING : host.level();  // ONNX Runtime's own details fill logs
      check(api_.SetSessionLogSeverityLevel(options, level));
      check(api_.SetUserLoggingFunction(options, relay, const_cast<Host*>(&host)));
    } catch (...) {
      api_.ReleaseSessionOptions(options);
      throw;
    }
  }
  ~SessionOptions() { api_.ReleaseSessionOptions(options); }
  SessionOptions(const SessionOptions&) = delete;
  SessionOptions& operator=(const SessionOptions&) = delete;

  void check(OrtStatus* status) const { ort_.check(status, "the options of a session"); }
  void set(const char* key, const char* value) { check(api_.AddSessionConfigEntry(options, key, value)); }
  // Writes what was compiled for the backend into a folder; for the CPU the graph as it was optimised, and the weights
  // as its operators take them.
  void save_to(const std::filesystem::path& folder, topos_backend backend) {
    if (backend != TOPOS_BACKEND_CPU) {
      set("ep.context_enable", "1");
      set("ep.context_embed_mode", "1");
      set("ep.context_file_path", (folder / kCachedGraph).u8string().c_str());
      set("ep.context_model_external_initializers_file_name", kCachedWeights);
      return;
    }
    check(api_.SetOptimizedModelFilePath(options, (folder / kCachedGraph).c_str()));
    set("session.optimized_model_external_initializers_file_name", kCachedWeights);
    set("session.optimized_model_external_initializers_min_size_in_bytes", "512");
    set("session.save_external_prepacked_constant_initializers", "1");
    // It would warn that the result holds for this kind of machine alone.
    check(api_.SetSessionLogSeverityLevel(options, ORT_LOGGING_LEVEL_ERROR));
  }

  OrtSessionOptions* options = nullptr;

 private:
  const Ort& ort_;
  const OrtApi& api_;
};

OrtSession* from_pack(const SessionSettings& settings, const EngineSource& source, SessionOptions& session) {
  const Ort& ort = settings.ort;
  if (!source.location.empty()) {
    const ORTCHAR_T* names[1] = {};
#ifdef _WIN32
    const std::wstring name(source.location.begin(), source.location.end());  // of a pack: ASCII
#else
    const std::string& name = source.location;
#endif
    names[0] = name.c_str();
    char* buffers[] = {reinterpret_cast<char*>(const_cast<uint8_t*>(source.weights.data))};
    const size_t sizes[] = {source.weights.size};
    ort.check(ort.api().AddExternalInitializersFromFilesInMemory(session.options, names, buffers, sizes, 1),
              source.name.c_str());
  }
  OrtSession* made = nullptr;
  ort.check(ort.api().CreateSessionFromArray(ort.env(), source.graph.data, source.graph.size, session.options, &made),
            source.name.c_str());
  return made;
}

// The session of a graph that is in the cache, or comes into it now; null where the cache cannot be used, which costs
// time and memory, but is no reason to do without a model.
OrtSession* from_cache(const SessionSettings& settings, const EngineSource& source, topos_backend backend) {
  const Ort& ort = settings.ort;
  try {
    SessionOptions session(settings);
    const std::string maker = use_backend(ort, backend, settings.rtx_library, session.options);
    const SessionCache cache(settings.cache_dir, ort, maker, source);
    const auto path = cache.graph(source, [&](const std::filesystem::path& folder) {
      SessionOptions saving(settings);
      use_backend(ort, backend, settings.rtx_library, saving.options);
      saving.save_to(folder, backend);
      ort.api().ReleaseSession(from_pack(settings, source, saving));
    });
    if (backend == TOPOS_BACKEND_CPU) {
      session.check(ort.api().SetSessionGraphOptimizationLevel(session.options, ORT_DISABLE_ALL));
    }
    OrtSession* made = nullptr;
    try {
      ort.check(ort.api().CreateSession(ort.env(), path.c_str(), session.options, &made), source.name.c_str());
    } catch (const Fault&) {
      cache.drop();
      throw;
    }
    return made;
  } catch (const Fault& fault) {
    if (fault.status == TOPOS_E_PACK || fault.status == TOPOS_E_UNAVAILABLE) throw;
    settings.host.log(TOPOS_LOG_WARNING, "the cache is not used for " + source.name + ": " + fault.message);
    return nullptr;
  }
}

}  // namespace

OrtEngine::OrtEngine(const SessionSettings& settings, const EngineSource& source, topos_backend backend)
    : Engine(source.name), ort_(settings.ort) {
  if (settings.cache_dir != nullptr) session_ = from_cache(settings, source, backend);
  if (session_ == nullptr) {
    SessionOptions session(settings);
    use_backend(ort_, backend, settings.rtx_library, session.options);
    session_ = from_pack(settings, source, session);
  }
  try {
    describe();
  } catch (...) {
    ort_.api().ReleaseSession(session_);
    throw;
  }
}

void OrtEngine::describe() {
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

void OrtEngine::run(const Bound& bound, const Stop* stop) const {
  // ONNX Runtime takes a list of outputs that it may fill; these are given, and stay.
  ort_.check(ort_.api().Run(session_, stop == nullptr ? nullptr : stop->options(), bound.input_names.data(),
                            bound.input_values.data(), bound.input_values.size(), bound.output_names.data(),
                            bound.output_names.size(), const_cast<OrtValue**>(bound.output_values.data())),
             name_.c_str());
}

}  // namespace topos
