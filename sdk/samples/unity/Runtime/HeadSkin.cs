// The texture of a head as pictures of Unity, on a material.
using Topos.Native;
using UnityEngine;

namespace Topos.Unity
{
    /// <summary>The skin of one head: its colours and its relief.</summary>
    public sealed class HeadSkin
    {
        public readonly Texture2D Albedo, Normal;

        HeadSkin(Texture2D albedo, Texture2D normal)
        {
            Albedo = albedo;
            Normal = normal;
        }

        /// <summary>Null for a head without a texture.</summary>
        public static HeadSkin Of(ToposHead head)
        {
            TextureInfo info = head.Texture;
            if (info.Texture == TextureKind.None) return null;
            return new HeadSkin(
                Picture(head, Map.Albedo, info.AlbedoSize, false),
                Picture(head, Map.Normal, info.NormalSize, true));
        }

        /// <summary>Shows it on a material of the shaders Standard or Universal Render Pipeline/Lit.</summary>
        public void Show(Material material)
        {
            material.mainTexture = Albedo;
            material.SetTexture("_BumpMap", Normal);
            material.EnableKeyword("_NORMALMAP");
        }

        public void Destroy()
        {
            UnityEngine.Object.Destroy(Albedo);
            UnityEngine.Object.Destroy(Normal);
        }

        // Unity's rows go from the bottom up.
        static Texture2D Picture(ToposHead head, Map map, uint size, bool linear)
        {
            var pixels = new byte[4 * size * size];
            head.WriteTexture(map, PixelFormat.Rgba8, pixels, -4 * (int)size);
            var made = new Texture2D((int)size, (int)size, TextureFormat.RGBA32, true, linear);
            made.SetPixelData(pixels, 0);
            made.Apply(true);
            return made;
        }
    }
}
