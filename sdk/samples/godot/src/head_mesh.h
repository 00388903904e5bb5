// A head as a mesh of Godot, in its axes, with a blend shape for each of the model's.
#pragma once

#include <godot_cpp/classes/array_mesh.hpp>
#include <godot_cpp/variant/packed_int32_array.hpp>
#include <godot_cpp/variant/packed_vector2_array.hpp>
#include <godot_cpp/variant/packed_vector3_array.hpp>
#include <godot_cpp/variant/string.hpp>

#include "handles.h"

namespace topos_godot {

class HeadMesh {
public:
	// Reads what all heads of a model share. An empty string: it worked.
	godot::String open(topos_model *model);

	// Puts a head into a mesh in place of what is there; a finished one with its blend shapes.
	godot::String show(topos_model *model, topos_head *head, bool finished, godot::ArrayMesh &mesh);

private:
	godot::String add_shape(topos_head *head, uint32_t number, const godot::String &name,
			godot::ArrayMesh &mesh, godot::TypedArray<godot::Array> &shapes);

	godot::PackedInt32Array indices;
	godot::PackedVector2Array uvs;
	godot::PackedVector3Array positions, normals;
};

// What a failed call says: its status and one line.
godot::String message(topos_status status, const topos_error &error);

} // namespace topos_godot
