#include "head_mesh.h"

using namespace godot;

namespace topos_godot {

namespace {

// The library writes floats straight into Godot's arrays.
static_assert(sizeof(Vector3) == 3 * sizeof(float), "builds of Godot with double precision need a copy here");

topos_layout godot_layout() {
	TOPOS_STRUCT(topos_layout, layout);
	layout.axes = TOPOS_AXES_GODOT;
	return layout;
}

template <class Packed>
topos_stream stream_of(topos_attribute attribute, topos_format format, Packed &values) {
	TOPOS_STRUCT(topos_stream, stream);
	stream.attribute = attribute;
	stream.format = format;
	stream.data = values.ptrw();
	stream.capacity = static_cast<uint64_t>(values.size()) * sizeof(values[0]);
	return stream;
}

} // namespace

String message(topos_status status, const topos_error &error) {
	return String::utf8(topos_status_name(status)) + " " + String::utf8(error.message);
}

String HeadMesh::open(topos_model *model) {
	const topos_layout layout = godot_layout();
	TOPOS_STRUCT(topos_mesh_counts, counts);
	TOPOS_STRUCT(topos_error, error);
	topos_status status = topos_model_counts(model, &layout, &counts);
	if (status != TOPOS_OK) {
		return message(status, error);
	}
	positions.resize(counts.num_vertices);
	normals.resize(counts.num_vertices);
	uvs.resize(counts.num_vertices);
	indices.resize(counts.num_indices);
	const uint64_t capacity = uint64_t{ 4 } * counts.num_indices;
	status = topos_write_indices(model, &layout, TOPOS_U32, indices.ptrw(), capacity, &error);
	if (status != TOPOS_OK) {
		return message(status, error);
	}
	const topos_stream stream = stream_of(TOPOS_TEXCOORD, TOPOS_F32X2, uvs);
	status = topos_write_vertices(model, nullptr, &layout, nullptr, nullptr, &stream, 1, &error);
	return status == TOPOS_OK ? String() : message(status, error);
}

String HeadMesh::show(topos_model *model, topos_head *head, bool finished, ArrayMesh &mesh) {
	const topos_layout layout = godot_layout();
	TOPOS_STRUCT(topos_error, error);
	const topos_stream streams[] = { stream_of(TOPOS_POSITION, TOPOS_F32X3, positions),
		stream_of(TOPOS_NORMAL, TOPOS_F32X3, normals) };
	const topos_status status =
			topos_write_vertices(model, head, &layout, nullptr, nullptr, streams, 2, &error);
	if (status != TOPOS_OK) {
		return message(status, error);
	}
	mesh.clear_surfaces();
	mesh.clear_blend_shapes();
	// Godot keeps normals of blend shapes as unit vectors, which what is added to a normal is not, but the normal
	// itself is: shapes hold whole positions and normals, which this mode expects.
	mesh.set_blend_shape_mode(Mesh::BLEND_SHAPE_MODE_NORMALIZED);
	TypedArray<Array> shapes;
	const char *name = finished ? topos_model_shape_name(model, 0) : nullptr;
	for (uint32_t number = 0; name != nullptr; name = topos_model_shape_name(model, ++number)) {
		const String failure = add_shape(head, number, String::utf8(name), mesh, shapes);
		if (!failure.is_empty()) {
			return failure;
		}
	}
	Array arrays;
	arrays.resize(Mesh::ARRAY_MAX);
	arrays[Mesh::ARRAY_VERTEX] = positions;
	arrays[Mesh::ARRAY_NORMAL] = normals;
	arrays[Mesh::ARRAY_TEX_UV] = uvs;
	arrays[Mesh::ARRAY_INDEX] = indices;
	mesh.add_surface_from_arrays(Mesh::PRIMITIVE_TRIANGLES, arrays, shapes);
	return String();
}

String HeadMesh::add_shape(topos_head *head, uint32_t number, const String &name, ArrayMesh &mesh,
		TypedArray<Array> &shapes) {
	const topos_layout layout = godot_layout();
	TOPOS_STRUCT(topos_error, error);
	PackedVector3Array places, ways;
	places.resize(positions.size());
	ways.resize(positions.size());
	const topos_stream first = stream_of(TOPOS_POSITION, TOPOS_F32X3, places);
	const topos_stream second = stream_of(TOPOS_NORMAL, TOPOS_F32X3, ways);
	const topos_status status = topos_write_shape(head, &layout, number, 0, &first, &second, &error);
	if (status != TOPOS_OK) {
		return message(status, error);
	}
	Vector3 *place = places.ptrw();
	Vector3 *way = ways.ptrw();
	const Vector3 *from = positions.ptr();
	const Vector3 *at = normals.ptr();
	for (int64_t vertex = 0; vertex < positions.size(); ++vertex) {
		place[vertex] += from[vertex];
		way[vertex] = (way[vertex] + at[vertex]).normalized();
	}
	Array arrays;
	arrays.resize(Mesh::ARRAY_MAX);
	arrays[Mesh::ARRAY_VERTEX] = places;
	arrays[Mesh::ARRAY_NORMAL] = ways;
	mesh.add_blend_shape(name);
	shapes.push_back(arrays);
	return String();
}

} // namespace topos_godot
