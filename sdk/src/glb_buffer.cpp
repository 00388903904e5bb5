#include "glb_buffer.h"

#include <algorithm>

namespace topos {
namespace {

constexpr int kByte = 5121, kShort = 5123, kInt = 5125, kFloat = 5126;
constexpr int kNoTarget = 0, kVertices = 34962, kIndices = 34963;
constexpr size_t kShortLimit = 0xFFFF;  // graphics APIs reserve 65535 itself

// "min" and "max" of rows [n][width] with a comma before them. Of equal numbers the last one counts, as in NumPy.
std::string bounds_of(const float* values, size_t n, size_t width) {
  Json made;
  for (const bool low : {true, false}) {
    made.key(low ? "min" : "max").open('[');
    for (size_t k = 0; k < width; ++k) {
      float found = values[k];
      for (size_t i = 1; i < n; ++i) {
        const float value = values[i * width + k];
        found = (low ? found < value : found > value) ? found : value;
      }
      made.real(static_cast<double>(found));
    }
    made.close(']');
  }
  return made.str();
}

template <class T>
std::vector<T> narrowed(const std::vector<int32_t>& values) {
  std::vector<T> made;
  made.reserve(values.size());
  for (const int32_t value : values) made.push_back(static_cast<T>(value));
  return made;
}

// Where the entries of a shape lie, one for each copy of a vertex that it moves.
struct Moved {
  std::vector<int32_t> copies;
  std::vector<float> offsets, normals;
};

Moved moved_by(const Shapes& shapes, size_t shape, const MorphNormals& normals, const std::vector<int32_t>& source,
               std::vector<int32_t>& row) {
  const size_t begin = shapes.begin(shape), count = shapes.end(shape) - begin;
  std::vector<float> changes(3 * count);
  normals.changes(shapes, shape, changes.data());
  const int32_t* ids = shapes.index + begin;
  for (size_t i = 0; i < count; ++i) row[static_cast<size_t>(ids[i])] = static_cast<int32_t>(i) + 1;
  Moved made;
  for (size_t copy = 0; copy < source.size(); ++copy) {
    const int32_t entry = row[static_cast<size_t>(source[copy])] - 1;
    if (entry < 0) continue;
    made.copies.push_back(static_cast<int32_t>(copy));
    const float* offset = shapes.delta + 3 * (begin + static_cast<size_t>(entry));
    const float* change = changes.data() + 3 * static_cast<size_t>(entry);
    made.offsets.insert(made.offsets.end(), offset, offset + 3);
    made.normals.insert(made.normals.end(), change, change + 3);
  }
  for (size_t i = 0; i < count; ++i) row[static_cast<size_t>(ids[i])] = 0;
  return made;
}

// Without negative zeros.
std::vector<float> positive_zeros(std::vector<float> values) {
  for (float& value : values) value += 0.0F;
  return values;
}

}  // namespace

GlbBuffer::GlbBuffer() {
  views_.open('[');
  accessors_.open('[');
}

int GlbBuffer::floats(const std::vector<float>& values, size_t width, bool bounds) {
  const size_t count = values.size() / width;
  const int at = view(values.data(), values.size() * sizeof(float), kVertices);
  const char* type = width == 2 ? "VEC2" : width == 3 ? "VEC3" : "VEC4";
  return accessor(at, kFloat, false, count, type, bounds ? bounds_of(values.data(), count, width) : "");
}

int GlbBuffer::bytes(const std::vector<uint8_t>& values, bool normalized) {
  const int at = view(values.data(), values.size(), kVertices);
  return accessor(at, kByte, normalized, values.size() / 4, "VEC4", "");
}

int GlbBuffer::joints(const std::vector<uint16_t>& values, bool as_bytes) {
  if (as_bytes) return bytes(std::vector<uint8_t>(values.begin(), values.end()), false);
  const int at = view(values.data(), values.size() * sizeof(uint16_t), kVertices);
  return accessor(at, kShort, false, values.size() / 4, "VEC4", "");
}

int GlbBuffer::indices(const std::vector<int32_t>& values, size_t vertices) {
  const bool shorts = vertices <= kShortLimit;
  const std::vector<uint16_t> narrow = shorts ? narrowed<uint16_t>(values) : std::vector<uint16_t>();
  const int at = shorts ? view(narrow.data(), narrow.size() * sizeof(uint16_t), kIndices)
                        : view(values.data(), values.size() * sizeof(int32_t), kIndices);
  return accessor(at, shorts ? kShort : kInt, false, values.size(), "SCALAR", "");
}

int GlbBuffer::matrices(const std::vector<float>& values) {
  const int at = view(values.data(), values.size() * sizeof(float), kNoTarget);
  return accessor(at, kFloat, false, values.size() / 16, "MAT4", "");
}

int GlbBuffer::file(std::string_view bytes) { return view(bytes.data(), bytes.size(), kNoTarget); }

std::string GlbBuffer::targets(const Shapes& shapes, const MorphNormals& normals, const std::vector<int32_t>& source) {
  std::vector<int32_t> row(static_cast<size_t>(*std::max_element(source.begin(), source.end())) + 1);
  std::vector<Moved> moved;
  std::vector<int32_t> ids;
  std::vector<float> offsets, changes;
  for (size_t shape = 0; shape < shapes.count; ++shape) {
    moved.push_back(moved_by(shapes, shape, normals, source, row));
    const Moved& own = moved.back();
    ids.insert(ids.end(), own.copies.begin(), own.copies.end());
    offsets.insert(offsets.end(), own.offsets.begin(), own.offsets.end());
    changes.insert(changes.end(), own.normals.begin(), own.normals.end());
  }
  const bool shorts = source.size() <= kShortLimit, none = ids.empty();
  int index_view = 0;
  int value_views[2] = {0, 0};
  if (!none) {
    const std::vector<uint16_t> narrow = shorts ? narrowed<uint16_t>(ids) : std::vector<uint16_t>();
    index_view = shorts ? view(narrow.data(), narrow.size() * sizeof(uint16_t), kNoTarget)
                        : view(ids.data(), ids.size() * sizeof(int32_t), kNoTarget);
    value_views[0] = view(positive_zeros(offsets).data(), offsets.size() * sizeof(float), kNoTarget);
    value_views[1] = view(positive_zeros(changes).data(), changes.size() * sizeof(float), kNoTarget);
  }
  Json made;
  made.open('[');
  size_t start = 0;
  for (Moved& own : moved) {
    made.open('{');
    const size_t count = own.copies.size();
    for (const int column : {0, 1}) {
      if (none && column == 1) continue;
      accessors_.open('{').whole("componentType", kFloat).whole("count", static_cast<int64_t>(source.size()));
      accessors_.text("type", "VEC3");
      if (count > 0) {
        accessors_.key("sparse").open('{').whole("count", static_cast<int64_t>(count));
        accessors_.key("indices").open('{').whole("bufferView", index_view);
        accessors_.whole("byteOffset", static_cast<int64_t>(start * (shorts ? 2 : 4)));
        accessors_.whole("componentType", shorts ? kShort : kInt).close('}');
        accessors_.key("values").open('{').whole("bufferView", value_views[column]);
        accessors_.whole("byteOffset", static_cast<int64_t>(start * 3 * sizeof(float))).close('}').close('}');
      }
      if (column == 0) {
        // The bounds include the zeros of the vertices that stay.
        if (count < source.size()) own.offsets.insert(own.offsets.end(), 3, 0.0F);
        accessors_.raw_members(bounds_of(own.offsets.data(), own.offsets.size() / 3, 3));
      }
      accessors_.close('}');
      made.whole(column == 0 ? "POSITION" : "NORMAL", num_accessors_++);
    }
    made.close('}');
    start += count;
  }
  return made.close(']').str();
}

int GlbBuffer::view(const void* values, size_t size, int target) {
  views_.open('{').whole("buffer", 0).whole("byteOffset", static_cast<int64_t>(data_.size()));
  views_.whole("byteLength", static_cast<int64_t>(size));
  if (target != kNoTarget) views_.whole("target", target);
  views_.close('}');
  data_.append(static_cast<const char*>(values), size);
  data_.append((4 - size % 4) % 4, '\0');
  return num_views_++;
}

int GlbBuffer::accessor(int view, int component, bool normalized, size_t count, const char* type,
                        const std::string& bounds) {
  accessors_.open('{').whole("bufferView", view).whole("componentType", component);
  if (normalized) accessors_.key("normalized").truth(true);
  accessors_.whole("count", static_cast<int64_t>(count)).text("type", type);
  if (!bounds.empty()) accessors_.raw_members(bounds);
  accessors_.close('}');
  return num_accessors_++;
}

}  // namespace topos
