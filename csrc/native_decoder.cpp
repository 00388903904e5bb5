// A sequence of graph convolutions on the CPU, for topos_rt/model/native_decoder.py: graph_rows.h over threads.
#include "native_decoder.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "graph_rows.h"
#include "native_arrays.h"

namespace py = pybind11;
using namespace py::literals;

namespace topos {
namespace {

constexpr int64_t kMostNumbers = int64_t{1} << 31;  // of an array of features
constexpr int kSpins = 4000;                        // about 20 microseconds, before a waiting thread gives way

// The instruction sets of this build that run here, the widest first.
std::vector<const RowCode*> codes_here() {
  std::vector<const RowCode*> found;
#ifdef TOPOS_ROWS_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw")) {
    found.push_back(&kAvx512Rows);
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&kAvx2Rows);
#endif
  found.push_back(&kPlainRows);
  return found;
}

const RowCode& code_of(const std::optional<std::string>& name) {
  const auto found = codes_here();
  if (!name) return *found.front();
  for (const RowCode* code : found) {
    if (*name == code->name) return *code;
  }
  throw std::invalid_argument("no instruction set of this build that runs here is called " + *name);
}

// Lets threads wait for each other.
class Barrier {
 public:
  explicit Barrier(int threads) : threads_(threads) {}

  void wait() {
    const int turn = turn_.load(std::memory_order_acquire);
    if (here_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
      here_.store(0, std::memory_order_relaxed);
      turn_.store(turn + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; turn_.load(std::memory_order_acquire) == turn; ++spins) {
      if (spins > kSpins) std::this_thread::yield();
    }
  }

 private:
  const int threads_;
  std::atomic<int> here_{0}, turn_{0};
};

// Calls work(number) on threads of the numbers below count, of which the caller is 0. Where the system has no more
// threads, it is called with fewer: `begin` is told how many, before any of them runs.
template <class Begin, class Work>
void together(int count, Begin begin, Work work) {
  std::vector<std::thread> others;
  std::atomic<int> state{0};  // 1: go
  for (int number = 1; number < count; ++number) {
    try {
      others.emplace_back([&, number] {
        for (int spins = 0; state.load(std::memory_order_acquire) == 0; ++spins) {
          if (spins > kSpins) std::this_thread::yield();
        }
        work(number);
      });
    } catch (const std::system_error&) {
      break;
    }
  }
  begin(static_cast<int>(others.size()) + 1);
  state.store(1, std::memory_order_release);
  work(0);
  for (auto& other : others) other.join();
}

using Ids = Array<int32_t>;
using Floats = Array<float>;
using Edges = std::pair<std::optional<Ids>, std::optional<Ids>>;

class GraphConvs {
 public:
  GraphConvs(int64_t rows, int64_t columns, size_t slots, const std::optional<std::string>& instructions)
      : code_(code_of(instructions)), shapes_(slots, {0, 0}), slots_(slots) {
    if (rows < 1 || columns < 1 || slots < 1 || rows * columns >= kMostNumbers) {
      throw std::invalid_argument("rows, columns and slots have to be positive, and not too many");
    }
    input_ = shapes_[0] = {rows, columns};
    reserve(0);
  }

