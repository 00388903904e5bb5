// Heads from portraits in C#: runtime > model > job > head. C# 7.3, .NET Standard 2.0, no types of an engine.
// Jobs are polled: the library calls no delegate of a program's, so that everything works compiled ahead of
// time (IL2CPP), which takes static callbacks only. Compile with /unsafe, with both other files.
using System;
using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;
using System.Text;
using Topos.Native;
using static Topos.Native.Functions;

namespace Topos
{
    /// <summary>A call that failed. The message says what is wrong, and how to mend it.</summary>
    public sealed class ToposException : Exception
    {
        public Status Status { get; private set; }

        public ToposException(Status status, string message)
            : base(Text.Of(topos_status_name(status)) + " " + message) { Status = status; }

        /// <summary>Throws unless the status is Ok or Pending.</summary>
        internal static unsafe void Check(Status status, Error* error)
        {
            if (status >= 0) return;
            throw new ToposException(status, error == null ? "" : Text.Of((IntPtr)error->Message));
        }
    }

    /// <summary>UTF-8, which .NET Standard 2.0 does not marshal.</summary>
    public static class Text
    {
        public static unsafe string Of(IntPtr text)
        {
            if (text == IntPtr.Zero) return null;
            byte* bytes = (byte*)text;
            int length = 0;
            while (bytes[length] != 0) ++length;
            return length == 0 ? "" : Encoding.UTF8.GetString(bytes, length);
        }

        /// <summary>The bytes with an end; null of null.</summary>
        public static byte[] Bytes(string text)
        {
            return text == null ? null : Encoding.UTF8.GetBytes(text + "\0");
        }
    }

    /// <summary>ONNX Runtime and its threads; usually one a program.</summary>
    public sealed unsafe class ToposRuntime : IDisposable
    {
        public readonly RuntimeHandle Handle;

        /// <param name="onnxRuntime">The path of its library; null: the one beside topos_rt.</param>
        /// <param name="threads">For each network; 0: the usable cores, at most 8.</param>
        public ToposRuntime(string onnxRuntime = null, uint threads = 0)
        {
            uint abi = topos_abi_version();
            if (abi != AbiVersion)
            {
                throw new ToposException(Status.Unavailable, "topos_rt: got ABI " + abi + "; expected 1");
            }
            var error = new Error { StructSize = (uint)sizeof(Error) };
            fixed (byte* path = Text.Bytes(onnxRuntime))
            {
                var options = new RuntimeOptions { StructSize = (uint)sizeof(RuntimeOptions) };
                options.NumThreads = threads;
                options.OrtLibrary = (IntPtr)path;
                ToposException.Check(topos_runtime_create(&options, out Handle, &error), &error);
            }
        }

        public void Dispose() { Handle.Dispose(); }
    }

    /// <summary>A loaded engine pack. Loading takes a second or more: do it on a loading thread.</summary>
    public sealed unsafe class ToposModel : IDisposable
    {
        public readonly ModelHandle Handle;

        public ToposModel(ToposRuntime runtime, string path, LoadFlags flags = LoadFlags.None)
        {
            var error = new Error { StructSize = (uint)sizeof(Error) };
            fixed (byte* text = Text.Bytes(path))
            {
                var source = new Source { StructSize = (uint)sizeof(Source), Path = (IntPtr)text };
                var options = new LoadOptions { StructSize = (uint)sizeof(LoadOptions), Flags = flags };
                Status status = topos_model_load(runtime.Handle, &source, &options, out Handle, &error);
                ToposException.Check(status, &error);
            }
        }

        public ModelInfo Info
        {
            get
            {
                var info = new ModelInfo { StructSize = (uint)sizeof(ModelInfo) };
                ToposException.Check(topos_model_get_info(Handle, &info), null);
                return info;
            }
        }

        /// <summary>ARKit's name of a blendshape; null past the end.</summary>
        public string ShapeName(uint shape) { return Text.Of(topos_model_shape_name(Handle, shape)); }

        /// <summary>A joint's name, and its parent or -1; parents come first. Null past the end.</summary>
        public string Joint(uint joint, out int parent)
        {
            return Text.Of(topos_model_joint(Handle, joint, out parent));
        }

        public MeshCounts Counts(Layout layout)
        {
            var counts = new MeshCounts { StructSize = (uint)sizeof(MeshCounts) };
            ToposException.Check(topos_model_counts(Handle, &layout, &counts), null);
            return counts;
        }

        /// <summary>Writes the triangles of every head.</summary>
        public void WriteIndices(Layout layout, int[] into)
        {
            var error = new Error { StructSize = (uint)sizeof(Error) };
            fixed (int* data = into)
            {
                Status status = topos_write_indices(
                    Handle, &layout, Format.U32, data, sizeof(int) * (ulong)into.Length, &error);
                ToposException.Check(status, &error);
            }
        }

