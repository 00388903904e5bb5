// Vertex normals and metres, gathered per vertex. See kernels.h.
#include <cmath>

#include "launch.h"

namespace topos {
namespace {

struct Vec3 {
  float x, y, z;
};

TOPOS_HD Vec3 load3(const float* p) { return Vec3{p[0], p[1], p[2]}; }

TOPOS_HD Vec3 minus(const Vec3& a, const Vec3& b) { return Vec3{a.x - b.x, a.y - b.y, a.z - b.z}; }

// Exactly zero where a and b are equal, and exactly -cross(b, a): a triangle without area has no direction.
TOPOS_HD Vec3 cross(const Vec3& a, const Vec3& b) {
  return Vec3{product(a.y, b.z) - product(a.z, b.y), product(a.z, b.x) - product(a.x, b.z),
              product(a.x, b.y) - product(a.y, b.x)};
}

TOPOS_HD Vec3 rotate(const float* m, const Vec3& v) {
  return Vec3{m[0] * v.x + m[1] * v.y + m[2] * v.z, m[3] * v.x + m[4] * v.y + m[5] * v.z,
              m[6] * v.x + m[7] * v.y + m[8] * v.z};
}

TOPOS_HD float largest(const Vec3& v) { return fmaxf(fabsf(v.x), fmaxf(fabsf(v.y), fabsf(v.z))); }

TOPOS_HD void store3(float* p, const Vec3& v) {
  p[0] = v.x;
  p[1] = v.y;
  p[2] = v.z;
}

// To unit length; what has no direction becomes +Y. Scaled first: the squares of small numbers would vanish.
TOPOS_HD Vec3 unit(const Vec3& v) {
  const float most = largest(v);
  if (!(most > 0.0f) || most > 3.0e38f || v.x != v.x || v.y != v.y || v.z != v.z) return Vec3{0.0f, 1.0f, 0.0f};
  const Vec3 s{v.x / most, v.y / most, v.z / most};
  const float length = sqrtf(s.x * s.x + s.y * s.y + s.z * s.z);
  return Vec3{s.x / length, s.y / length, s.z / length};
}

struct Body {
  static constexpr int kThreads = 128;
  static constexpr int kBlocksPerSM = 8;
  static constexpr int kShared = 0;

  MeshNormals args;

  TOPOS_HD void run(int block, unsigned char*) const {
    for_threads<kThreads>([&](int thread) {
      const int row = block * kThreads + thread;
      if (row >= args.rows) return;
      const Vec3 here = at(row);
      if (args.out_normals) store3(args.out_normals + 3 * static_cast<int64_t>(row), normal(row, here));
      if (args.out_positions) {
        const Vec3 turned = rotate(args.rotation, here);
        store3(args.out_positions + 3 * static_cast<int64_t>(row),
               Vec3{args.scale * turned.x + args.centre[0], args.scale * turned.y + args.centre[1],
                    args.scale * turned.z + args.centre[2]});
      }
    });
  }

 private:
  TOPOS_HD Vec3 at(int row) const { return load3(args.positions + static_cast<int64_t>(row) * args.pitch); }

  // The cross product of two sides is twice the area long, and the same at each corner of a triangle. Scaled by the
  // longest of them, so that neither tiny nor huge triangles leave the range of FP32.
  TOPOS_HD Vec3 normal(int row, const Vec3& here) const {
    const int first = args.offsets[row], last = args.offsets[row + 1];
    float reach = 0.0f;
    for (int i = 2 * first; i < 2 * last; ++i) reach = fmaxf(reach, largest(minus(at(args.wings[i]), here)));
    Vec3 sum{0.0f, 0.0f, 0.0f};
    if (reach > 0.0f && reach <= 3.0e38f) {
      for (int i = first; i < last; ++i) {
        const Vec3 a = minus(at(args.wings[2 * i]), here), b = minus(at(args.wings[2 * i + 1]), here);
        const Vec3 area = cross(Vec3{a.x / reach, a.y / reach, a.z / reach}, Vec3{b.x / reach, b.y / reach, b.z / reach});
        sum = Vec3{sum.x + area.x, sum.y + area.y, sum.z + area.z};
      }
    }
    return unit(rotate(args.rotation, sum));
  }
};

}  // namespace

int mesh_normals(const MeshNormals& args, Stream stream) {
  return launch(Body{args}, (static_cast<int64_t>(args.rows) + Body::kThreads - 1) / Body::kThreads, stream);
}

}  // namespace topos