  // Adds a step, which reads the features that the steps before it have left in slots.
  void add(size_t source, size_t target, const std::vector<Edges>& types, int64_t rows, const Floats& matrix,
           const std::optional<Floats>& bias, const std::optional<std::pair<Floats, Floats>>& norm,
           std::optional<size_t> residual, const std::optional<Ids>& residual_rows, bool silu) {
    if (source >= slots_.size() || target >= slots_.size() || source == target || residual == target) {
      throw std::invalid_argument("a step that writes what it reads, or there is no such slot");
    }
    const auto [inputs, c_in] = shapes_[source];
    if (types.empty() || types.size() > 2 || rows < 1 || matrix.ndim() != 2 || matrix.shape(1) < 1 || c_in < 1 ||
        matrix.shape(0) != static_cast<py::ssize_t>(types.size()) * c_in) {
      throw std::invalid_argument("types or matrix do not fit the features of the source");
    }
    const int64_t c_out = matrix.shape(1);
    if (rows * (c_out + 64) >= kMostNumbers) throw std::invalid_argument("too many features");
    auto step = std::make_unique<Step>();
    GraphRows& args = step->args;
    args.rows = static_cast<int>(rows);
    args.c_in = static_cast<int>(c_in);
    args.c_out = static_cast<int>(c_out);
    args.types = static_cast<int>(types.size());
    for (size_t type = 0; type < types.size(); ++type) {
      const auto& [offsets, indices] = types[type];
      if (!indices && (offsets || rows > inputs)) throw std::invalid_argument("edges do not fit the source");
      if (indices) {
        require_rows(*indices, "indices", offsets ? -1 : rows);
        require_below(*indices, inputs, "indices");
        if (offsets) require_offsets(*offsets, rows, indices->size(), "offsets");
      }
      args.sources[type] = {offsets ? step->keep(*offsets) : nullptr, indices ? step->keep(*indices) : nullptr};
    }
    if (bias) {
      require_rows(*bias, "bias", static_cast<py::ssize_t>(types.size()), c_out);
      args.bias = step->keep(*bias);
    }
    if (norm) {
      if (c_out % (2 * kRowGroups)) throw std::invalid_argument("groups of a norm have an even number of columns");
      require_rows(norm->first, "gamma", c_out);
      require_rows(norm->second, "beta", c_out);
      args.gamma = step->keep(norm->first);
      args.beta = step->keep(norm->second);
    }
    if (residual) {
      if (*residual >= slots_.size() || shapes_[*residual].second != c_out) {
        throw std::invalid_argument("the residual has another width");
      }
      const int64_t kept = shapes_[*residual].first;
      if (residual_rows) {
        require_rows(*residual_rows, "residual_rows", rows);
        require_below(*residual_rows, kept, "residual_rows");
        args.residual_rows = step->keep(*residual_rows);
      } else if (kept < rows) {
        throw std::invalid_argument("the residual has fewer rows");
      }
    } else if (residual_rows) {
      throw std::invalid_argument("residual_rows without a residual");
    }
    args.silu = silu;
    const int k = args.types * args.c_in;
    const size_t width = (static_cast<size_t>(c_out) + code_.lanes - 1) / code_.lanes * code_.lanes;
    step->weights.resize(static_cast<size_t>(k) * width);
    code_.pack(matrix.data(), k, args.c_out, step->weights.data());
    args.weights = step->weights.data();
    step->source = source;
    step->target = target;
    step->residual = residual;
    scratch_ = std::max(scratch_, code_.scratch(k, args.c_out));
    shapes_[target] = {rows, c_out};
    reserve(target);
    last_ = target;
    steps_.push_back(std::move(step));
  }

  // Runs all steps and returns what the last one makes.
  Floats run(const Floats& input, int threads) {
    require_rows(input, "input", input_.first, input_.second);
    if (threads < 1 || steps_.empty()) throw std::invalid_argument("no threads, or no steps");
    const auto [rows, columns] = shapes_[last_];
    Floats made({rows, columns});
    float* out = made.mutable_data();
    const py::gil_scoped_release release;
    const std::lock_guard<std::mutex> turn(busy_);
    std::copy(input.data(), input.data() + input.size(), slots_[0].begin());
    for (auto& step : steps_) {
      step->args.x = slots_[step->source].data();
      step->args.residual = step->residual ? slots_[*step->residual].data() : nullptr;
      step->args.out = step == steps_.back() ? out : slots_[step->target].data();
      step->next.store(0, std::memory_order_relaxed);
    }
    std::vector<float> scratch(scratch_ * static_cast<size_t>(threads));
    std::unique_ptr<Barrier> barrier;
    together(
        threads, [&](int count) { barrier = std::make_unique<Barrier>(count); },
        [&](int number) {
          float* own = scratch.data() + scratch_ * static_cast<size_t>(number);
          for (auto& step : steps_) {
            const int blocks = (step->args.rows + kBlockRows - 1) / kBlockRows;
            for (int at = step->next++; at < blocks; at = step->next++) code_.block(step->args, at * kBlockRows, own);
            barrier->wait();
          }
        });
    return made;
  }