        /// <summary>Writes an attribute of a head, or of the model for null, into your array.</summary>
        public void Write<T>(
            ToposHead head, Layout layout, VertexAttribute attribute, Format format, T[] into)
            where T : struct
        {
            GCHandle pinned = GCHandle.Alloc(into, GCHandleType.Pinned);
            try
            {
                var stream = new Stream { StructSize = (uint)sizeof(Stream), Attribute = attribute };
                stream.Format = format;
                stream.Data = (void*)pinned.AddrOfPinnedObject();
                stream.Capacity = (ulong)into.Length * (ulong)Marshal.SizeOf(typeof(T));
                Write(head, layout, null, null, &stream, 1);
            }
            finally
            {
                pinned.Free();
            }
        }

        /// <summary>Writes streams into memory such as a mapped buffer; weights: null at rest.</summary>
        public void Write(
            ToposHead head, Layout layout, float* weights, float* rotations, Stream* streams, uint count)
        {
            var error = new Error { StructSize = (uint)sizeof(Error) };
            bool kept = false;
            try
            {
                if (head != null) head.Handle.DangerousAddRef(ref kept);
                IntPtr given = head == null ? IntPtr.Zero : head.Handle.DangerousGetHandle();
                Status status = topos_write_vertices(
                    Handle, given, &layout, weights, rotations, streams, count, &error);
                ToposException.Check(status, &error);
            }
            finally
            {
                if (kept) head.Handle.DangerousRelease();
            }
        }

        /// <summary>Writes the joints of a head at rest: three floats each, from the parent.</summary>
        public void WriteJoints(ToposHead head, Layout layout, float[] translations)
        {
            uint joints = Info.NumJoints; // the C function cannot know how long an array is
            if (translations.Length < 3 * joints)
            {
                throw new ArgumentException("got " + translations.Length + " floats; expected " + 3 * joints);
            }
            var error = new Error { StructSize = (uint)sizeof(Error) };
            fixed (float* data = translations)
            {
                ToposException.Check(
                    topos_write_joints(head.Handle, &layout, data, null, &error), &error);
            }
        }

        /// <summary>Starts a head of a picture, whose pixels are copied, and returns at once.</summary>
        public ToposJob Submit(
            Picture picture, ulong seed = 0, uint previewEvery = 0, uint preset = 0,
            TextureKind texture = TextureKind.None, uint textureSize = 0)
        {
            var error = new Error { StructSize = (uint)sizeof(Error) };
            fixed (byte* pixels = picture.Data)
            {
                var image = new Image { StructSize = (uint)sizeof(Image), Format = picture.Format };
                image.Data = (IntPtr)(pixels + picture.Offset);
                image.DataSize = (ulong)(picture.Data.Length - picture.Offset);
                image.Width = picture.Width;
                image.Height = picture.Height;
                image.RowStride = picture.RowStride;
                var request = new Request { StructSize = (uint)sizeof(Request), Images = &image };
                request.NumImages = 1;
                request.Seeds = &seed;
                request.NumSeeds = 1;
                request.PreviewEvery = previewEvery;
                request.Preset = preset;
                request.Texture = texture;
                request.TextureSize = textureSize;
                JobHandle job;
                ToposException.Check(topos_submit(Handle, &request, out job, &error), &error);
                return new ToposJob(job);
            }
        }

        public void Dispose() { Handle.Dispose(); }
    }

    /// <summary>A picture in memory: pixels with their size, or the bytes of a PNG or JPEG file.</summary>
    public struct Picture
    {
        public PixelFormat Format;
        public byte[] Data;
        public int Offset; // of the picture in Data
        public uint Width, Height;
        public int RowStride; // bytes; 0: rows lie close; negative: from the bottom up, as Unity has them
    }

    /// <summary>A head on its way. Poll it once a frame; it never blocks.</summary>
    public sealed unsafe class ToposJob : IDisposable
    {
        public readonly JobHandle Handle;
        Progress progress;

        internal ToposJob(JobHandle handle) { Handle = handle; }

        /// <summary>Steps done, and of all, as of the last poll.</summary>
        public uint Step { get { return progress.Step; } }
        public uint Steps { get { return progress.Steps; } }
        public string Stage { get { return Text.Of(progress.Stage); } }

        /// <summary>Returns whether the head is there. Throws what ended the job otherwise.</summary>
        public bool Poll()
        {
            fixed (Progress* told = &progress)
            {
                told->StructSize = (uint)sizeof(Progress);
                return Done(topos_job_poll(Handle, told));
            }
        }

        /// <summary>As Poll, but waits up to that long: for tools, not for frames.</summary>
        public bool Wait(uint milliseconds) { return Done(topos_job_wait(Handle, milliseconds)); }

        public void Cancel() { topos_job_cancel(Handle); }

        /// <summary>The newest preview that was not taken yet, without a rig; null: there is none.</summary>
        public ToposHead TakePreview(out uint step)
        {
            IntPtr head;
            ToposException.Check(topos_job_take_preview(Handle, out head, out step), null);
            return head == IntPtr.Zero ? null : new ToposHead(head);
        }

        /// <summary>The head; null: it is not there yet.</summary>
        public ToposHead TakeHead(uint item = 0)
        {
            IntPtr head;
            ToposException.Check(topos_job_take_head(Handle, item, out head), null);
            return head == IntPtr.Zero ? null : new ToposHead(head);
        }

