// topos_rt.h in C# 7.3: its enumerations, structs and functions, one to one. ToposRt.cs is what programs use.
// Every struct is blittable, so that a call copies and allocates nothing; hence the unsafe fixed arrays.
using System;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Topos.Native
{
    public enum Status
    {
        Ok = 0, Pending = 1, Argument = -1, Image = -2, Pack = -3, Io = -4, Backend = -5, Unavailable = -6,
        Unsupported = -7, Cancelled = -8, Memory = -9, Capacity = -10, Numeric = -11, State = -12,
        Internal = -13
    }

    public enum PixelFormat { Encoded = 0, Rgb8 = 1, Rgba8 = 2, Bgra8 = 3, R8 = 4 }
    public enum Crop : uint { Auto = 0, None = 1, Box = 2 }
    public enum TextureKind { None = 0, Auto = 1, Projected = 2, Base = 3 }
    public enum Map : uint { Albedo = 1, Orm = 2, Normal = 3, Confidence = 4 }
    public enum Solver { Euler = 0, Heun = 1, Ab2 = 2, Ab3 = 3, Dpmpp2M = 4, UniPc = 5 }
    public enum Axes { Gltf = 0, Unity = 1, Unreal = 2, OpenGl = 3, Godot = 4 }
    public enum VertexAttribute : uint
    {
        Position = 1, Normal = 2, Tangent = 3, TexCoord = 4, Joints = 5, Weights = 6, SourceVertex = 7
    }

    public enum Format : uint
    {
        F32x2 = 1, F32x3 = 2, F32x4 = 3, F16x2 = 4, F16x4 = 5, SNorm8x4 = 6, SNorm16x4 = 7, UNorm16x2 = 8,
        UNorm8x4 = 9, UNorm16x4 = 10, U8x4 = 11, U16x4 = 12, U16 = 13, U32 = 14
    }

    [Flags] public enum SourceFlags : uint { None = 0, Verify = 1 }
    [Flags] public enum LoadFlags : uint { None = 0, WarmUp = 1, NoRig = 2, NoFaces = 4 }
    [Flags] public enum RequestFlags : uint { None = 0, Manual = 1, NoRig = 2, NoFaceCheck = 4 }
    [Flags] public enum LayoutFlags : uint { None = 0, TopologyOrder = 1, Atlas = 2 }
    [Flags] public enum ExportFlags : uint { None = 0, NoRig = 1, NoParts = 2, NoTexture = 4, Png = 8 }
    [Flags] public enum TexelsFlags : uint { None = 0, GreenDown = 1 }
    [Flags] public enum FeatureFlags : uint
    {
        None = 0, Rig = 1, Uvs = 2, Evidence = 4, Biometric = 8, Texture = 16
    }

    [Flags] public enum Settings : uint
    {
        None = 0, Steps = 1, Solver = 2, Guidance = 4, Shift = 8, Temperature = 16, Interval = 32, Reuse = 64,
        Times = 128
    }

    [StructLayout(LayoutKind.Sequential)]
    public unsafe struct Error
    {
        public uint StructSize;
        public Status Status;
        public fixed byte Message[504];
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct Allocator
    {
        public uint StructSize, Reserved;
        public IntPtr User, Alloc, Free;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct Threads
    {
        public uint StructSize, Reserved;
        public IntPtr User, Create, Join;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct RuntimeOptions
    {
        public uint StructSize;
        public int LogLevel;
        public IntPtr Log, LogUser, Allocator, Threads;
        public uint NumThreads, Flags;
        public IntPtr OrtApiBase, OrtLibrary, CacheDir, RtxLibrary;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct RuntimeInfo
    {
        public uint StructSize, NumThreads, OrtApi;
        public IntPtr OrtVersion, OrtLibrary;
        public ulong HostBytes, HostBytesPeak;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct Source
    {
        public uint StructSize;
        public SourceFlags Flags;
        public IntPtr Path, Data;
        public ulong DataSize;
        public IntPtr Release, ReleaseUser;
        public ulong Offset, Size;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct LoadOptions
    {
        public uint StructSize;
        public int Backend;
        public LoadFlags Flags;
        public uint Reserved;
        public ulong HostBudget;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct Requirements
    {
        public uint StructSize;
        public int Backend;
        public ulong HostMapped, HostPrivate, HostPerJob;
        public uint Estimated, Reserved;
    }

    [StructLayout(LayoutKind.Sequential)]
    public unsafe struct ModelInfo
    {
        public uint StructSize;
        public int Backend;
        public IntPtr Name, WeightsLicence;
        public fixed byte TopologyId[32];
        public uint NumVertices, NumLods, NumShapes, NumJoints, LatentTokens, LatentChannels;
        public uint ImageWidth, ImageHeight;
        public FeatureFlags Features;
        public uint NumPresets;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct Image
    {
        public uint StructSize;
        public PixelFormat Format;
        public IntPtr Data;
        public ulong DataSize;
        public uint Width, Height;
        public int RowStride;
        public uint Orientation;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct Progress
    {
        public uint StructSize, Step, Steps, Item, Items, Reserved;
        public IntPtr Stage;
    }

    [StructLayout(LayoutKind.Sequential)]
    public unsafe struct Request
    {
        public uint StructSize, Preset;
        public Image* Images;
        public uint NumImages, NumSeeds;
        public ulong* Seeds;
        public Settings Set;
        public uint Steps;
        public Solver Solver;
        public uint Reuse;
        public double Guidance, Shift, Temperature;
        public fixed double Interval[2];
        public double* Times;
        public uint NumTimes;
        public RequestFlags Flags;
        public uint PreviewEvery;
        public IntPtr Progress, ProgressUser;
        public uint Face;
        public Crop Crop;
        public fixed int CropBox[4];
        public float* Latents;
        public ulong NumLatents;
        public TextureKind Texture;
        public uint TextureSize;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct Layout
    {
        public uint StructSize;
        public Axes Axes;
        public uint Lod;
        public LayoutFlags Flags;
        public float Unit;
        public uint Reserved;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct MeshCounts
    {
        public uint StructSize, NumVertices, NumIndices, NumShapes, NumJoints, Reserved;
    }

    [StructLayout(LayoutKind.Sequential)]
    public unsafe struct Stream
    {
        public uint StructSize;
        public VertexAttribute Attribute;
        public Format Format;
        public uint Offset, Stride, Reserved;
        public void* Data;
        public ulong Capacity;
    }

    [StructLayout(LayoutKind.Sequential)]
    public unsafe struct HeadInfo
    {
        public uint StructSize, HasRig, IsPreview, Step;
        public ulong Seed;
        public fixed float BoundsMin[3];
        public fixed float BoundsMax[3];
        public fixed byte TopologyId[32];
        public IntPtr Metadata;
    }

    [StructLayout(LayoutKind.Sequential)]
    public unsafe struct Face
    {
        public uint StructSize, Found;
        public fixed float Box[4];
        public float Yaw, Pitch, Roll, Confidence;
        public fixed float Crop[4];
        public fixed float Scores[52];
        public float* Landmarks;
        public uint Fitted;
        public float Residual;
        public fixed float Turn[9];
        public fixed float Shift[3];
        public float Focal;
        public fixed float Centre[2];
        public uint Reserved;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct TextureInfo
    {
        public uint StructSize;
        public TextureKind Texture;
        public uint AlbedoSize, OrmSize, NormalSize, ConfidenceSize;
        public float Seen, Mirrored;
        public uint Turned, Spectacles;
    }

    [StructLayout(LayoutKind.Sequential)]
    public unsafe struct Texels
    {
        public uint StructSize;
        public Map Map;
        public PixelFormat Format;
        public int RowStride;
        public TexelsFlags Flags;
        public uint Reserved;
        public void* Data;
        public ulong Capacity;
    }

    /// <summary>Handles, which are released when they are disposed of or collected, in any order.</summary>
    public sealed class RuntimeHandle : SafeHandleZeroOrMinusOneIsInvalid
    {
        public RuntimeHandle() : base(true) { }
        protected override bool ReleaseHandle() { Functions.topos_runtime_release(handle); return true; }
    }

    public sealed class ModelHandle : SafeHandleZeroOrMinusOneIsInvalid
    {
        public ModelHandle() : base(true) { }
        protected override bool ReleaseHandle() { Functions.topos_model_release(handle); return true; }
    }

    public sealed class JobHandle : SafeHandleZeroOrMinusOneIsInvalid
    {
        public JobHandle() : base(true) { }
        protected override bool ReleaseHandle() { Functions.topos_job_release(handle); return true; }
    }

    public sealed class HeadHandle : SafeHandleZeroOrMinusOneIsInvalid
    {
        public HeadHandle() : base(true) { }
        public HeadHandle(IntPtr taken) : base(true) { SetHandle(taken); }
        protected override bool ReleaseHandle() { Functions.topos_head_release(handle); return true; }
    }

    [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
    public delegate int WriteCallback(IntPtr user, IntPtr data, ulong size);
}
