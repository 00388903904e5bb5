// A head as a mesh of Unity. Arrays are made once for all heads of a model, so that previews need none.
using Topos.Native;
using UnityEngine;

namespace Topos.Unity
{
    /// <summary>One mesh, shown by one renderer, that takes head after head of a model.</summary>
    public sealed class HeadMesh
    {
        public readonly Mesh Mesh;
        readonly ToposModel model;
        readonly Layout layout;
        readonly SkinnedMeshRenderer renderer;
        readonly uint shapes;
        readonly bool textured;
        readonly Vector4[] tangents;
        readonly Vector3[] positions, normals, offsets, turns;
        readonly float[] translations;
        readonly int[] parents;
        readonly Transform[] joints;

        public unsafe HeadMesh(ToposModel model, SkinnedMeshRenderer renderer, uint lod = 0)
        {
            this.model = model;
            this.renderer = renderer;
            textured = (model.Info.Features & FeatureFlags.Texture) != 0;
            layout = new Layout { StructSize = (uint)sizeof(Layout), Axes = Axes.Unity, Lod = lod };
            if (textured) layout.Flags = LayoutFlags.Atlas; // the UVs of textures
            MeshCounts counts = model.Counts(layout);
            shapes = counts.NumShapes;
            positions = new Vector3[counts.NumVertices];
            normals = new Vector3[counts.NumVertices];
            offsets = new Vector3[counts.NumVertices];
            tangents = new Vector4[counts.NumVertices];
            turns = new Vector3[counts.NumVertices];
            translations = new float[3 * counts.NumJoints];
            parents = new int[counts.NumJoints];
            joints = new Transform[counts.NumJoints];
            Mesh = new Mesh { name = "topos_rt head" };
            Mesh.MarkDynamic();
            // Not `using` its namespace: UnityEngine.Rendering has a VertexAttribute, too.
            bool wide = counts.NumVertices > ushort.MaxValue;
            if (wide) Mesh.indexFormat = UnityEngine.Rendering.IndexFormat.UInt32;
            WriteModel(counts);
            renderer.sharedMesh = Mesh;
        }

        /// <summary>Shows a head or a preview, without a rig: for every frame that has a new one.</summary>
        public void Show(ToposHead head)
        {
            model.Write(head, layout, VertexAttribute.Position, Format.F32x3, positions);
            model.Write(head, layout, VertexAttribute.Normal, Format.F32x3, normals);
            Mesh.SetVertices(positions);
            Mesh.SetNormals(normals);
            if (textured)
            {
                model.Write(head, layout, VertexAttribute.Tangent, Format.F32x4, tangents);
                Mesh.SetTangents(tangents);
            }
            Mesh.RecalculateBounds();
            renderer.localBounds = Mesh.bounds;
        }

        /// <summary>Removes the last head's blendshapes, which a preview of another must not wear.</summary>
        public void ClearRig() { Mesh.ClearBlendShapes(); }

        /// <summary>Adds the blendshapes of a finished head, and moves its joints: once a head.</summary>
        public void AddRig(ToposHead head)
        {
            Mesh.ClearBlendShapes();
            for (uint shape = 0; shape < shapes; ++shape)
            {
                head.WriteShape(layout, shape, offsets, turns);
                Mesh.AddBlendShapeFrame(model.ShapeName(shape), 100f, offsets, turns, null);
            }
            if (joints.Length > 0) PlaceJoints(head);
        }

        // What all heads of a model share: triangles, UVs, joints and the weights of the skin.
        void WriteModel(MeshCounts counts)
        {
            var indices = new int[counts.NumIndices];
            var uvs = new Vector2[counts.NumVertices];
            model.WriteIndices(layout, indices);
            model.Write(null, layout, VertexAttribute.TexCoord, Format.F32x2, uvs);
            Mesh.SetVertices(positions); // all at 0, until a head is there: counts have to agree
            Mesh.SetUVs(0, uvs);
            Mesh.SetTriangles(indices, 0);
            if (joints.Length == 0) return;
            for (uint joint = 0; joint < joints.Length; ++joint)
            {
                string name = model.Joint(joint, out parents[joint]);
                joints[joint] = new GameObject(name).transform;
                int parent = parents[joint]; // parents come first
                joints[joint].SetParent(parent < 0 ? renderer.transform : joints[parent], false);
            }
            Mesh.boneWeights = Skin(counts.NumVertices);
        }

        BoneWeight[] Skin(uint count)
        {
            var held = new ushort[4 * count];
            var weights = new float[4 * count];
            model.Write(null, layout, VertexAttribute.Joints, Format.U16x4, held);
            model.Write(null, layout, VertexAttribute.Weights, Format.F32x4, weights);
            var skin = new BoneWeight[count];
            for (int k = 0; k < count; ++k)
            {
                skin[k].boneIndex0 = held[4 * k];
                skin[k].boneIndex1 = held[4 * k + 1];
                skin[k].boneIndex2 = held[4 * k + 2];
                skin[k].boneIndex3 = held[4 * k + 3];
                skin[k].weight0 = weights[4 * k];
                skin[k].weight1 = weights[4 * k + 1];
                skin[k].weight2 = weights[4 * k + 2];
                skin[k].weight3 = weights[4 * k + 3];
            }
            return skin;
        }

        // Joints are not turned at rest: their bind poses only move back to the origin.
        void PlaceJoints(ToposHead head)
        {
            model.WriteJoints(head, layout, translations);
            var places = new Vector3[joints.Length];
            var binds = new Matrix4x4[joints.Length];
            for (int k = 0; k < joints.Length; ++k)
            {
                var from = new Vector3(translations[3 * k], translations[3 * k + 1], translations[3 * k + 2]);
                joints[k].localPosition = from;
                places[k] = parents[k] < 0 ? from : places[parents[k]] + from;
                binds[k] = Matrix4x4.Translate(-places[k]);
            }
            Mesh.bindposes = binds;
            renderer.bones = joints;
        }
    }
}
