// As much of UnityEngine as the package uses, written by hand after its documentation, to type-check and run
// the package without Unity. Meshes keep what they are given; what would be drawn does nothing.
using System;
using System.Collections.Generic;

namespace UnityEngine
{
    public class Object
    {
        public string name { get; set; }
        public static int Destroyed;
        public static void Destroy(Object it) { ++Destroyed; }
        public static bool operator ==(Object a, Object b) { return ReferenceEquals(a, b); }
        public static bool operator !=(Object a, Object b) { return !ReferenceEquals(a, b); }
        public override bool Equals(object other) { return ReferenceEquals(this, other); }
        public override int GetHashCode() { return 0; }
    }

    public class Component : Object
    {
        public GameObject gameObject { get; internal set; }
        public Transform transform { get { return gameObject.transform; } }
        public T GetComponent<T>() { return gameObject.GetComponent<T>(); }
    }

    public class Behaviour : Component { public bool enabled { get; set; } }
    public class MonoBehaviour : Behaviour { }

    public sealed class GameObject : Object
    {
        readonly List<Component> components = new List<Component>();
        public Transform transform { get; private set; }

        public GameObject(string name = "")
        {
            this.name = name;
            transform = new Transform { gameObject = this };
        }

        public T AddComponent<T>() where T : Component
        {
            foreach (RequireComponent each in typeof(T).GetCustomAttributes(typeof(RequireComponent), true))
            {
                if (components.Exists(each.Type.IsInstanceOfType)) continue;
                Add((Component)Activator.CreateInstance(each.Type));
            }
            return (T)Add(Activator.CreateInstance<T>());
        }

        public T GetComponent<T>() { return (T)(object)components.Find(each => each is T); }

        Component Add(Component made)
        {
            made.gameObject = this;
            components.Add(made);
            return made;
        }
    }

    public class Transform : Component
    {
        public Transform parent { get; private set; }
        public Vector3 position { get; set; }
        public Vector3 localPosition { get; set; }
        public void SetParent(Transform parent, bool worldPositionStays) { this.parent = parent; }
        public void LookAt(Vector3 worldPosition) { }
    }

    public struct Vector2 { public float x, y; }

    public struct Vector3
    {
        public float x, y, z;
        public Vector3(float x, float y, float z) { this.x = x; this.y = y; this.z = z; }
        public static Vector3 zero { get { return new Vector3(); } }
        public static Vector3 operator +(Vector3 a, Vector3 b)
        {
            return new Vector3(a.x + b.x, a.y + b.y, a.z + b.z);
        }
        public static Vector3 operator -(Vector3 a) { return new Vector3(-a.x, -a.y, -a.z); }
    }

    public struct Vector4 { public float x, y, z, w; }

    public struct Matrix4x4
    {
        public float m03, m13, m23; // the last column; the others are the identity's here
        public static Matrix4x4 Translate(Vector3 by)
        {
            return new Matrix4x4 { m03 = by.x, m13 = by.y, m23 = by.z };
        }
    }

    public struct Color32 { public byte r, g, b, a; }
    public struct Bounds { public Vector3 center, extents; }

    public struct BoneWeight
    {
        public int boneIndex0 { get; set; }
        public int boneIndex1 { get; set; }
        public int boneIndex2 { get; set; }
        public int boneIndex3 { get; set; }
        public float weight0 { get; set; }
        public float weight1 { get; set; }
        public float weight2 { get; set; }
        public float weight3 { get; set; }
    }

    /// <summary>Copies what it is given, as Unity does, and refuses what Unity refuses.</summary>
    public sealed class Mesh : Object
    {
        public struct Shape { public string Name; public Vector3[] Offsets, Turns; }

        public Vector3[] Vertices = new Vector3[0], Normals;
        public Vector2[] Uvs;
        public Vector4[] Tangents;
        public int[] Triangles;
        public int Changes;
        public readonly List<Shape> Shapes = new List<Shape>();
        BoneWeight[] skin;

