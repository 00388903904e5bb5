// A component that makes a head of a picture while the game goes on.
using System;
using System.IO;
using System.Threading.Tasks;
using Topos.Native;
using UnityEngine;

namespace Topos.Unity
{
    /// <summary>Loads on another thread, polls the job each frame, and shows the head as it forms.</summary>
    [RequireComponent(typeof(SkinnedMeshRenderer))]
    public sealed class PortraitHead : MonoBehaviour
    {
        [Tooltip("A picture of one face, with Read/Write enabled in its import settings.")]
        public Texture2D Portrait;
        [Tooltip("The engine pack; without a folder, it lies in StreamingAssets.")]
        public string Pack = "mini.topos";
        [Tooltip("ONNX Runtime's library; empty: the one beside topos_rt.")]
        public string OnnxRuntime = "";
        public int Seed;
        [Tooltip("Shows an estimate after every so many steps; 0: never.")]
        public int PreviewEvery = 1;
        [Tooltip("Texels along a side of the skin: 512, 1024 or 2048; 0: the material stays as it is.")]
        public int TextureSize = 1024;

        /// <summary>Whether the last head is there, with its blendshapes.</summary>
        public bool Done { get; private set; }
        /// <summary>Why the last one is not; null otherwise.</summary>
        public string Failure { get; private set; }
        public event Action<PortraitHead> Finished;

        Task<ToposModel> loading;
        ToposModel model;
        ToposJob job;
        HeadMesh head;
        HeadSkin skin;
        Picture picture;
        bool asked;

        void Start()
        {
            if (Portrait != null) Make(Portrait);
        }

        /// <summary>Starts a head of another picture; one that is on its way is cancelled.</summary>
        public void Make(Texture2D portrait)
        {
            Cancel();
            picture = PictureOf(portrait);
            asked = true;
            Done = false;
            Failure = null;
            if (loading != null) return;
            string pack = Path.Combine(Application.streamingAssetsPath, Pack); // a full path stays as it is
            string onnxRuntime = OnnxRuntime.Length == 0 ? null : OnnxRuntime;
            loading = Task.Run(() => Load(pack, onnxRuntime));
        }

        public void Cancel()
        {
            asked = false;
            if (job != null) job.Dispose();
            job = null;
        }

        /// <summary>Sets a blendshape of ARKit's, such as "jawOpen", from 0 to 1.</summary>
        public void SetShape(string name, float weight)
        {
            var renderer = GetComponent<SkinnedMeshRenderer>();
            int shape = renderer.sharedMesh == null ? -1 : renderer.sharedMesh.GetBlendShapeIndex(name);
            if (shape >= 0) renderer.SetBlendShapeWeight(shape, 100f * weight);
        }

        void Update()
        {
            try
            {
                Advance();
            }
            catch (Exception failure) when (failure is ToposException || failure is DllNotFoundException)
            {
                Failure = failure.Message;
                Debug.LogError(Failure, this);
                if (model == null) loading = null; // the next call of Make loads again
                Cancel();
            }
        }

        // One frame's worth: none of this waits.
        void Advance()
        {
            if (model == null)
            {
                if (loading == null || !loading.IsCompleted) return;
                model = loading.GetAwaiter().GetResult();
                head = new HeadMesh(model, GetComponent<SkinnedMeshRenderer>());
            }
            if (asked)
            {
                asked = false;
                head.ClearRig();
                TextureKind texture = TextureSize > 0 ? TextureKind.Auto : TextureKind.None;
                job = model.Submit(
                    picture, (ulong)Seed, (uint)PreviewEvery, 0, texture, (uint)TextureSize);
            }
            if (job == null) return;
            uint step;
            bool done = job.Poll();
            using (ToposHead made = done ? job.TakeHead() : job.TakePreview(out step))
            {
                if (made != null) head.Show(made);
                if (!done) return;
                head.AddRig(made);
                Dress(made);
            }
            job.Dispose();
            job = null;
            Done = true;
            if (Finished != null) Finished(this);
        }

        void Dress(ToposHead made)
        {
            HeadSkin last = skin;
            skin = HeadSkin.Of(made);
            if (skin != null) skin.Show(GetComponent<SkinnedMeshRenderer>().material); // of this head alone
            if (last != null) last.Destroy();
        }

        void OnDestroy()
        {
            Cancel();
            if (skin != null) skin.Destroy();
            if (head != null) Destroy(head.Mesh);
            if (model != null) model.Dispose();
            else if (loading != null) loading.ContinueWith(late => late.Result.Dispose(),
                TaskContinuationOptions.OnlyOnRanToCompletion);
        }

        static ToposModel Load(string pack, string onnxRuntime)
        {
            // A model keeps its runtime.
            using (var runtime = new ToposRuntime(onnxRuntime))
            {
                return new ToposModel(runtime, pack, LoadFlags.WarmUp);
            }
        }

        static Picture PictureOf(Texture2D texture)
        {
            Color32[] pixels = texture.GetPixels32(); // rows from the bottom up, which a negative stride says
            var data = new byte[4 * pixels.Length];
            for (int k = 0; k < pixels.Length; ++k)
            {
                data[4 * k] = pixels[k].r;
                data[4 * k + 1] = pixels[k].g;
                data[4 * k + 2] = pixels[k].b;
                data[4 * k + 3] = pixels[k].a;
            }
            return new Picture
            {
                Format = PixelFormat.Rgba8, Data = data, RowStride = -4 * texture.width,
                Width = (uint)texture.width, Height = (uint)texture.height
            };
        }
    }
}
