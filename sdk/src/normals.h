// Normals, tangents and the place of a head. Twin of topos_rt/head/normals.py, formats/textures.py, model/frame.py.
#ifndef TOPOS_SDK_NORMALS_H
#define TOPOS_SDK_NORMALS_H

#include <array>
#include <cstddef>
#include <cstdint>

namespace topos {

// A vector of unit length; +Y where it is zero or not finite.
std::array<float, 3> unit_vector(const double* vector);

// Area-weighted normals [n][3] of unit length. positions: [n][3]; triangles: [f][3], counter-clockwise.
void vertex_normals(const float* positions, size_t n, const int32_t* triangles, size_t f, float* out);
void vertex_normals(const double* positions, size_t n, const int32_t* triangles, size_t f, float* out);

// Unit tangents and the bitangents' signs [n][4], as glTF's TANGENT has them. uvs: [n][2], v down.
void tangents(const float* positions, const float* normals, const float* uvs, size_t n, const int32_t* triangles,
              size_t f, float* out);

// Takes the decoder's vertices [n][6], positions | normals in the networks' frame, to positions in metres and normals
// of unit length. rotation: [3][3], of signed units; radius: metres of a unit of the networks.
void place(const float* vertices, size_t n, const float* rotation, double radius, float* positions, float* normals);

}  // namespace topos

#endif