        public Rendering.IndexFormat indexFormat { get; set; }
        public Bounds bounds { get; private set; }
        public Matrix4x4[] bindposes { get; set; }
        public BoneWeight[] boneWeights { get { return skin; } set { skin = Fitting(value); } }
        public void MarkDynamic() { }
        public void RecalculateBounds() { }
        public void SetVertices(Vector3[] inVertices) { Vertices = (Vector3[])inVertices.Clone(); ++Changes; }
        public void SetNormals(Vector3[] inNormals) { Normals = Fitting(inNormals); }
        public void SetTangents(Vector4[] inTangents) { Tangents = Fitting(inTangents); }
        public void SetUVs(int channel, Vector2[] uvs) { Uvs = Fitting(uvs); }
        public void SetTriangles(int[] triangles, int submesh)
        {
            if (Array.Exists(triangles, vertex => vertex < 0 || vertex >= Vertices.Length))
            {
                throw new ArgumentException("no such vertex");
            }
            Triangles = (int[])triangles.Clone();
        }
        public void ClearBlendShapes() { Shapes.Clear(); }
        public void AddBlendShapeFrame(string shapeName, float frameWeight, Vector3[] deltaVertices,
            Vector3[] deltaNormals, Vector3[] deltaTangents)
        {
            if (frameWeight != 100f || deltaTangents != null || GetBlendShapeIndex(shapeName) >= 0)
            {
                throw new ArgumentException(shapeName);
            }
            Vector3[] offsets = Fitting(deltaVertices), turns = Fitting(deltaNormals);
            Shapes.Add(new Shape { Name = shapeName, Offsets = offsets, Turns = turns });
        }
        public int GetBlendShapeIndex(string blendShapeName)
        {
            return Shapes.FindIndex(each => each.Name == blendShapeName);
        }
        T[] Fitting<T>(T[] values)
        {
            if (values.Length != Vertices.Length) throw new ArgumentException("not one for each vertex");
            return (T[])values.Clone();
        }
    }

    public class Renderer : Component
    {
        public Material sharedMaterial { get; set; }
        public Material material { get { return sharedMaterial = sharedMaterial ?? new Material(null); } }
    }

    public sealed class SkinnedMeshRenderer : Renderer
    {
        public readonly Dictionary<int, float> Weights = new Dictionary<int, float>();
        public Mesh sharedMesh { get; set; }
        public Transform[] bones { get; set; }
        public Bounds localBounds { get; set; }
        public void SetBlendShapeWeight(int index, float value) { Weights[index] = value; }
    }

    public class Texture : Object { }
    public enum TextureFormat { RGBA32 = 4 }
    public sealed class Texture2D : Texture
    {
        public int width { get; private set; }
        public int height { get; private set; }
        public Color32[] Pixels; // from the bottom row up
        public byte[] Data;
        public readonly bool Linear;
        public bool Applied;
        public Texture2D(int width, int height) { this.width = width; this.height = height; }
        public Texture2D(int width, int height, TextureFormat format, bool mipChain, bool linear)
            : this(width, height) { Linear = linear; }
        public void SetPixelData<T>(T[] data, int mipLevel, int sourceDataStartIndex = 0) where T : struct
        {
            if (data.Length != 4 * width * height || mipLevel != 0) throw new ArgumentException("data");
            Data = (byte[])(object)data.Clone();
        }
        public void Apply(bool updateMipmaps) { Applied = updateMipmaps; }
        public Color32[] GetPixels32() { return (Color32[])Pixels.Clone(); }
    }

    public sealed class Shader : Object { public static Shader Find(string name) { return new Shader(); } }
    public sealed class Material : Object
    {
        public readonly Dictionary<string, Texture> Textures = new Dictionary<string, Texture>();
        public readonly List<string> Keywords = new List<string>();
        public Material(Shader shader) { }
        public Texture mainTexture { get; set; }
        public void SetTexture(string name, Texture value) { Textures[name] = value; }
        public void EnableKeyword(string keyword) { Keywords.Add(keyword); }
    }
    public sealed class Camera : Behaviour { public float nearClipPlane { get; set; } }
    public enum LightType { Spot, Directional, Point }
    public sealed class Light : Behaviour { public LightType type { get; set; } }
    public static class Application { public static string streamingAssetsPath { get { return "nowhere"; } } }
    public static class Time { public static float time { get { return 0.25f; } } }
    public static class Mathf { public static float PingPong(float t, float length) { return t; } }
    public static class Debug
    {
        public static void LogError(object message, Object context) { Console.Error.WriteLine(message); }
    }

    [AttributeUsage(AttributeTargets.Field)]
    public sealed class TooltipAttribute : Attribute { public TooltipAttribute(string tooltip) { } }

    [AttributeUsage(AttributeTargets.Class)]
    public sealed class RequireComponent : Attribute
    {
        internal readonly Type Type;
        public RequireComponent(Type requiredComponent) { Type = requiredComponent; }
    }
}

namespace UnityEngine.Rendering
{
    public enum IndexFormat { UInt16, UInt32 }
    public enum VertexAttribute { Position, Normal, Tangent } // ours has the same name
}
