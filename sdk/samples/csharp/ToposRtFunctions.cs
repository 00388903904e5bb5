// The functions of topos_rt.h. Returned strings stay the library's: hence IntPtr, which Text.Of reads.
using System;
using System.Runtime.InteropServices;

namespace Topos.Native
{
    public static unsafe class Functions
    {
        const string Library = "topos_rt";
        const CallingConvention C = CallingConvention.Cdecl;
        public const uint AbiVersion = 1;

        [DllImport(Library, CallingConvention = C)]
        public static extern IntPtr topos_status_name(Status status);
        [DllImport(Library, CallingConvention = C)]
        public static extern uint topos_abi_version();
        [DllImport(Library, CallingConvention = C)]
        public static extern IntPtr topos_version_string();

        [DllImport(Library, CallingConvention = C)]
        public static extern Status topos_runtime_create(
            RuntimeOptions* options, out RuntimeHandle made, Error* error);
        [DllImport(Library, CallingConvention = C)]
        public static extern void topos_runtime_retain(RuntimeHandle runtime);
        [DllImport(Library, CallingConvention = C)]
        public static extern void topos_runtime_release(IntPtr runtime);
        [DllImport(Library, CallingConvention = C)]
        public static extern Status topos_runtime_get_info(RuntimeHandle runtime, RuntimeInfo* info);

        [DllImport(Library, CallingConvention = C)]
        public static extern Status topos_get_requirements(
            RuntimeHandle runtime, Source* source, LoadOptions* options, Requirements* requirements,
            Error* error);
        [DllImport(Library, CallingConvention = C)]
        public static extern Status topos_model_load(
            RuntimeHandle runtime, Source* source, LoadOptions* options, out ModelHandle made, Error* error);
        [DllImport(Library, CallingConvention = C)]
        public static extern void topos_model_retain(ModelHandle model);
        [DllImport(Library, CallingConvention = C)]
        public static extern void topos_model_release(IntPtr model);
        [DllImport(Library, CallingConvention = C)]
        public static extern Status topos_model_get_info(ModelHandle model, ModelInfo* info);
        [DllImport(Library, CallingConvention = C)]
        public static extern IntPtr topos_model_preset_name(ModelHandle model, uint preset);
        [DllImport(Library, CallingConvention = C)]
        public static extern IntPtr topos_model_licence(ModelHandle model, uint licence, out IntPtr text);
        [DllImport(Library, CallingConvention = C)]
        public static extern IntPtr topos_model_shape_name(ModelHandle model, uint shape);
        [DllImport(Library, CallingConvention = C)]
        public static extern IntPtr topos_model_joint(ModelHandle model, uint joint, out int parent);
        [DllImport(Library, CallingConvention = C)]
        public static extern IntPtr topos_model_region(
            ModelHandle model, uint region, out int* ids, out uint count);

        [DllImport(Library, CallingConvention = C)]
        public static extern Status topos_submit(
            ModelHandle model, Request* request, out JobHandle made, Error* error);
        [DllImport(Library, CallingConvention = C)]
        public static extern Status topos_job_step(JobHandle job);
        [DllImport(Library, CallingConvention = C)]
        public static extern Status topos_job_poll(JobHandle job, Progress* progress);
        [DllImport(Library, CallingConvention = C)]
        public static extern Status topos_job_wait(JobHandle job, uint milliseconds);
        [DllImport(Library, CallingConvention = C)]
        public static extern void topos_job_cancel(JobHandle job);
        [DllImport(Library, CallingConvention = C)]
        public static extern Status topos_job_get_error(JobHandle job, Error* error);
        // Pointers, not handles: these are asked each frame, mostly in vain, and an object would be garbage.
        [DllImport(Library, CallingConvention = C)]
        public static extern Status topos_job_take_head(JobHandle job, uint item, out IntPtr head);
        [DllImport(Library, CallingConvention = C)]
        public static extern Status topos_job_take_preview(JobHandle job, out IntPtr head, out uint step);
        [DllImport(Library, CallingConvention = C)]
        public static extern IntPtr topos_job_timing(JobHandle job, uint index, out double seconds);
        [DllImport(Library, CallingConvention = C)]
        public static extern void topos_job_release(IntPtr job);
        [DllImport(Library, CallingConvention = C)]
        public static extern Status topos_generate(
            ModelHandle model, Request* request, IntPtr* heads, uint count, Error* error);

        [DllImport(Library, CallingConvention = C)]
        public static extern Status topos_model_counts(ModelHandle model, Layout* layout, MeshCounts* counts);
        // The head may be absent, which a SafeHandle cannot be: ToposRt.cs keeps it while it is in use.
        [DllImport(Library, CallingConvention = C)]
        public static extern Status topos_write_vertices(
            ModelHandle model, IntPtr head, Layout* layout, float* weights, float* rotations, Stream* streams,
            uint count, Error* error);
        [DllImport(Library, CallingConvention = C)]
        public static extern Status topos_write_indices(
            ModelHandle model, Layout* layout, Format format, void* data, ulong capacity, Error* error);

        [DllImport(Library, CallingConvention = C)]
        public static extern Status topos_write_shape_vertices(
            ModelHandle model, Layout* layout, uint shape, uint* ids, ulong capacity, out uint count);
        [DllImport(Library, CallingConvention = C)]
        public static extern Status topos_write_shape(
            HeadHandle head, Layout* layout, uint shape, uint sparse, Stream* positions, Stream* normals,
            Error* error);
        [DllImport(Library, CallingConvention = C)]
        public static extern Status topos_write_joints(
            HeadHandle head, Layout* layout, float* translations, float* inverseBinds, Error* error);

        [DllImport(Library, CallingConvention = C)]
        public static extern Status topos_head_get_info(HeadHandle head, HeadInfo* info);
        [DllImport(Library, CallingConvention = C)]
        public static extern void topos_head_retain(HeadHandle head);
        [DllImport(Library, CallingConvention = C)]
        public static extern void topos_head_release(IntPtr head);
        [DllImport(Library, CallingConvention = C)]
        public static extern Status topos_head_get_face(HeadHandle head, Face* face);
        [DllImport(Library, CallingConvention = C)]
        public static extern Status topos_head_get_expression(
            HeadHandle head, float* weights, ulong capacity);
        [DllImport(Library, CallingConvention = C)]
        public static extern Status topos_head_get_latent(HeadHandle head, float* latent, ulong capacity);
        [DllImport(Library, CallingConvention = C)]
        public static extern Status topos_head_from_positions(
            ModelHandle model, float* positions, float* normals, out HeadHandle made, Error* error);
        [DllImport(Library, CallingConvention = C)]
        public static extern Status topos_head_get_texture(HeadHandle head, TextureInfo* info);
        [DllImport(Library, CallingConvention = C)]
        public static extern Status topos_head_write_texture(HeadHandle head, Texels* texels, Error* error);
        [DllImport(Library, CallingConvention = C)]
        public static extern Status topos_head_write_glb(
            HeadHandle head, uint lod, ExportFlags flags, WriteCallback write, IntPtr user, Error* error);
    }
}
