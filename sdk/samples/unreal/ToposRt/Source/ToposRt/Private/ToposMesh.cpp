#include "ToposMesh.h"

namespace
{
topos_layout UnrealLayout()
{
	TOPOS_STRUCT(topos_layout, Layout);
	Layout.axes = TOPOS_AXES_UNREAL;
	return Layout;
}

/** A stream of floats, 2 or 3 a vertex. Unreal's vectors hold doubles: they are copied from these. */
topos_stream Floats(topos_attribute Attribute, topos_format Format, TArray<float>& Into)
{
	TOPOS_STRUCT(topos_stream, Stream);
	Stream.attribute = Attribute;
	Stream.format = Format;
	Stream.data = Into.GetData();
	Stream.capacity = static_cast<uint64>(Into.Num()) * sizeof(float);
	return Stream;
}

template <class VectorType>
void Copy(const TArray<float>& From, TArray<VectorType>& To)
{
	To.SetNumUninitialized(From.Num() / 3);
	for (int32 Row = 0; Row < To.Num(); ++Row)
	{
		To[Row] = VectorType(From[3 * Row], From[3 * Row + 1], From[3 * Row + 2]);
	}
}

bool Worked(topos_status Status, const topos_error& Error, FString& OutFailure)
{
	if (Status != TOPOS_OK)
	{
		OutFailure = ToposMessage(Status, Error);
	}
	return Status == TOPOS_OK;
}
} // namespace

bool FToposMesh::ReadModel(topos_model* Model, FString& OutFailure)
{
	const topos_layout Layout = UnrealLayout();
	TOPOS_STRUCT(topos_mesh_counts, Counts);
	TOPOS_STRUCT(topos_error, Error);
	if (!Worked(topos_model_counts(Model, &Layout, &Counts), Error, OutFailure))
	{
		return false;
	}
	const int32 NumVertices = static_cast<int32>(Counts.num_vertices);
	Triangles.SetNumUninitialized(static_cast<int32>(Counts.num_indices));
	const uint64 Capacity = static_cast<uint64>(Triangles.Num()) * sizeof(int32);
	topos_status Status =
		topos_write_indices(Model, &Layout, TOPOS_U32, Triangles.GetData(), Capacity, &Error);
	if (!Worked(Status, Error, OutFailure))
	{
		return false;
	}
	TArray<float> Read;
	Read.SetNumUninitialized(2 * NumVertices);
	const topos_stream Stream = Floats(TOPOS_TEXCOORD, TOPOS_F32X2, Read);
	Status = topos_write_vertices(Model, nullptr, &Layout, nullptr, nullptr, &Stream, 1, &Error);
	if (!Worked(Status, Error, OutFailure))
	{
		return false;
	}
	UVs.SetNumUninitialized(NumVertices);
	for (int32 Row = 0; Row < NumVertices; ++Row)
	{
		UVs[Row] = FVector2D(Read[2 * Row], Read[2 * Row + 1]);
	}
	return true;
}

bool FToposMesh::ReadHead(topos_model* Model, topos_head* Head, FString& OutFailure)
{
	const topos_layout Layout = UnrealLayout();
	TOPOS_STRUCT(topos_error, Error);
	TArray<float> Places, Ways;
	Places.SetNumUninitialized(3 * UVs.Num());
	Ways.SetNumUninitialized(3 * UVs.Num());
	const topos_stream Streams[] = {
		Floats(TOPOS_POSITION, TOPOS_F32X3, Places), Floats(TOPOS_NORMAL, TOPOS_F32X3, Ways)};
	const topos_status Status =
		topos_write_vertices(Model, Head, &Layout, nullptr, nullptr, Streams, 2, &Error);
	if (!Worked(Status, Error, OutFailure))
	{
		return false;
	}
	Copy(Places, Positions);
	Copy(Ways, Normals);
	return true;
}

bool FToposMesh::ReadShapes(topos_model* Model, topos_head* Head, FString& OutFailure)
{
	const topos_layout Layout = UnrealLayout();
	TOPOS_STRUCT(topos_error, Error);
	Shapes.Reset();
	for (uint32 Number = 0; const char* Name = topos_model_shape_name(Model, Number); ++Number)
	{
		FShape Shape;
		Shape.Name = FName(UTF8_TO_TCHAR(Name));
		uint32 Count = 0;
		topos_status Status = topos_write_shape_vertices(Model, &Layout, Number, nullptr, 0, &Count);
		if (Status == TOPOS_OK)
		{
			Shape.Vertices.SetNumUninitialized(static_cast<int32>(Count));
			uint32* Into = Shape.Vertices.GetData();
			Status = topos_write_shape_vertices(Model, &Layout, Number, Into, Count, &Count);
		}
		TArray<float> Places, Ways;
		Places.SetNumUninitialized(3 * Shape.Vertices.Num());
		Ways.SetNumUninitialized(3 * Shape.Vertices.Num());
		if (Status == TOPOS_OK)
		{
			const topos_stream First = Floats(TOPOS_POSITION, TOPOS_F32X3, Places);
			const topos_stream Second = Floats(TOPOS_NORMAL, TOPOS_F32X3, Ways);
			Status = topos_write_shape(Head, &Layout, Number, 1, &First, &Second, &Error);
		}
		if (!Worked(Status, Error, OutFailure))
		{
			return false;
		}
		Copy(Places, Shape.Offsets);
		Copy(Ways, Shape.Turns);
		Shapes.Add(MoveTemp(Shape));
	}
	return true;
}

void FToposMesh::Pose(
	const TArray<float>& Weights, TArray<FVector>& OutPositions, TArray<FVector>& OutNormals) const
{
	OutPositions = Positions;
	OutNormals = Normals;
	for (int32 Number = 0; Number < Shapes.Num(); ++Number)
	{
		const float Weight = Weights[Number];
		if (Weight == 0.0f)
		{
			continue;
		}
		const FShape& Shape = Shapes[Number];
		for (int32 Row = 0; Row < Shape.Vertices.Num(); ++Row)
		{
			const int32 Vertex = static_cast<int32>(Shape.Vertices[Row]);
			OutPositions[Vertex] += FVector(Shape.Offsets[Row]) * Weight;
			OutNormals[Vertex] += FVector(Shape.Turns[Row]) * Weight;
		}
	}
	for (FVector& Normal : OutNormals)
	{
		Normal.Normalize();
	}
}