  const char* instructions() const { return code_.name; }

 private:
  struct Step {
    GraphRows args;
    size_t source = 0, target = 0;
    std::optional<size_t> residual;
    std::vector<float> weights;
    std::vector<std::vector<int32_t>> ids;
    std::vector<std::vector<float>> numbers;
    std::atomic<int> next{0};  // the block that is not yet taken

    const int32_t* keep(const Ids& array) {
      ids.emplace_back(array.data(), array.data() + array.size());
      return ids.back().data();
    }
    const float* keep(const Floats& array) {
      numbers.emplace_back(array.data(), array.data() + array.size());
      return numbers.back().data();
    }
  };

  void reserve(size_t slot) {
    const auto [rows, columns] = shapes_[slot];
    const auto size = static_cast<size_t>(rows * columns);
    if (slots_[slot].size() < size) slots_[slot].resize(size);
  }

  const RowCode& code_;
  std::pair<int64_t, int64_t> input_;
  std::vector<std::pair<int64_t, int64_t>> shapes_;  // of what each slot holds after the steps so far
  std::vector<std::vector<float>> slots_;
  std::vector<std::unique_ptr<Step>> steps_;
  size_t scratch_ = 0, last_ = 0;
  std::mutex busy_;
};

// Returns the sum of rows [count][n], each times its weight.
Floats weighted_sum(const Floats& weights, const Floats& rows, int threads, const std::optional<std::string>& instructions) {
  const RowCode& code = code_of(instructions);
  if (rows.ndim() != 2 || threads < 1) throw std::invalid_argument("rows is not a matrix, or there are no threads");
  require_rows(weights, "weights", rows.shape(0));
  Floats made(rows.shape(1));
  float* out = made.mutable_data();
  const py::gil_scoped_release release;
  const auto n = static_cast<size_t>(rows.shape(1)), count = static_cast<size_t>(rows.shape(0));
  constexpr size_t kPart = 4096;
  const size_t parts = (n + kPart - 1) / kPart;
  std::atomic<size_t> next{0};
  together(static_cast<int>(std::min<size_t>(static_cast<size_t>(threads), std::max<size_t>(parts, 1))), [](int) {},
           [&](int) {
             for (size_t at = next++; at < parts; at = next++) {
               code.weighted_sum(weights.data(), rows.data(), static_cast<int>(count), n, at * kPart,
                                 std::min(n, (at + 1) * kPart), out);
             }
           });
  return made;
}

}  // namespace

void define_decoder(py::module_& m) {
  const auto maybe = [](const char* name) { return py::arg(name) = py::none(); };
  py::class_<GraphConvs>(m, "GraphConvs")
      .def(py::init<int64_t, int64_t, size_t, const std::optional<std::string>&>(), py::kw_only(), "rows"_a, "columns"_a,
           "slots"_a, maybe("instructions"))
      .def("add", &GraphConvs::add, py::kw_only(), "source"_a, "target"_a, "types"_a, "rows"_a, "matrix"_a, maybe("bias"),
           maybe("norm"), maybe("residual"), maybe("residual_rows"), "silu"_a)
      .def("run", &GraphConvs::run, py::arg("input").noconvert(), "threads"_a)
      .def_property_readonly("instructions", &GraphConvs::instructions);
  m.def("weighted_sum", &weighted_sum, py::arg("weights").noconvert(), py::arg("rows").noconvert(), "threads"_a,
        maybe("instructions"));
  m.def("instruction_sets", [] {
    std::vector<std::string> names;
    for (const RowCode* code : codes_here()) names.emplace_back(code->name);
    return names;
  });
}

}  // namespace topos