        bool Done(Status status)
        {
            if (status >= 0) return status == Status.Ok;
            var error = new Error { StructSize = (uint)sizeof(Error) };
            topos_job_get_error(Handle, &error);
            throw new ToposException(status, Text.Of((IntPtr)error.Message));
        }

        /// <summary>Cancels a job that still runs, and returns at once.</summary>
        public void Dispose() { Handle.Dispose(); }
    }

    /// <summary>A finished head, or a preview.</summary>
    public sealed unsafe class ToposHead : IDisposable
    {
        public readonly HeadHandle Handle;

        internal ToposHead(IntPtr taken) { Handle = new HeadHandle(taken); }

        public HeadInfo Info
        {
            get
            {
                var info = new HeadInfo { StructSize = (uint)sizeof(HeadInfo) };
                ToposException.Check(topos_head_get_info(Handle, &info), null);
                return info;
            }
        }

        /// <summary>Writes what a blendshape adds to every position and normal, three floats each.</summary>
        public void WriteShape<T>(Layout layout, uint shape, T[] positions, T[] normals) where T : struct
        {
            var error = new Error { StructSize = (uint)sizeof(Error) };
            GCHandle first = GCHandle.Alloc(positions, GCHandleType.Pinned);
            GCHandle second = GCHandle.Alloc(normals, GCHandleType.Pinned);
            try
            {
                var offsets = new Stream { StructSize = (uint)sizeof(Stream), Format = Format.F32x3 };
                Stream turns = offsets;
                offsets.Data = (void*)first.AddrOfPinnedObject();
                offsets.Capacity = (ulong)positions.Length * (ulong)Marshal.SizeOf(typeof(T));
                turns.Data = (void*)second.AddrOfPinnedObject();
                turns.Capacity = (ulong)normals.Length * (ulong)Marshal.SizeOf(typeof(T));
                Status status = topos_write_shape(Handle, &layout, shape, 0, &offsets, &turns, &error);
                ToposException.Check(status, &error);
            }
            finally
            {
                first.Free();
                second.Free();
            }
        }

        /// <summary>Its kind is None where the head has none.</summary>
        public TextureInfo Texture
        {
            get
            {
                var info = new TextureInfo { StructSize = (uint)sizeof(TextureInfo) };
                ToposException.Check(topos_head_get_texture(Handle, &info), null);
                return info;
            }
        }

        /// <summary>Writes a map of the texture into your array.</summary>
        /// <param name="rowStride">Bytes; 0: rows lie close; negative: from the bottom up.</param>
        public void WriteTexture(
            Map map, PixelFormat format, byte[] into, int rowStride = 0, TexelsFlags flags = TexelsFlags.None)
        {
            var error = new Error { StructSize = (uint)sizeof(Error) };
            fixed (byte* data = into)
            {
                var texels = new Texels { StructSize = (uint)sizeof(Texels), Map = map, Format = format };
                texels.RowStride = rowStride;
                texels.Flags = flags;
                texels.Data = data;
                texels.Capacity = (ulong)into.Length;
                ToposException.Check(topos_head_write_texture(Handle, &texels, &error), &error);
            }
        }

        /// <summary>Writes glTF 2.0, binary.</summary>
        public void WriteGlb(System.IO.Stream into, uint lod = 0, ExportFlags flags = ExportFlags.None)
        {
            var error = new Error { StructSize = (uint)sizeof(Error) };
            var writing = new Writing { Into = into };
            GCHandle user = GCHandle.Alloc(writing);
            try
            {
                Status status = topos_head_write_glb(
                    Handle, lod, flags, Writing.Callback, GCHandle.ToIntPtr(user), &error);
                if (writing.Failure != null) ExceptionDispatchInfo.Capture(writing.Failure).Throw();
                ToposException.Check(status, &error);
            }
            finally
            {
                user.Free();
            }
        }

        public void Dispose() { Handle.Dispose(); }
    }

    /// <summary>Where a file's bytes go. The one callback: static, on the thread that asked for it.</summary>
    sealed class Writing
    {
        internal static readonly WriteCallback Callback = Write; // kept, so that it is never collected
        internal System.IO.Stream Into;
        internal Exception Failure;

        [MonoPInvokeCallback(typeof(WriteCallback))]
        static int Write(IntPtr user, IntPtr data, ulong size)
        {
            var writing = (Writing)GCHandle.FromIntPtr(user).Target;
            try
            {
                var part = new byte[size];
                Marshal.Copy(data, part, 0, part.Length);
                writing.Into.Write(part, 0, part.Length);
                return 0;
            }
            catch (Exception failure) // none may cross into C
            {
                writing.Failure = failure;
                return 1;
            }
        }
    }

    /// <summary>Tells IL2CPP which methods C calls; it knows the attribute by its name.</summary>
    [AttributeUsage(AttributeTargets.Method)]
    sealed class MonoPInvokeCallbackAttribute : Attribute
    {
        public MonoPInvokeCallbackAttribute(Type type) { }
    }
}
